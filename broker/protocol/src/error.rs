//! What can be wrong with bytes from outside.

use crate::compression::Compression;

/// Bytes that are not what they should be. `position` counts from the start of what was being
/// decoded (a frame's body, a record set, a decompressed payload).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("truncated at byte {position}: {needed} more bytes needed, {remaining} left")]
    Truncated { position: usize, needed: usize, remaining: usize },
    #[error("invalid at byte {position}: {reason}")]
    Invalid { position: usize, reason: &'static str },
    #[error("at byte {position}: {count} {what}, more than the limit of {limit}")]
    TooMany { position: usize, what: &'static str, count: u64, limit: u64 },
    #[error("at byte {position}: message format {magic} of a Kafka before 0.11, not 2")]
    OldMagic { position: usize, magic: i8 },
    #[error("api key {api_key} version {version} is not known")]
    UnknownApi { api_key: i16, version: i16 },
    #[error("compression type {0} is not one of Kafka's")]
    UnknownCompression(i16),
    #[error("{codec} data is damaged: {reason}")]
    Compressed { codec: Compression, reason: String },
    #[error("{codec} data is larger than {limit} bytes when decompressed")]
    DecompressedTooLarge { codec: Compression, limit: usize },
}

impl DecodeError {
    /// The same error, seen from bytes that begin `by` bytes earlier.
    pub(crate) fn moved(mut self, by: usize) -> Self {
        match &mut self {
            Self::Truncated { position, .. }
            | Self::Invalid { position, .. }
            | Self::TooMany { position, .. }
            | Self::OldMagic { position, .. } => *position += by,
            Self::UnknownApi { .. }
            | Self::UnknownCompression(_)
            | Self::Compressed { .. }
            | Self::DecompressedTooLarge { .. } => {}
        }
        self
    }
}
