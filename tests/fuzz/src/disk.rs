//! What the broker reads back from its own disk after a crash: journal groups, segments, side
//! files, records of `__consumer_offsets` and `__odradek_state`.
//!
//! First byte: which; its highest bit puts a right checksum in first. Promises: entries of a group
//! lie within it, one behind the other; a side file and a key that are read are written and read as
//! the same; a walk over a segment stays within it. No count is believed: memory follows the bytes.

use bytes::Bytes;
use odradek_broker::fuzzing as broker;
use odradek_log::fuzzing as log;

use crate::memory::peak_bytes;

const MEMORY_BYTES_FREE: usize = 1 << 20;
/// A producer of a side file is 31 bytes there and a few hundred in two tables here.
const MEMORY_FACTOR: usize = 64;

pub fn run(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else { return };
    let sealed = which & 0x80 != 0;
    let mut bytes = rest.to_vec();
    let allowed = MEMORY_FACTOR * bytes.len() + MEMORY_BYTES_FREE;
    let ((), peak) = peak_bytes(|| match which % 5 {
        0 => group(&mut bytes, sealed),
        1 => side_file(&mut bytes, sealed),
        2 => segment(&bytes),
        3 => keyed(&bytes, |key, value| broker::offsets_record(&key.into(), &value.into())),
        _ => keyed(&bytes, |key, value| broker::state_record(&key, &value)),
    });
    // A segment's batches may be compressed: their bound is that of a batch.
    assert!(peak <= allowed || which % 5 == 2, "{peak} bytes for {}", rest.len());
}

fn group(bytes: &mut [u8], sealed: bool) {
    if sealed {
        log::seal_group(bytes);
    }
    let Some(entries) = log::group_entries(bytes) else { return };
    let mut behind = 0;
    for (start, length) in entries {
        assert!(start >= behind && start + length <= bytes.len());
        behind = start + length;
    }
}

fn side_file(bytes: &mut [u8], sealed: bool) {
    if sealed {
        log::seal_side(bytes);
    }
    if let Some(written) = log::side_file(bytes) {
        assert_eq!(log::side_file(&written).as_ref(), Some(&written));
    }
}

fn segment(bytes: &[u8]) {
    let (whole, in_order) = log::segment(&Bytes::copy_from_slice(bytes));
    assert!(whole <= bytes.len() && in_order);
}

/// Key and value, divided by the length of the key (16 bits).
fn keyed(bytes: &[u8], read: impl Fn(Vec<u8>, Vec<u8>) -> Option<Bytes>) {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return };
    let length = usize::from(u16::from_be_bytes(*length));
    let Some((key, value)) = rest.split_at_checked(length) else { return };
    if let Some(written) = read(key.to_vec(), value.to_vec()) {
        assert_eq!(read(written.to_vec(), value.to_vec()), Some(written));
    }
}
