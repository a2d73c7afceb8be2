//! Expected assignments are worked out by hand from Kafka's rules, which stand beside each case;
//! the properties hold for any group.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn topic(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

#[derive(Debug)]
struct Case {
    members: Vec<(String, Option<String>, BTreeSet<Uuid>)>,
    partitions: BTreeMap<Uuid, i32>,
    targets: BTreeMap<String, Assignment>,
}

impl Case {
    /// Members as `id:12`, which read the topics 1 and 2; or `id/instance:1`.
    fn new(members: &[&str], partitions: &[i32]) -> Self {
        let members = members.iter().map(|text| {
            let (name, topics) = text.split_once(':').expect("name:topics");
            let (id, instance_id) = match name.split_once('/') {
                Some((id, instance_id)) => (id, Some(instance_id.to_owned())),
                None => (name, None),
            };
            let topics = topics.chars().filter_map(|c| c.to_digit(10));
            (id.to_owned(), instance_id, topics.map(|it| topic(it.into())).collect())
        });
        let partitions = (1..).map(topic).zip(partitions.iter().copied());
        let partitions = partitions.collect();
        Self { members: members.collect(), partitions, targets: BTreeMap::new() }
    }

    fn assign(&mut self, assignor: Assignor) -> Vec<String> {
        let candidates: Vec<Candidate<'_>> = self
            .members
            .iter()
            .map(|(id, instance_id, topics)| Candidate {
                id,
                instance_id: instance_id.as_deref(),
                topics: topics.clone(),
                target: Arc::new(self.targets.get(id).cloned().unwrap_or_default()),
            })
            .collect();
        let assigned = assign(assignor, &candidates, &self.partitions);
        self.targets = assigned;
        self.shown()
    }

    /// `a: 1-0 1-1 2-0`
    fn shown(&self) -> Vec<String> {
        let lines = self.targets.iter().map(|(id, assignment)| {
            let places = assignment.iter().flat_map(|(topic, partitions)| {
                partitions.iter().map(move |it| format!(" {}-{it}", topic.as_u128()))
            });
            format!("{id}:{}", places.collect::<String>())
        });
        lines.collect()
    }
}

#[test]
fn range_divides_each_topic_in_the_order_of_members() {
    // 3 partitions for 2 members: 2 and 1, in both topics, so that they stay together.
    let mut case = Case::new(&["a:12", "b:12"], &[3, 3]);
    assert_eq!(case.assign(Assignor::Range), ["a: 1-0 1-1 2-0 2-1", "b: 1-2 2-2"]);
    // Another order of ids changes who is first; a static member is first by its instance id.
    let mut case = Case::new(&["a:12", "b/i:12"], &[3, 3]);
    assert_eq!(case.assign(Assignor::Range), ["a: 1-2 2-2", "b: 1-0 1-1 2-0 2-1"]);
    // Only b and c read topic 2: 3 partitions are 2 and 1. Topic 1: 4 are 2, 1 and 1.
    let mut case = Case::new(&["a:1", "b:12", "c:12"], &[4, 3]);
    assert_eq!(case.assign(Assignor::Range), ["a: 1-0 1-1", "b: 1-2 2-0 2-1", "c: 1-3 2-2"]);
    // More members than partitions: the last one gets nothing.
    let mut case = Case::new(&["a:1", "b:1", "c:1"], &[2]);
    assert_eq!(case.assign(Assignor::Range), ["a: 1-0", "b: 1-1", "c:"]);
}

#[test]
fn uniform_moves_no_more_than_balance_asks_for() {
    let mut case = Case::new(&["a:1"], &[5]);
    assert_eq!(case.assign(Assignor::Uniform), ["a: 1-0 1-1 1-2 1-3 1-4"]);
    // 5 for 2 members: 3 and 2; a keeps its first three.
    case.members.push(("b".to_owned(), None, [topic(1)].into()));
    assert_eq!(case.assign(Assignor::Uniform), ["a: 1-0 1-1 1-2", "b: 1-3 1-4"]);
    // 5 for 3: 2, 2 and 1; only one partition moves.
    case.members.push(("c".to_owned(), None, [topic(1)].into()));
    assert_eq!(case.assign(Assignor::Uniform), ["a: 1-0 1-1", "b: 1-3 1-4", "c: 1-2"]);
    // b goes: its two are divided, a has two already and may have one more.
    case.members.remove(1);
    case.targets.remove("b");
    assert_eq!(case.assign(Assignor::Uniform), ["a: 1-0 1-1 1-3", "c: 1-2 1-4"]);
    // The topic grows by one: c has less.
    case.partitions.insert(topic(1), 6);
    assert_eq!(case.assign(Assignor::Uniform), ["a: 1-0 1-1 1-3", "c: 1-2 1-4 1-5"]);
}

