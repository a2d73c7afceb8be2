//! sled, of whose view a stop leaves what it leaves of the stand-in's. A real database that is let
//! go has all of it; and how much a view knows shows: a keyed partition is cleaned up to what its
//! view has seen, so that logs side by side would be cleaned in other rounds, and have other
//! segments. The records are sled's alone.

use std::path::Path;
use std::sync::Arc;

use crate::feed::apply;
use crate::view::{Change, MemoryViews, SledViews, View, ViewError, Views};

/// Key and value.
type Entry = (Vec<u8>, Vec<u8>);

const MEMORY_BYTES_MAX: usize = 4 << 20;

pub struct ForgetfulSled {
    sled: SledViews,
    /// Gets the same changes, and suffers at a stop.
    left: MemoryViews,
}

/// Both at once; what is read is sled's.
struct Pair {
    sled: Arc<dyn View>,
    left: Arc<dyn View>,
}

impl ForgetfulSled {
    pub fn new(path: &Path, left: &MemoryViews) -> ForgetfulSled {
        let sled = SledViews::new(path.to_owned(), MEMORY_BYTES_MAX);
        ForgetfulSled { sled, left: left.clone() }
    }
}

impl Views for ForgetfulSled {
    fn open(&self) -> Result<Arc<dyn View>, ViewError> {
        let pair = Pair { sled: self.sled.open()?, left: self.left.open()? };
        let (stored, left) = (all(&*pair.sled)?, all(&*pair.left)?);
        let gone =
            stored.iter().filter(|(key, _)| left.binary_search_by(|e| e.0.cmp(key)).is_err());
        let gone = gone.map(|(key, _)| (key.clone(), None));
        let other = left.iter().filter(|entry| stored.binary_search(entry).is_err());
        let other = other.map(|(key, value)| (key.clone(), Some(value.clone())));
        apply(&*pair.sled, gone.chain(other).collect())?;
        Ok(Arc::new(pair))
    }

    fn set_aside(&self) -> Result<(), ViewError> {
        self.left.set_aside()?;
        self.sled.set_aside()
    }

    fn records(&self) -> Result<Arc<dyn View>, ViewError> {
        self.sled.records()
    }

    fn close_records(&self) {
        self.sled.close_records();
    }
}

/// In the order of the keys.
fn all(view: &dyn View) -> Result<Vec<Entry>, ViewError> {
    let mut entries = Vec::new();
    view.scan(&[], &mut |key, value| {
        entries.push((key.to_vec(), value.to_vec()));
        true
    })?;
    Ok(entries)
}

impl View for Pair {
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        self.sled.value(key)
    }

    fn scan_from(
        &self,
        prefix: &[u8],
        first: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), ViewError> {
        self.sled.scan_from(prefix, first, visit)
    }

    fn apply(&self, batch: Vec<Change>) -> Result<(), ViewError> {
        self.left.apply(batch.clone())?;
        self.sled.apply(batch)
    }

    fn flush(&self) -> Result<(), ViewError> {
        self.left.flush()?;
        self.sled.flush()
    }

    fn sync(&self) -> Result<(), ViewError> {
        self.left.sync()?;
        self.sled.sync()
    }
}
