//! Against bytes that Kafka 4.3.0's own classes wrote (`testdata/Fixtures.java`).

use super::super::super::records::fixtures;
use super::*;

fn by_name() -> ByName {
    ByName::from([("flights".to_owned(), BTreeSet::from([0, 300]))])
}

#[test]
fn subscriptions_of_all_versions_are_read() {
    let fixtures = fixtures();
    let topics = BTreeSet::from(["flights".to_owned(), "ticks".to_owned()]);
    let oldest = ConsumerSubscription { version: 0, topics, owned: ByName::new(), rack_id: None };
    assert_eq!(parse_subscription(&fixtures["subscription-0"]), Ok(oldest.clone()));
    let newest = ConsumerSubscription {
        version: 3,
        owned: by_name(),
        rack_id: Some("rack-1".to_owned()),
        ..oldest
    };
    assert_eq!(parse_subscription(&fixtures["subscription-3"]), Ok(newest.clone()));
    // A version that is not there yet: what is known of it is read.
    let mut bytes = fixtures["subscription-3"].to_vec();
    bytes[1] = 9;
    bytes.extend(b"more");
    assert_eq!(parse_subscription(&Bytes::from(bytes)), Ok(newest));
}

#[test]
fn assignments_are_the_bytes_that_kafka_writes() {
    let fixtures = fixtures();
    for version in [0, 3] {
        let name = format!("assignment-{version}");
        assert_eq!(assignment(&by_name(), version), fixtures[name.as_str()]);
        assert_eq!(parse_assignment(&fixtures[name.as_str()]), Ok((by_name(), false)));
    }
    assert_eq!(parse_assignment(&fixtures["assignment-custom"]), Ok((by_name(), true)));
    assert_eq!(parse_assignment(&Bytes::new()), Ok((ByName::new(), false)));
}

#[test]
fn foreign_bytes_are_errors_and_reserve_nothing() {
    for foreign in [&b""[..], b"\xff\xff\x00\x00\x00\x00", b"\x00\x00\x7f\xff\xff\xff\x00"] {
        assert!(parse_subscription(&Bytes::from_static(foreign)).is_err());
    }
    assert!(parse_assignment(&Bytes::from_static(b"\x00\x00\x7f\xff\xff\xff\x00")).is_err());
}
