use super::*;

type Header = (Bytes, Option<Bytes>);

fn header(key: &'static str, value: Option<&'static str>) -> Header {
    (Bytes::from(key), value.map(Bytes::from))
}

fn three_records(codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(codec).producer(7, 1, 40).transactional();
    let headers = [header("h", Some("1")), header("h", None), header("h", Some("2"))];
    builder.push(1000, Some(b"k"), Some(b"v"), &headers);
    builder.push(1500, None, Some(b""), &[]);
    builder.push(900, Some(b""), None, &[]);
    builder.build(100)
}

#[test]
fn a_built_batch_is_valid_and_reads_back_with_repeated_header_keys() {
    for codec in Compression::ALL {
        let batch = three_records(codec);
        let header = validate(&batch).unwrap();
        assert_eq!(header.compression(), Ok(codec));
        assert_eq!((header.base_offset, header.last_offset()), (100, 102));
        assert_eq!((header.base_timestamp_ms, header.max_timestamp_ms), (1000, 1500));
        assert!(header.is_transactional() && !header.is_control());
        let records = records(&batch, 1 << 20).unwrap();
        assert_eq!(records.iter().map(|r| r.offset).collect::<Vec<_>>(), [100, 101, 102]);
        assert_eq!(records.iter().map(|r| r.timestamp_ms).collect::<Vec<_>>(), [1000, 1500, 900]);
        let keys: Vec<_> = records[0].headers.iter().map(|(key, _)| key.as_ref()).collect();
        assert_eq!(keys, [b"h", b"h", b"h"]);
        assert_eq!(records[0].headers[1].1, None);
        assert_eq!((&records[1].key, records[1].value.as_deref()), (&None, Some(&b""[..])));
        assert_eq!((records[2].key.as_deref(), &records[2].value), (Some(&b""[..]), &None));
    }
}
