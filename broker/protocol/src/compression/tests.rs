use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1 << 20;

#[test]
fn a_bomb_is_refused_at_the_bound_by_every_codec() {
    let plain = vec![7; 8 * LIMIT];
    for codec in Compression::ALL {
        let bomb = compress(codec, &plain).unwrap();
        let expected = DecodeError::DecompressedTooLarge { codec, limit: LIMIT };
        assert_eq!(decompress(codec, &bomb, LIMIT), Err(expected), "{codec}");
        assert_eq!(decompress(codec, &bomb, plain.len()).unwrap(), plain, "{codec}");
        assert!(decompress(codec, &bomb, plain.len() - 1).is_err(), "{codec}");
    }
}

#[test]
fn zstd_without_a_content_size_grows_its_output() {
    let plain = vec![7; 8 * LIMIT];
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    encoder.write_all(&plain).unwrap();
    let compressed = encoder.finish().unwrap();
    assert_eq!(decompress(Compression::Zstd, &compressed, 16 * LIMIT).unwrap(), plain);
}

#[test]
fn a_snappy_block_that_claims_more_than_its_bytes_can_hold_is_refused() {
    // Uncompressed length 1 MiB as a varint, then a literal of one byte.
    let block = [0x80, 0x80, 0x40, 0x00, b'x'];
    let error = decompress(Compression::Snappy, &block, 2 * LIMIT).unwrap_err();
    assert!(matches!(error, DecodeError::Compressed { .. }), "{error}");
}

#[test]
fn raw_snappy_is_read_as_well_as_xerial_framing() {
    let plain = b"librdkafka writes no framing".repeat(3000);
    let raw = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    assert_eq!(decompress(Compression::Snappy, &raw, LIMIT).unwrap(), plain);
}

#[test]
fn linked_lz4_blocks_with_checksums_are_read() {
    let plain = b"0123456789abcdef".repeat(20_000);
    let frame = lz4_flex::frame::FrameInfo::new()
        .block_mode(lz4_flex::frame::BlockMode::Linked)
        .block_size(lz4_flex::frame::BlockSize::Max64KB)
        .block_checksums(true)
        .content_checksum(true);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, Vec::new());
    encoder.write_all(&plain).unwrap();
    let mut compressed = encoder.finish().unwrap();
    assert_eq!(decompress(Compression::Lz4, &compressed, LIMIT).unwrap(), plain);
    let last = compressed.len() - 1;
    compressed[last] ^= 1;
    assert!(decompress(Compression::Lz4, &compressed, LIMIT).is_err());
}

proptest! {
    #[test]
    fn every_codec_returns_what_it_was_given(
        plain in prop::collection::vec(any::<u8>(), 0..5000), repeat in 1usize..40,
    ) {
        let plain = plain.repeat(repeat);
        for codec in Compression::ALL {
            let compressed = compress(codec, &plain).unwrap();
            prop_assert_eq!(&decompress(codec, &compressed, LIMIT).unwrap(), &plain);
        }
    }

    #[test]
    fn damaged_data_never_panics_nor_exceeds_the_bound(
        plain in prop::collection::vec(any::<u8>(), 1..400),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        for codec in Compression::ALL {
            let mut damaged = compress(codec, &plain.repeat(20)).unwrap();
            for (index, mask) in &flips {
                let position = index.index(damaged.len());
                damaged[position] ^= mask;
            }
            for bytes in [&damaged, &noise] {
                if let Ok(output) = decompress(codec, bytes, 10_000) {
                    prop_assert!(output.len() <= 10_000);
                }
            }
        }
    }
}
