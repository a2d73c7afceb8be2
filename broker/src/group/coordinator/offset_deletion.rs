//! OffsetDelete, and the question whether a caller may see a group's offsets.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::super::machine;
use super::kinds::Kind;
use super::offsets::wait_for;
use super::writes::Doomed;
use super::{GroupCoordinator, Place};

impl GroupCoordinator {
    /// Deletes single offsets; durable when it returns `Ok`, with one result for each place. That
    /// of a topic which somebody in the group reads is GROUP_SUBSCRIBED_TO_TOPIC.
    pub(crate) async fn delete_offsets(
        self: &Arc<Self>,
        group: &str,
        places: &[Place],
    ) -> Result<Vec<Result<(), ResponseError>>, ResponseError> {
        let mut results = Vec::with_capacity(places.len());
        let done = {
            let mut state = self.lock();
            if state.closed {
                return Err(ResponseError::CoordinatorNotAvailable);
            }
            let slot = state.groups.get_mut(group).ok_or(ResponseError::GroupIdNotFound)?;
            slot.kind.admit_offset_deletion()?;
            let mut read: HashMap<&str, bool> = HashMap::new();
            let mut doomed = BTreeSet::new();
            for place in places {
                let topic = place.0.as_str();
                if *read.entry(topic).or_insert_with(|| slot.kind.reads(topic)) {
                    results.push(Err(ResponseError::GroupSubscribedToTopic));
                } else {
                    results.push(Ok(()));
                    doomed.insert(place.clone());
                }
            }
            let doomed: Doomed = Box::new(move |place, _| doomed.contains(place));
            self.drop_later(group, slot, doomed)
        };
        wait_for(done).await.map_err(machine::to_group_error)?;
        Ok(results)
    }

    /// Who says since OffsetFetch 9 which member it is must be one, in its present epoch. Classic
    /// groups do not ask, and a group that does not exist has no offsets.
    pub(crate) fn admit_fetch(
        &self,
        group: &str,
        member_id: Option<&str>,
        member_epoch: i32,
    ) -> Result<(), ResponseError> {
        match self.lock().groups.get(group).map(|slot| &slot.kind) {
            Some(Kind::Consumer(machine)) => machine.admit_fetch(member_id, member_epoch),
            _ => Ok(()),
        }
    }
}
