//! What decoding a request really takes, counted by the allocator. One test, because the count is
//! that of the whole process.

use bytes::Bytes;
use kafka_protocol::messages::{
    FetchRequest, LeaveGroupRequest, MetadataRequest, OffsetDeleteRequest, UpdateFeaturesRequest,
};
use kafka_protocol::protocol::Decodable;
use odradek_protocol::guard;
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The highest use of memory while `body` was checked and, if it passed, decoded.
fn peak_bytes<T: Decodable>(api_key: i16, version: i16, body: &[u8]) -> (bool, usize) {
    let mut bytes = Bytes::copy_from_slice(body);
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let passed = guard::check(api_key, version, body).is_ok();
    let request = passed.then(|| T::decode(&mut bytes, version));
    let peak = ALLOCATOR.peak_usage().saturating_sub(before);
    drop(request);
    (passed, peak)
}

fn repeated(head: &[u8], element: &[u8], count: usize, tail: &[u8]) -> Vec<u8> {
    [head, &element.repeat(count), tail].concat()
}

fn compact(count: usize) -> Vec<u8> {
    let mut left = count + 1;
    let mut varint = Vec::new();
    while left > 0x7f {
        varint.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    varint.push(left as u8);
    varint
}

#[test]
fn decoding_what_the_guard_lets_through_stays_within_its_bound() {
    let two_billion = i32::MAX.to_be_bytes();
    let (passed, peak) = peak_bytes::<MetadataRequest>(3, 1, &two_billion);
    assert!(!passed && peak < 1000, "{peak} bytes for a count alone");

    let fetch = [0; 4 + 4 + 4 + 1 + 4 + 4];
    for count in [1000, 20_000, 200_000] {
        let classic = u32::try_from(count).unwrap().to_be_bytes();
        let bodies = [
            // Topics with empty names; the smallest element of all.
            (3, 0, repeated(&classic, &[0, 0], count, &[])),
            // Forgotten topics of a fetch, each with one partition, so with its own allocation.
            (1, 15, {
                let head = [&fetch[..], &[1], &compact(count)].concat();
                let forgotten = [&[9; 16][..], &[2, 0, 0, 0, 1, 0]].concat();
                repeated(&head, &forgotten, count, &[1, 0])
            }),
            // The crate's worst: a member without names, three bytes on the wire and 120 in memory.
            (13, 4, repeated(&[&[1][..], &compact(count)].concat(), &[1, 0, 0], count, &[0])),
            // Features, each with an unknown tagged field, so with a tree of its own.
            (57, 0, {
                let head = [&[0; 4][..], &compact(count)].concat();
                repeated(&head, &[1, 0, 0, 0, 1, 100, 0], count, &[0])
            }),
            (47, 0, repeated(&[&[0, 0][..], &classic].concat(), &[0, 0, 0, 0, 0, 0], count, &[])),
        ];
        for (api_key, version, body) in bodies {
            let (passed, peak) = match api_key {
                3 => peak_bytes::<MetadataRequest>(api_key, version, &body),
                13 => peak_bytes::<LeaveGroupRequest>(api_key, version, &body),
                1 => peak_bytes::<FetchRequest>(api_key, version, &body),
                57 => peak_bytes::<UpdateFeaturesRequest>(api_key, version, &body),
                _ => peak_bytes::<OffsetDeleteRequest>(api_key, version, &body),
            };
            let limit = guard::memory_bytes_max(body.len());
            println!(
                "api {api_key}: {count} elements in {} bytes: passed {passed}, {peak}",
                body.len()
            );
            assert!(peak <= limit, "api {api_key}: {peak} bytes, {limit} allowed");
            assert!(passed || peak < 1000, "api {api_key}: {peak} bytes for a refusal");
        }
    }
}
