//! Opens a file of rows: plain, gzip, or the bundled demo slice.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::limits::{CSV_ROW_BYTES_MAX, FINGERPRINT_BYTES};

/// Flights from New York, 1 to 10 January 2013; see `ingest/demo/README.md`.
const DEMO_FLIGHTS: &[u8] = include_bytes!("../../demo/flights-2013-01.csv.gz");

/// Tells a file from another one with the same name, and still knows a file that has grown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    /// How much of the beginning was hashed.
    prefix_bytes: u64,
    sha256: String,
}

/// Where the bytes come from.
#[derive(Debug, Clone)]
enum Origin {
    File(PathBuf),
    /// The demo slice, or what a fuzz target made up.
    Memory(Bytes),
}

#[derive(Debug, Clone)]
pub(crate) struct Input {
    origin: Origin,
    gzip: bool,
    /// Bytes as stored, for the progress.
    pub stored_bytes: u64,
    /// How many of them were read.
    pub consumed_bytes: Arc<AtomicU64>,
    since_row: Arc<AtomicU64>,
}

impl Input {
    pub fn of(path: &Path) -> io::Result<Self> {
        let origin = match path.to_str() {
            Some("demo:flights") => {
                return Ok(Self::memory(Bytes::from_static(DEMO_FLIGHTS), true));
            }
            _ => Origin::File(path.to_owned()),
        };
        let gzip = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
        Ok(Self::new(origin, gzip, std::fs::metadata(path)?.len()))
    }

    pub fn memory(bytes: Bytes, gzip: bool) -> Self {
        let stored_bytes = bytes.len() as u64;
        Self::new(Origin::Memory(bytes), gzip, stored_bytes)
    }

    fn new(origin: Origin, gzip: bool, stored_bytes: u64) -> Self {
        let (consumed_bytes, since_row) = (Arc::default(), Arc::default());
        Self { origin, gzip, stored_bytes, consumed_bytes, since_row }
    }

    /// The fingerprint of the file now.
    pub fn fingerprint(&self) -> io::Result<Fingerprint> {
        self.fingerprint_of(self.stored_bytes.min(FINGERPRINT_BYTES))
    }

    /// Whether the file still begins as it did when the fingerprint was taken.
    pub fn matches(&self, fingerprint: &Fingerprint) -> io::Result<bool> {
        let same_length = fingerprint.prefix_bytes.min(self.stored_bytes);
        Ok(self.fingerprint_of(same_length.min(FINGERPRINT_BYTES))? == *fingerprint)
    }

    fn fingerprint_of(&self, prefix_bytes: u64) -> io::Result<Fingerprint> {
        let mut prefix = Vec::new();
        self.raw(0)?.take(prefix_bytes).read_to_end(&mut prefix)?;
        let hash = Sha256::digest(&prefix);
        let sha256 = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Fingerprint { prefix_bytes, sha256 })
    }

    /// The text from this byte of the uncompressed file on.
    pub fn open(&self, byte: u64) -> io::Result<Box<dyn Read + Send>> {
        let start = if self.gzip { 0 } else { byte };
        self.consumed_bytes.store(start, Ordering::Relaxed);
        self.new_row();
        let counted =
            Counted { inner: self.raw(start)?, consumed_bytes: Arc::clone(&self.consumed_bytes) };
        let mut text: Box<dyn Read + Send> = if self.gzip {
            // Little is read ahead, because what was read counts as progress.
            Box::new(MultiGzDecoder::new(io::BufReader::with_capacity(4 << 10, counted)))
        } else {
            Box::new(counted)
        };
        if self.gzip && byte > 0 {
            // A gzip stream has no places to jump to; inflating 30 MB takes a fifth of a second.
            let skipped = io::copy(&mut text.by_ref().take(byte), &mut io::sink())?;
            if skipped < byte {
                return Err(io::Error::other("the file is shorter than the stored position"));
            }
        }
        Ok(Box::new(Bounded { inner: text, since_row: Arc::clone(&self.since_row) }))
    }

    /// A new row begins: its bytes are counted from here.
    pub fn new_row(&self) {
        self.since_row.store(0, Ordering::Relaxed);
    }

    fn raw(&self, byte: u64) -> io::Result<Box<dyn Read + Send>> {
        match &self.origin {
            Origin::Memory(bytes) => {
                let mut cursor = Cursor::new(bytes.clone());
                cursor.set_position(byte);
                Ok(Box::new(cursor))
            }
            Origin::File(path) => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(byte))?;
                Ok(Box::new(file))
            }
        }
    }
}

struct Counted {
    inner: Box<dyn Read + Send>,
    consumed_bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.consumed_bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Ends a row that grows without end, such as one with a quote that is never closed.
struct Bounded {
    inner: Box<dyn Read + Send>,
    since_row: Arc<AtomicU64>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let row_bytes = self.since_row.fetch_add(count as u64, Ordering::Relaxed);
        if row_bytes > CSV_ROW_BYTES_MAX {
            let what = "a row has more than 4 MiB: is a quotation mark never closed?";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(count)
    }
}