#[test]
fn uniform_balances_members_that_read_different_topics() {
    // Topic 2 has 3 partitions for one reader, so it is given out first: b has 3. Topic 1 has two
    // readers; its 3 partitions go to a, who has less.
    let mut case = Case::new(&["a:1", "b:12"], &[3, 3]);
    assert_eq!(case.assign(Assignor::Uniform), ["a: 1-0 1-1 1-2", "b: 2-0 2-1 2-2"]);
    // a no longer reads anything: b has to take all.
    case.members[0].2.clear();
    assert_eq!(case.assign(Assignor::Uniform), ["a:", "b: 1-0 1-1 1-2 2-0 2-1 2-2"]);
    // And gives back what balances: the last ones of topic 1, until 3 and 3.
    case.members[0].2 = [topic(1)].into();
    assert_eq!(case.assign(Assignor::Uniform), ["a: 1-0 1-1 1-2", "b: 2-0 2-1 2-2"]);
}

fn case() -> impl Strategy<Value = Case> {
    let member = prop::collection::btree_set(1..5_u128, 0..5);
    let members = prop::collection::vec(member, 1..7);
    let partitions = prop::collection::vec(0..7_i32, 4);
    (members, partitions).prop_map(|(members, partitions)| Case {
        members: members
            .into_iter()
            .enumerate()
            .map(|(at, topics)| (format!("m{at}"), None, topics.into_iter().map(topic).collect()))
            .collect(),
        partitions: (1..).map(topic).zip(partitions).collect(),
        targets: BTreeMap::new(),
    })
}

/// Every partition that somebody reads belongs to one of its readers, and to no other.
fn assert_complete(case: &Case) {
    for (topic, count) in &case.partitions {
        let readers = case.members.iter().filter(|(_, _, topics)| topics.contains(topic));
        let readers: Vec<&String> = readers.map(|(id, _, _)| id).collect();
        for partition in 0..*count {
            let has =
                |id: &String| case.targets[id].get(topic).is_some_and(|it| it.contains(&partition));
            let owners = case.targets.keys().filter(|id| has(id)).collect::<Vec<_>>();
            assert_eq!(owners.len(), usize::from(!readers.is_empty()), "{topic} {partition}");
            assert!(owners.iter().all(|owner| readers.contains(owner)));
        }
    }
    let held = case.targets.values().flat_map(|it| it.iter());
    for (topic, partitions) in held {
        let count = case.partitions.get(topic).copied().unwrap_or(0);
        assert!(!partitions.is_empty() && partitions.iter().all(|it| (0..count).contains(it)));
    }
}

fn sizes(case: &Case) -> Vec<usize> {
    case.targets.values().map(|it| it.values().map(BTreeSet::len).sum()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_partition_has_one_reader(mut one in case(), other in case(), range in any::<bool>()) {
        let assignor = if range { Assignor::Range } else { Assignor::Uniform };
        one.assign(assignor);
        assert_complete(&one);
        // Once more: nobody changed, nothing moves.
        let before = one.shown();
        prop_assert_eq!(one.assign(assignor), before);
        // Others come, go, and read something else.
        one.members = other.members;
        one.partitions = other.partitions;
        one.targets.retain(|id, _| one.members.iter().any(|(known, _, _)| known == id));
        one.assign(assignor);
        assert_complete(&one);
    }

    #[test]
    fn members_that_read_the_same_have_as_much(mut one in case(), leaves in 0..6_usize) {
        let same = one.members[0].2.clone();
        one.members.iter_mut().for_each(|member| member.2 = same.clone());
        one.assign(Assignor::Uniform);
        let of = sizes(&one);
        prop_assert!(of.iter().max().unwrap_or(&0) - of.iter().min().unwrap_or(&0) <= 1);
        if one.members.len() > 1 {
            let (gone, _, _) = one.members.remove(leaves % one.members.len());
            let kept = one.targets.clone();
            one.targets.remove(&gone);
            one.assign(Assignor::Uniform);
            // Who stays gives nothing away: there is only more to have.
            for (id, _, _) in &one.members {
                for (topic, partitions) in &kept[id] {
                    prop_assert!(partitions.is_subset(&one.targets[id][topic]), "{}", id);
                }
            }
        }
    }
}
