//! The five codecs of record batches, as the Java client and librdkafka write them.
//!
//! Decompression has a bound on its output. Before the output exists, at most a small multiple of
//! the input, plus a constant (the largest LZ4 block: 12 MiB, freed at once), is reserved.
//! - gzip: one or more members.
//! - snappy: Java writes xerial's framing, librdkafka one raw block. Both are read, the first is
//!   written.
//! - lz4: one frame; linked and independent blocks, all checksums are read. Written with blocks of
//!   64 KiB, independent because Java's reader knows no others.
//! - zstd: with or without a content size. Decompressed in one step into the output itself, so that
//!   a frame cannot ask for a window of 128 MiB.

use std::fmt;
use std::io::{self, Read, Write};

use crate::DecodeError;

/// Values are those of the attribute bits of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    #[default]
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Magic, version, oldest compatible version.
const XERIAL_HEADER_BYTES: usize = 16;
/// Block size of Java's `SnappyOutputStream`.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
/// A snappy copy of three bytes yields at most 64; a block that claims more than this is lying.
const SNAPPY_RATIO_MAX: usize = 22;
const LZ4_FRAME_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const ZSTD_LEVEL: i32 = 3;

impl Compression {
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// From the lowest three bits of a batch's attributes.
    pub fn from_attributes(attributes: i16) -> Result<Self, DecodeError> {
        let bits = attributes & 7;
        Self::ALL
            .into_iter()
            .find(|codec| codec.attribute_bits() == bits)
            .ok_or(DecodeError::UnknownCompression(bits))
    }

    pub fn attribute_bits(self) -> i16 {
        self as i16
    }

    /// Kafka's name, as in `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl std::str::FromStr for Compression {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.name() == name)
            .ok_or_else(|| format!("{name} is not one of none, gzip, snappy, lz4, zstd"))
    }
}

/// Compresses at Kafka's default levels. The error is the codec's own (out of memory, in effect).
pub fn compress(codec: Compression, plain: &[u8]) -> io::Result<Vec<u8>> {
    compress_at(codec, None, plain)
}

/// Compresses at a level: gzip has -1 (its default) and 1 to 9, zstd -131072 to 22; the others have
/// one level only. `None` is Kafka's default.
pub fn compress_at(codec: Compression, level: Option<i32>, plain: &[u8]) -> io::Result<Vec<u8>> {
    match codec {
        Compression::None => Ok(plain.to_vec()),
        Compression::Gzip => {
            let level = level.and_then(|level| u32::try_from(level).ok());
            let level = level.map_or_else(Default::default, flate2::Compression::new);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(plain)?;
            encoder.finish()
        }
        Compression::Snappy => compress_xerial(plain),
        Compression::Lz4 => {
            let frame = lz4_flex::frame::FrameInfo::new()
                .block_size(lz4_flex::frame::BlockSize::Max64KB)
                .block_mode(lz4_flex::frame::BlockMode::Independent);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, Vec::new());
            encoder.write_all(plain)?;
            encoder.finish().map_err(io::Error::other)
        }
        Compression::Zstd => zstd::bulk::compress(plain, level.unwrap_or(ZSTD_LEVEL)),
    }
}

/// The whole output, or an error if it is more than `decompressed_bytes_max`.
pub fn decompress(
    codec: Compression,
    compressed: &[u8],
    decompressed_bytes_max: usize,
) -> Result<Vec<u8>, DecodeError> {
    let limit = decompressed_bytes_max;
    match codec {
        Compression::None if compressed.len() > limit => too_large(codec, limit),
        Compression::None => Ok(compressed.to_vec()),
        Compression::Gzip => {
            read_bounded(codec, flate2::bufread::MultiGzDecoder::new(compressed), limit)
        }
        Compression::Snappy if compressed.starts_with(&XERIAL_MAGIC) => {
            decompress_xerial(compressed, limit)
        }
        Compression::Snappy => {
            let mut plain = Vec::new();
            append_snappy_block(&mut plain, compressed, limit)?;
            Ok(plain)
        }
        // The decoder also reads frames of LZ4 before 1.4, which no Kafka client writes.
        Compression::Lz4 if !compressed.starts_with(&LZ4_FRAME_MAGIC) => {
            damaged(codec, "no LZ4 frame")
        }
        Compression::Lz4 => {
            read_bounded(codec, lz4_flex::frame::FrameDecoder::new(compressed), limit)
        }
        Compression::Zstd => decompress_zstd(compressed, limit),
    }
}

