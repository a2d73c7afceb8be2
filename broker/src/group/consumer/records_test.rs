//! Against bytes that Kafka 4.3.0's own classes wrote (`testdata/Fixtures.java`).

use super::super::super::records::{Key as AnyKey, fixtures};
use super::*;

const GROUP_ID: &str = "grüppe";

fn topic() -> uuid::Uuid {
    uuid::Uuid::from_u128((5 << 64) | 6)
}

fn assignment(partitions: &[i32]) -> Arc<Assignment> {
    Arc::new(Assignment::from([(topic(), partitions.iter().copied().collect())]))
}

fn texts(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn member() -> Subscription {
    Subscription {
        instance_id: Some("instance-1".to_owned()),
        rack_id: Some("rack-1".to_owned()),
        client_id: "client".to_owned(),
        client_host: "/10.0.0.1".to_owned(),
        topics: texts(&["flights", "ticks"]),
        pattern: Some("fl.*".to_owned()),
        rebalance_timeout_ms: 300_000,
        assignor: Some("range".to_owned()),
        classic: None,
    }
}

fn plain() -> Subscription {
    Subscription {
        instance_id: None,
        rack_id: None,
        client_host: "/10.0.0.2".to_owned(),
        topics: texts(&["flights"]),
        pattern: None,
        rebalance_timeout_ms: 60_000,
        assignor: None,
        ..member()
    }
}

fn classic() -> Subscription {
    let metadata = Bytes::from_static(&[0, 1, 2, 3]);
    let protocols = vec![Protocol { name: "range".to_owned(), metadata }];
    Subscription {
        client_host: "/10.0.0.3".to_owned(),
        classic: Some(Classic { session_timeout_ms: 45_000, protocols }),
        ..plain()
    }
}

fn current() -> Current {
    Current {
        epoch: 7,
        previous_epoch: 6,
        state: MemberState::UnrevokedPartitions,
        assigned: assignment(&[0, 300]),
        revoking: assignment(&[1]),
        since: Arc::new(Since::from([((topic(), 0), 7), ((topic(), 300), 6), ((topic(), 1), 5)])),
    }
}

fn cases() -> Vec<(&'static str, Record)> {
    let hashed = Epoch { epoch: 7, metadata_hash: 0x0123_4567_89ab_cdef };
    let named = |id: &str| id.to_owned();
    let empty = Current {
        state: MemberState::Stable,
        assigned: Arc::default(),
        revoking: Arc::default(),
        since: Arc::default(),
        ..current()
    };
    let matched =
        Matched { topics: texts(&["flights"]), version: 12, timestamp_ms: 1_700_000_000_000 };
    vec![
        ("consumer-group", Record::Group(Some(hashed))),
        ("consumer-group-hashless", Record::Group(Some(Epoch { metadata_hash: 0, ..hashed }))),
        ("consumer-member-1", Record::Member(named("member-1"), Some(Arc::new(member())))),
        ("consumer-member-2", Record::Member(named("member-2"), Some(Arc::new(plain())))),
        ("consumer-member-3", Record::Member(named("member-3"), Some(Arc::new(classic())))),
        ("consumer-target-epoch", Record::TargetEpoch(Some(7))),
        ("consumer-target", Record::Target(named("member-1"), Some(assignment(&[0, 300])))),
        ("consumer-current-4.3", Record::Current(named("member-1"), Some(Arc::new(current())))),
        ("consumer-current-empty", Record::Current(named("member-2"), Some(Arc::new(empty)))),
        ("consumer-pattern", Record::Pattern(named("fl.*"), Some(Arc::new(matched)))),
    ]
}

fn part_of(key: &Bytes) -> Part {
    match AnyKey::parse(key) {
        Ok(AnyKey::Consumer(Key { group, part })) if group == GROUP_ID => part,
        other => panic!("{other:?}"),
    }
}

#[test]
fn records_are_the_bytes_that_kafka_writes_and_come_back_from_them() {
    let fixtures = fixtures();
    for (name, record) in cases() {
        let (key, value) = encode(GROUP_ID, &record);
        let expected = format!("{name}-value");
        assert_eq!(value.as_ref(), Some(&fixtures[expected.as_str()]), "{name}");
        if let Some(expected) = fixtures.get(format!("{name}-key").as_str()) {
            assert_eq!(key, *expected, "{name}");
        }
        let parsed = parse(part_of(&key), &value.expect("no tombstone here"));
        assert_eq!(parsed, Ok(Some(record)), "{name}");
    }
}

#[test]
fn what_kafka_4_3_adds_may_be_absent_and_what_it_no_longer_writes_means_nothing() {
    let fixtures = fixtures();
    let value = |name: &str| fixtures[format!("{name}-value").as_str()].clone();
    let read = parse(Part::TargetEpoch, &value("consumer-target-epoch-4.3"));
    assert_eq!(read, Ok(Some(Record::TargetEpoch(Some(7)))));
    let id = "member-1".to_owned();
    // Without epochs, the partitions are the member's since its own.
    let since = [0, 300, 1].map(|partition| ((topic(), partition), 7));
    let current = Current { since: Arc::new(Since::from(since)), ..current() };
    let read = parse(Part::Current(id.clone()), &value("consumer-current"));
    assert_eq!(read, Ok(Some(Record::Current(id, Some(Arc::new(current))))));
    let part = part_of(&fixtures["consumer-partition-metadata-key"]);
    assert_eq!(parse(part, &value("consumer-partition-metadata")), Ok(None));
}

#[test]
fn a_tombstone_has_the_key_of_what_it_takes_away() {
    for (name, record) in cases() {
        let (key, _) = encode(GROUP_ID, &record);
        let gone = match record {
            Record::Group(_) => Record::Group(None),
            Record::Member(id, _) => Record::Member(id, None),
            Record::TargetEpoch(_) => Record::TargetEpoch(None),
            Record::Target(id, _) => Record::Target(id, None),
            Record::Current(id, _) => Record::Current(id, None),
            Record::Pattern(pattern, _) => Record::Pattern(pattern, None),
        };
        assert_eq!(encode(GROUP_ID, &gone), (key, None), "{name}");
    }
}

#[test]
fn a_cut_record_is_an_error_at_every_length_and_never_a_panic() {
    for (name, record) in cases() {
        let (key, value) = encode(GROUP_ID, &record);
        for length in 0..key.len() {
            assert!(AnyKey::parse(&key.slice(..length)).is_err(), "{name} key cut to {length}");
        }
        let (part, value) = (part_of(&key), value.expect("no tombstone here"));
        for length in 0..value.len() {
            let cut = parse(part.clone(), &value.slice(..length));
            assert!(cut.is_err(), "{name} cut to {length} bytes");
        }
    }
}
