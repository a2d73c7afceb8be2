//! Kafka's assignor `simple`: every partition has a reader, and every member something to read;
//! where there are more members than partitions, several share one.
//!
//! Balance comes first, then that members keep what they have. If all members want the same topics,
//! partitions of all topics are dealt together; else topic by topic, as in Kafka.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::records::Assignment;

type Place = (Uuid, i32);

/// What one member wants and has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reader {
    pub topics: BTreeSet<Uuid>,
    pub has: Assignment,
}

/// `partitions`: how many each topic has. Topics without an entry are nobody's.
pub(crate) fn assign(
    readers: &BTreeMap<String, Reader>,
    partitions: &BTreeMap<Uuid, i32>,
) -> BTreeMap<String, Assignment> {
    let mut dealt: BTreeMap<String, BTreeSet<Place>> =
        readers.keys().map(|member| (member.clone(), BTreeSet::new())).collect();
    let wanted: BTreeSet<Uuid> = readers.values().flat_map(|r| r.topics.iter().copied()).collect();
    let wanted = wanted.into_iter().filter(|topic| partitions.contains_key(topic));
    let mut topics = readers.values().map(|reader| &reader.topics);
    let first = topics.next();
    let alike = topics.all(|topics| Some(topics) == first);
    let pools: Vec<Vec<Uuid>> = match alike {
        true => vec![wanted.collect()],
        false => wanted.map(|topic| vec![topic]).collect(),
    };
    for pool in pools {
        let places = pool.iter().flat_map(|topic| (0..partitions[topic]).map(|p| (*topic, p)));
        let places: Vec<Place> = places.collect();
        let wants = |reader: &Reader| pool.iter().any(|topic| reader.topics.contains(topic));
        let members: Vec<(&String, &Reader)> =
            readers.iter().filter(|(_, reader)| wants(reader)).collect();
        for (member, places) in deal(&members, &places) {
            dealt.entry(member).or_default().extend(places);
        }
    }
    let members = dealt.into_iter();
    members.map(|(member, places)| (member, by_topic(places))).collect()
}

fn by_topic(places: BTreeSet<Place>) -> Assignment {
    let mut assignment = Assignment::new();
    for (topic, partition) in places {
        assignment.entry(topic).or_default().insert(partition);
    }
    assignment
}

/// Deals partitions to members that all want all of them.
fn deal(members: &[(&String, &Reader)], places: &[Place]) -> Vec<(String, BTreeSet<Place>)> {
    if members.is_empty() || places.is_empty() {
        return Vec::new();
    }
    // So many members to a partition; so many partitions to each member, the remainder spread.
    let sharing = members.len().div_ceil(places.len());
    let seats = sharing * places.len();
    let due = |member: usize| {
        (seats * (member + 1)).div_ceil(members.len()) - (seats * member).div_ceil(members.len())
    };
    let mut taken: BTreeMap<Place, usize> = places.iter().map(|place| (*place, 0)).collect();
    let mut dealt: Vec<BTreeSet<Place>> = vec![BTreeSet::new(); members.len()];
    for (index, (_, reader)) in members.iter().enumerate() {
        let has = reader.has.iter().flat_map(|(topic, ps)| ps.iter().map(|p| (*topic, *p)));
        for place in has {
            if let Some(readers) = taken.get_mut(&place)
                && *readers < sharing
                && dealt[index].len() < due(index)
            {
                *readers += 1;
                dealt[index].insert(place);
            }
        }
    }
    // The least read partition goes to the member, so that none is left without a reader.
    let mut by_readers: BTreeSet<(usize, Place)> =
        taken.into_iter().map(|(place, readers)| (readers, place)).collect();
    for (index, dealt) in dealt.iter_mut().enumerate() {
        while dealt.len() < due(index) {
            let free = by_readers.iter().find(|(_, place)| !dealt.contains(place)).copied();
            let Some((readers, place)) = free else { break };
            by_readers.remove(&(readers, place));
            by_readers.insert((readers + 1, place));
            dealt.insert(place);
        }
    }
    members.iter().map(|(member, _)| (*member).clone()).zip(dealt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(id: u128) -> Uuid {
        Uuid::from_u128(id)
    }

    fn readers(count: usize, topics: &[u128]) -> BTreeMap<String, Reader> {
        let topics: BTreeSet<Uuid> = topics.iter().map(|id| topic(*id)).collect();
        let one =
            |index| (format!("m{index}"), Reader { topics: topics.clone(), ..Reader::default() });
        (0..count).map(one).collect()
    }

    fn count(assignment: &Assignment) -> usize {
        assignment.values().map(BTreeSet::len).sum()
    }

    fn read_by(assigned: &BTreeMap<String, Assignment>, topic: Uuid, partition: i32) -> usize {
        let reads = |a: &&Assignment| a.get(&topic).is_some_and(|ps| ps.contains(&partition));
        assigned.values().filter(reads).count()
    }

    /// Every combination: each partition has a reader, each member a partition, and no two members
    /// differ by more than one (Kafka's statement of its own principles).
    #[test]
    fn partitions_are_spread_evenly_and_shared_where_members_are_many() {
        for members in 1..12 {
            for partitions in 1..12 {
                let sizes = BTreeMap::from([(topic(1), partitions)]);
                let assigned = assign(&readers(members, &[1]), &sizes);
                let counts: Vec<usize> = assigned.values().map(count).collect();
                let (min, max) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
                assert!(*min >= 1 && max - min <= 1, "{members} on {partitions}: {counts:?}");
                for partition in 0..partitions {
                    let readers = read_by(&assigned, topic(1), partition);
                    assert!(readers >= 1, "{members} on {partitions}: nobody reads {partition}");
                }
            }
        }
    }

    #[test]
    fn members_keep_what_they_have_when_another_one_comes() {
        let sizes = BTreeMap::from([(topic(1), 6)]);
        let before = assign(&readers(2, &[1]), &sizes);
        let mut readers = readers(3, &[1]);
        for (member, assignment) in &before {
            readers.get_mut(member).unwrap().has = assignment.clone();
        }
        let after = assign(&readers, &sizes);
        for (member, assignment) in &before {
            let kept = after[member][&topic(1)].intersection(&assignment[&topic(1)]).count();
            assert_eq!(kept, 2, "{member} keeps two of its three");
        }
        assert_eq!(count(&after["m2"]), 2);
    }

    #[test]
    fn members_with_different_topics_get_partitions_of_their_own_topics_only() {
        let mut readers = readers(1, &[1]);
        let both = [topic(1), topic(2)].into_iter().collect();
        readers.insert("n".to_owned(), Reader { topics: both, ..Reader::default() });
        let assigned = assign(&readers, &BTreeMap::from([(topic(1), 2), (topic(2), 2)]));
        assert_eq!(assigned["m0"].keys().collect::<Vec<_>>(), [&topic(1)]);
        assert_eq!(assigned["n"][&topic(2)].len(), 2, "its only reader reads all of it");
        assert_eq!(read_by(&assigned, topic(1), 0) + read_by(&assigned, topic(1), 1), 2);
    }

    #[test]
    fn a_topic_that_does_not_exist_is_nobodys() {
        assert!(assign(&readers(1, &[9]), &BTreeMap::new())["m0"].is_empty());
        assert!(assign(&BTreeMap::new(), &BTreeMap::new()).is_empty());
    }
}
