//! Against bytes that Kafka 4.3.0's own classes wrote (`testdata/Fixtures.java`).

use std::collections::HashMap;

use super::*;

pub(crate) fn fixtures() -> HashMap<&'static str, Bytes> {
    include_str!("testdata/records.txt")
        .lines()
        .map(|line| {
            let (name, hex) = line.split_once(' ').expect("a name and hex");
            let bytes: Vec<u8> = (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
                .collect();
            (name, Bytes::from(bytes))
        })
        .collect()
}

fn committed() -> CommittedOffset {
    CommittedOffset {
        offset: 1_234_567_890_123,
        leader_epoch: Some(7),
        metadata: "naïve note".to_owned(),
        commit_timestamp_ms: 1_700_000_000_000,
        expire_timestamp_ms: None,
    }
}

fn group() -> GroupMetadata {
    let member = MemberMetadata {
        member_id: "client-1".to_owned(),
        instance_id: None,
        client_id: "client".to_owned(),
        client_host: "/10.0.0.1".to_owned(),
        rebalance_timeout_ms: 300_000,
        session_timeout_ms: 45_000,
        subscription: Bytes::from_static(&[0, 1, 2, 3]),
        assignment: Bytes::from_static(&[9, 8]),
    };
    GroupMetadata {
        protocol_type: "consumer".to_owned(),
        generation: 42,
        protocol: Some("range".to_owned()),
        leader: Some("client-1".to_owned()),
        state_timestamp_ms: Some(1_700_000_000_123),
        members: vec![
            member.clone(),
            MemberMetadata {
                member_id: "static-2".to_owned(),
                instance_id: Some("instance-2".to_owned()),
                client_host: "/10.0.0.2".to_owned(),
                rebalance_timeout_ms: 60_000,
                session_timeout_ms: 10_000,
                subscription: Bytes::new(),
                assignment: Bytes::new(),
                ..member
            },
        ],
    }
}

#[test]
fn keys_are_the_bytes_that_kafka_writes_and_older_ones_are_read() {
    let fixtures = fixtures();
    let offset =
        Key::Offset { group: "grüppe".to_owned(), topic: "flights".to_owned(), partition: 11 };
    assert_eq!(offset.to_bytes(), fixtures["offset-key-1"]);
    assert_eq!(Key::parse(&fixtures["offset-key-1"]), Ok(offset.clone()));
    assert_eq!(Key::parse(&fixtures["offset-key-0"]), Ok(offset));
    let group = Key::Group { group: "grüppe".to_owned() };
    assert_eq!(group.to_bytes(), fixtures["group-key-2"]);
    assert_eq!(Key::parse(&fixtures["group-key-2"]), Ok(group));
    let of_share_groups = Bytes::from_static(&[0, 11, 0, 1, b'g']);
    assert_eq!(Key::parse(&of_share_groups), Err(RecordError::UnknownVersion(11)));
}

#[test]
fn offsets_are_the_bytes_that_kafka_writes_and_all_versions_are_read() {
    let fixtures = fixtures();
    assert_eq!(offset_value(&committed()), fixtures["offset-value-3"]);
    let expiring = CommittedOffset { expire_timestamp_ms: Some(1_700_000_099_999), ..committed() };
    assert_eq!(offset_value(&expiring), fixtures["offset-value-1"]);
    assert_eq!(offset_value(&expiring), fixtures["kafka-writes-expiring-offset"]);

    let without_epoch = CommittedOffset { leader_epoch: None, ..committed() };
    let cases = [
        ("offset-value-0", without_epoch.clone()),
        ("offset-value-1", CommittedOffset { leader_epoch: None, ..expiring }),
        ("offset-value-2", without_epoch),
        ("offset-value-3", committed()),
        ("offset-value-4", committed()),
        ("offset-value-4-with-topic-id", committed()),
        ("kafka-writes-offset", committed()),
    ];
    for (name, expected) in cases {
        assert_eq!(parse_offset_value(&fixtures[name]), Ok(expected), "{name}");
    }
}

#[test]
fn groups_are_the_bytes_that_kafka_writes_and_all_versions_are_read() {
    let fixtures = fixtures();
    assert_eq!(group_value(&group()), fixtures["group-value-3"]);
    let empty = GroupMetadata {
        protocol_type: String::new(),
        generation: 0,
        protocol: None,
        leader: None,
        members: Vec::new(),
        ..group()
    };
    assert_eq!(group_value(&empty), fixtures["group-value-3-empty"]);
    assert_eq!(parse_group_value(&fixtures["group-value-3-empty"]), Ok(empty));

    for version in 0..=4 {
        let mut expected = group();
        if version < 3 {
            expected.members[1].instance_id = None;
        }
        if version < 2 {
            expected.state_timestamp_ms = None;
        }
        if version < 1 {
            for member in &mut expected.members {
                member.rebalance_timeout_ms = member.session_timeout_ms;
            }
        }
        let name = format!("group-value-{version}");
        assert_eq!(parse_group_value(&fixtures[name.as_str()]), Ok(expected), "{name}");
    }
}

#[test]
fn a_cut_record_is_an_error_at_every_length_and_never_a_panic() {
    // Those of consumer groups have a test of their own.
    let ours = |name: &str| {
        !["consumer-", "subscription-", "assignment-"].iter().any(|it| name.starts_with(it))
    };
    for (name, bytes) in fixtures().into_iter().filter(|(name, _)| ours(name)) {
        for length in 0..bytes.len() {
            let cut = bytes.slice(..length);
            let refused = match name {
                name if name.contains("key") => Key::parse(&cut).is_err(),
                name if name.starts_with("group") => parse_group_value(&cut).is_err(),
                _ => parse_offset_value(&cut).is_err(),
            };
            assert!(refused, "{name} cut to {length} bytes");
        }
    }
}

#[test]
fn a_text_too_long_for_the_format_is_cut_at_a_character() {
    let long = CommittedOffset { metadata: "ü".repeat(20_000), ..committed() };
    let read = parse_offset_value(&offset_value(&long)).expect("our own bytes");
    assert_eq!(read.metadata, "ü".repeat(16_383));
}

#[test]
fn subscribed_topics_are_read_from_any_version_of_the_consumer_protocol() {
    let subscription =
        Bytes::from_static(b"\x00\x03\x00\x00\x00\x02\x00\x01a\x00\x02bc\xff\xff\xff\xff");
    assert_eq!(subscribed_topics(&subscription), Some(vec!["a".to_owned(), "bc".to_owned()]),);
    for foreign in [&b""[..], b"\xff\xff\x00\x00\x00\x00", b"\x00\x00\x7f\xff\xff\xff\x00"] {
        assert_eq!(subscribed_topics(&Bytes::from_static(foreign)), None);
    }
}