fn read_bounded(
    codec: Compression,
    decoder: impl Read,
    limit: usize,
) -> Result<Vec<u8>, DecodeError> {
    let mut plain = Vec::new();
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    match decoder.take(one_more).read_to_end(&mut plain) {
        Ok(_) if plain.len() > limit => too_large(codec, limit),
        Ok(_) => Ok(plain),
        Err(error) => damaged(codec, error),
    }
}

fn compress_xerial(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(XERIAL_HEADER_BYTES + plain.len() / 2);
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&1u32.to_be_bytes());
    out.extend_from_slice(&1u32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in plain.chunks(XERIAL_BLOCK_BYTES) {
        let compressed = encoder.compress_vec(block).map_err(io::Error::other)?;
        let compressed_bytes = u32::try_from(compressed.len()).map_err(io::Error::other)?;
        out.extend_from_slice(&compressed_bytes.to_be_bytes());
        out.extend_from_slice(&compressed);
    }
    Ok(out)
}

fn decompress_xerial(compressed: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    let Some((_, mut rest)) = compressed.split_at_checked(XERIAL_HEADER_BYTES) else {
        return damaged(Compression::Snappy, "xerial header is cut off");
    };
    let mut plain = Vec::new();
    while !rest.is_empty() {
        // Java's output may be two streams, one after the other: skip the second header.
        if rest.starts_with(&XERIAL_MAGIC) && rest.len() >= XERIAL_HEADER_BYTES {
            rest = &rest[XERIAL_HEADER_BYTES..];
            continue;
        }
        let block = rest.split_first_chunk::<4>().and_then(|(length, tail)| {
            tail.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
        });
        let Some((block, tail)) = block else {
            return damaged(Compression::Snappy, "xerial block is cut off");
        };
        append_snappy_block(&mut plain, block, limit)?;
        rest = tail;
    }
    Ok(plain)
}

fn append_snappy_block(plain: &mut Vec<u8>, block: &[u8], limit: usize) -> Result<(), DecodeError> {
    let codec = Compression::Snappy;
    let block_bytes = snap::raw::decompress_len(block).or_else(|error| damaged(codec, error))?;
    if block_bytes > limit.saturating_sub(plain.len()) {
        return too_large(codec, limit);
    }
    if block_bytes / SNAPPY_RATIO_MAX > block.len() {
        return damaged(codec, "block claims more than its bytes can hold");
    }
    let start = plain.len();
    plain.resize(start + block_bytes, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut plain[start..])
        .or_else(|error| damaged(codec, error))?;
    plain.truncate(start + written);
    Ok(())
}

/// A content size in the header is only a claim, so the output buffer starts near the input's size
/// and grows; work is at most a third more than with the right size at once.
fn decompress_zstd(compressed: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    let codec = Compression::Zstd;
    let likely = compressed.len().saturating_mul(16).max(64 * 1024);
    let claimed = match zstd::zstd_safe::get_frame_content_size(compressed) {
        Ok(Some(claimed)) => usize::try_from(claimed).unwrap_or(usize::MAX),
        Ok(None) => usize::MAX,
        Err(_) => return damaged(codec, "no zstd frame"),
    };
    let mut decompressor =
        zstd::bulk::Decompressor::new().or_else(|error| damaged(codec, error))?;
    let mut capacity = likely.min(claimed).min(limit);
    loop {
        let mut plain = Vec::with_capacity(capacity);
        match decompressor.decompress_to_buffer(compressed, &mut plain) {
            Ok(_) => return Ok(plain),
            Err(error) if !is_full(&error) => return damaged(codec, error),
            Err(_) if capacity >= limit => return too_large(codec, limit),
            Err(_) => capacity = capacity.max(1).saturating_mul(4).min(limit),
        }
    }
}

/// The crate passes the library's error on as its text only (ZSTD_error_dstSize_tooSmall).
fn is_full(error: &io::Error) -> bool {
    error.to_string().contains("Destination buffer is too small")
}

fn damaged<T>(codec: Compression, reason: impl fmt::Display) -> Result<T, DecodeError> {
    Err(DecodeError::Compressed { codec, reason: reason.to_string() })
}

fn too_large<T>(codec: Compression, limit: usize) -> Result<T, DecodeError> {
    Err(DecodeError::DecompressedTooLarge { codec, limit })
}

#[cfg(test)]
mod tests;
