use bytes::BytesMut;

use super::*;

fn parse(frame: &[u8]) -> Result<(RequestHeader, Bytes), DecodeError> {
    RequestHeader::parse(&Bytes::copy_from_slice(frame))
}

#[test]
fn a_header_of_either_form_is_taken_off_its_body() {
    let client_id = Some("cli".to_owned());
    // Metadata 8 (classic header) and 9 (flexible header, one unknown tagged field).
    let classic = parse(b"\0\x03\0\x08\0\0\0\x07\0\x03clibody").unwrap();
    let header = RequestHeader { api_key: 3, version: 8, correlation_id: 7, client_id };
    assert_eq!(classic, (header.clone(), Bytes::from("body")));
    let flexible = parse(b"\0\x03\0\x09\0\0\0\x07\0\x03cli\x01\x05\x02xxbody").unwrap();
    assert_eq!(flexible, (RequestHeader { version: 9, ..header }, Bytes::from("body")));
    let nameless = parse(b"\0\x03\0\x08\xff\xff\xff\xff\xff\xff").unwrap();
    assert_eq!(nameless.0.client_id, None);
    assert_eq!(nameless.0.correlation_id, -1);
}

#[test]
fn the_header_of_a_version_yet_unknown_is_read_in_the_flexible_form() {
    let (header, body) = parse(b"\0\x12\0\x63\0\0\0\x01\0\0\0\x01\0").unwrap();
    assert_eq!((header.api_key, header.version), (18, 99));
    assert_eq!(&body[..], b"\x01\0");
}

#[test]
fn an_unknown_api_a_cut_header_and_a_negative_length_are_refused() {
    let unknown = DecodeError::UnknownApi { api_key: 0x4745, version: 0x5420 };
    assert_eq!(parse(b"GET / HTTP/1.1"), Err(unknown));
    assert!(parse(b"\0\x03\0\x08\0\0\0\x07\xff\xfe").is_err());
    assert!(parse(b"\0\x03\0\x08\0\0\0\x07\0\x01\xff").is_err(), "not UTF-8");
    let whole = b"\0\x03\0\x09\0\0\0\x07\0\x03cli\x01\x05\x02xx";
    for end in 0..whole.len() {
        assert!(parse(&whole[..end]).is_err(), "{end}");
    }
    assert!(parse(b"\0\x03\0\x09\0\0\0\x07\0\0\xff\xff\xff\xff\x0f").is_err(), "tag count");
}

/// Rows from Kafka's ApiMessageTypeTest.testHeaderVersion and KIP-511.
#[test]
fn header_versions_are_kafkas() {
    let cases = [
        (3, 8, 1, 0), // Metadata
        (3, 9, 2, 1),
        (18, 0, 1, 0), // ApiVersions
        (18, 2, 1, 0),
        (18, 3, 2, 0),
        (18, 4, 2, 0),
        (19, 4, 1, 0), // CreateTopics
        (19, 5, 2, 1),
        (17, 1, 1, 0), // SaslHandshake is never flexible
        (0, 8, 1, 0),  // Produce
        (0, 9, 2, 1),
        (68, 0, 2, 1), // ConsumerGroupHeartbeat
    ];
    for (api_key, version, request, response) in cases {
        assert_eq!(request_header_version(api_key, version), Some(request), "{api_key} {version}");
        assert_eq!(
            response_header_version(api_key, version),
            Some(response),
            "{api_key} {version}"
        );
    }
    assert_eq!(request_header_version(7, 0), None, "ControlledShutdown is gone");
}

#[test]
fn a_response_header_is_flexible_except_for_api_versions() {
    let encode = |api_key, version| {
        let mut out = BytesMut::new();
        put_response_header(&mut out, api_key, version, 5);
        out.to_vec()
    };
    assert_eq!(encode(3, 9), [0, 0, 0, 5, 0]);
    assert_eq!(encode(3, 8), [0, 0, 0, 5]);
    assert_eq!(encode(18, 3), [0, 0, 0, 5]);
}

#[test]
fn versions_are_those_that_request_and_response_share() {
    assert_eq!(versions(8), Some((2, 9)), "OffsetCommit: the crate's response has 10");
    assert_eq!(versions(9), Some((1, 9)), "OffsetFetch");
    assert_eq!(versions(22), Some((0, 5)), "InitProducerId");
    assert_eq!(versions(1), Some((4, 18)), "Fetch");
    assert_eq!(versions(7), None);
}
