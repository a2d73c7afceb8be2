//! One member's way from what it reads to what it is to read.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::exchange::Assignment;
use super::Step;
use super::image::{Current, MemberState, Record};

impl Step<'_> {
    /// Takes the member as far as it can go now. `owned`: what it says it still reads; `None` if it
    /// does not say.
    pub(super) fn reconcile(&mut self, id: &str, owned: Option<&Assignment>) -> Arc<Current> {
        let before = self.group.image.current(id);
        if before.is_at(self.group.image.target_epoch()) {
            return before;
        }
        let waits_for_member =
            before.state == MemberState::UnrevokedPartitions && still_owns(owned, &before.revoking);
        if waits_for_member {
            return before;
        }
        let after = Arc::new(self.next(id, &before, owned));
        if *after != *before {
            self.put(Record::Current(id.to_owned(), Some(Arc::clone(&after))));
            self.follow_rebalance(id, &after);
        }
        after
    }

    fn next(&self, id: &str, before: &Current, owned: Option<&Assignment>) -> Current {
        let target = self.group.image.target(id);
        let mut kept = Assignment::new();
        let mut revoking = Assignment::new();
        let mut added = Assignment::new();
        let mut waits_for_others = false;
        let topics: BTreeSet<_> = target.keys().chain(before.assigned.keys()).collect();
        let none = BTreeSet::new();
        for topic in topics {
            let wanted = target.get(topic).unwrap_or(&none);
            let has = before.assigned.get(topic).unwrap_or(&none);
            put(&mut kept, *topic, has & wanted);
            put(&mut revoking, *topic, has - wanted);
            let mut new = wanted - has;
            // Held by another member, or by this one, which has not given it back yet.
            let is_held = |it: &i32| self.group.image.owner(*topic, *it).is_some();
            let count = new.len();
            new.retain(|partition| !is_held(partition));
            waits_for_others |= new.len() < count;
            put(&mut added, *topic, new);
        }
        if !revoking.is_empty() && still_owns(owned, &revoking) {
            // It stays in its epoch until it says that it gave them back.
            return Current {
                state: MemberState::UnrevokedPartitions,
                since: before.since_of([&kept, &revoking], before.epoch),
                assigned: Arc::new(kept),
                revoking: Arc::new(revoking),
                ..before.clone()
            };
        }
        let epoch = self.group.image.target_epoch();
        // As long as the epoch stays, so does the one before it: the reply that told this epoch may
        // be lost twice. (Kafka forgets it at the second reply.)
        let previous_epoch =
            if epoch == before.epoch { before.previous_epoch } else { before.epoch };
        for (topic, partitions) in added {
            kept.entry(topic).or_default().extend(partitions);
        }
        Current {
            epoch,
            previous_epoch,
            state: match waits_for_others {
                true => MemberState::UnreleasedPartitions,
                false => MemberState::Stable,
            },
            since: before.since_of([&kept, &Assignment::new()], epoch),
            assigned: Arc::new(kept),
            revoking: Arc::default(),
        }
    }
}

fn put(assignment: &mut Assignment, topic: uuid::Uuid, partitions: BTreeSet<i32>) {
    if !partitions.is_empty() {
        assignment.insert(topic, partitions);
    }
}

/// A member that does not say what it owns owns all of it.
fn still_owns(owned: Option<&Assignment>, revoking: &Assignment) -> bool {
    owned.is_none_or(|owned| {
        revoking.iter().any(|(topic, partitions)| {
            owned.get(topic).is_some_and(|owned| !owned.is_disjoint(partitions))
        })
    })
}
