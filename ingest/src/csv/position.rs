//! How far a file was replayed: the value of the checkpoint `source:<name>`, which is committed in
//! the same unit as the records that it counts.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::input::Fingerprint;

/// A place between two rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Rows before it, without the header.
    pub row: u64,
    /// Bytes before it, of the uncompressed text.
    pub byte: u64,
    /// The line of the file that it is on, from 1.
    pub line: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub file: Fingerprint,
    /// How often the file was replayed to its end (`loop = true`).
    pub passes: u64,
    #[serde(flatten)]
    pub place: Place,
}

impl Position {
    pub fn encode(&self) -> Bytes {
        let text = serde_json::to_vec(self).expect("numbers and a text always have a JSON form");
        Bytes::from(text)
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// The name of a source's checkpoint.
pub(crate) fn checkpoint_name(source: &str) -> String {
    format!("source:{source}")
}
