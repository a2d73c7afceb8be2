//! The codecs: bytes that claim to be compressed, and bytes that are.
//!
//! First byte: the codec (lowest three bits) and whether to unpack what follows or to pack it first
//! (bit 3). Promises: no output beyond the bound, and no memory beyond a multiple of it, whatever a
//! few bytes claim to hold; what was packed comes back.

use odradek_protocol::DecodeError;
use odradek_protocol::compression::{self, Compression};

use crate::memory::peak_bytes;

/// Small, so that a bomb of a few bytes already passes it.
const OUTPUT_BYTES_MAX: usize = 256 << 10;
/// LZ4's largest block in and, linked, twice out: 12 MiB. A growing buffer and its successor.
const MEMORY_BYTES_MAX: usize = (13 << 20) + 3 * OUTPUT_BYTES_MAX;

pub fn run(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else { return };
    let Ok(codec) = Compression::from_attributes(i16::from(how & 7)) else { return };
    if how & 8 == 0 {
        unpack(codec, bytes);
    } else {
        let packed = compression::compress(codec, bytes).expect("memory does not fail");
        let back = compression::decompress(codec, &packed, bytes.len());
        assert_eq!(back.as_deref(), Ok(bytes), "{codec}");
        if let Some(less) = bytes.len().checked_sub(1) {
            let refused = compression::decompress(codec, &packed, less);
            let expected = Err(DecodeError::DecompressedTooLarge { codec, limit: less });
            assert_eq!(refused, expected, "{codec}: one byte less than it holds");
        }
    }
}

fn unpack(codec: Compression, bytes: &[u8]) {
    let (plain, peak) = peak_bytes(|| compression::decompress(codec, bytes, OUTPUT_BYTES_MAX));
    let allowed = MEMORY_BYTES_MAX + 2 * bytes.len();
    assert!(peak <= allowed, "{codec}: {peak} bytes of memory for {} bytes", bytes.len());
    match plain {
        Ok(plain) => {
            assert!(plain.len() <= OUTPUT_BYTES_MAX, "{codec}: {} bytes", plain.len());
            // Whoever reads it with just enough room reads the same.
            let again = compression::decompress(codec, bytes, plain.len());
            assert_eq!(again.as_deref(), Ok(&plain[..]), "{codec}");
        }
        Err(DecodeError::DecompressedTooLarge { limit, .. }) => {
            assert_eq!(limit, OUTPUT_BYTES_MAX);
        }
        Err(_) => {}
    }
}
