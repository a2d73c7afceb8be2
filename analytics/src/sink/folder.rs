//! The files of one topic, which are also its offset store.
//!
//! 1. A finished file is called `<topic>-p<partition>-<first>-<last>.parquet` and covers exactly
//!    the offsets `first..=last`; the next to write is the greatest `last` + 1.
//! 2. A file gets its final name by a rename after its bytes are synced, and the folder is synced
//!    after the rename. Whatever has another name is left over from a crash and is deleted.
//! 3. So a crash at any step leaves each offset in one finished file, or to be read again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::columns::{Columns, FlatRow};

/// zstd's own default: half the size of snappy's at a few times its cost.
const ZSTD_LEVEL: i32 = 3;
/// A reader prunes by row group, so they are smaller than the library's million rows.
const ROW_GROUP_ROWS: usize = 64 * 1024;
pub(super) const TOPIC_ID: &str = "odradek.topic_id";
pub(super) const GAP_BEFORE: &str = "odradek.gap_before";

#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: {source}")]
    Parquet { path: PathBuf, source: ParquetError },
    #[error(
        "{path} was written for another topic of the same name (id {found}, now {expected}); move \
         the old files away to begin a new set"
    )]
    OtherTopic { path: PathBuf, found: String, expected: String },
}

pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> FolderError + '_ {
    |source| FolderError::Io { path: path.to_owned(), source }
}

pub(super) fn parquet(path: &Path) -> impl FnOnce(ParquetError) -> FolderError + '_ {
    |source| FolderError::Parquet { path: path.to_owned(), source }
}

/// A finished file, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finished {
    pub path: PathBuf,
    pub partition: i32,
    pub first: i64,
    pub last: i64,
}

/// `None` for any other name.
fn parse_name(topic: &str, path: &Path) -> Option<Finished> {
    let name = path.file_name()?.to_str()?;
    let rest = name.strip_prefix(topic)?.strip_prefix("-p")?.strip_suffix(".parquet")?;
    let mut numbers = rest.split('-');
    let partition = numbers.next()?.parse().ok()?;
    let first = numbers.next()?.parse().ok()?;
    let last = numbers.next()?.parse().ok()?;
    let whole = numbers.next().is_none() && 0 <= first && first <= last;
    whole.then(|| Finished { path: path.to_owned(), partition, first, last })
}

/// The finished files of a topic's folder, by partition and first offset.
pub(super) fn finished(folder: &Path, topic: &str) -> Result<Vec<Finished>, FolderError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(io(folder))? {
        let path = entry.map_err(io(folder))?.path();
        files.extend(parse_name(topic, &path));
    }
    files.sort_by_key(|file| (file.partition, file.first));
    Ok(files)
}

/// What a topic's folder held when it was opened.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// The next offset to write, by partition.
    pub next: BTreeMap<i32, i64>,
    /// The columns of the newest file of each partition, joined: types only ever widen.
    pub columns: BTreeMap<i32, Columns>,
}

/// Creates the folder, deletes what crashes left (2), and says where to go on (1).
pub(super) fn open(folder: &Path, topic: &str, topic_id: &str) -> Result<Opened, FolderError> {
    fs::create_dir_all(folder).map_err(io(folder))?;
    for entry in fs::read_dir(folder).map_err(io(folder))? {
        let path = entry.map_err(io(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with('.') && name.ends_with(".parquet.tmp") {
            fs::remove_file(&path).map_err(io(&path))?;
        }
    }
    let mut newest: BTreeMap<i32, Finished> = BTreeMap::new();
    for file in finished(folder, topic)? {
        let last = newest.get(&file.partition).map_or(-1, |newest| newest.last);
        if file.last > last {
            newest.insert(file.partition, file);
        }
    }
    let mut opened = Opened::default();
    for (partition, file) in newest {
        let reader = File::open(&file.path).map_err(io(&file.path))?;
        let metadata =
            ArrowReaderMetadata::load(&reader, Default::default()).map_err(parquet(&file.path))?;
        let found = footer(metadata.metadata(), TOPIC_ID).unwrap_or_default();
        if found != topic_id {
            let expected = topic_id.to_owned();
            return Err(FolderError::OtherTopic { path: file.path, found, expected });
        }
        opened.next.insert(partition, file.last + 1);
        opened.columns.insert(partition, Columns::of_schema(metadata.schema()));
    }
    Ok(opened)
}

pub(super) fn footer(
    metadata: &parquet::file::metadata::ParquetMetaData,
    key: &str,
) -> Option<String> {
    let pairs = metadata.file_metadata().key_value_metadata()?;
    pairs.iter().find(|pair| pair.key == key)?.value.clone()
}

/// A file being written.
pub(super) struct Writing {
    writer: ArrowWriter<File>,
    temporary: PathBuf,
    pub columns: Columns,
    pub first: i64,
    pub rows: usize,
    pub value_bytes: usize,
}

/// What a file's name and footer say.
pub(super) struct Identity<'a> {
    pub folder: &'a Path,
    pub topic: &'a str,
    pub topic_id: &'a str,
    pub partition: i32,
}

impl Writing {
    pub(super) fn create(
        identity: &Identity<'_>,
        first: i64,
        columns: Columns,
    ) -> Result<Self, FolderError> {
        let Identity { folder, topic, partition, .. } = identity;
        let temporary = folder.join(format!(".{topic}-p{partition}-{first}.parquet.tmp"));
        let file = File::create(&temporary).map_err(io(&temporary))?;
        let level = ZstdLevel::try_new(ZSTD_LEVEL).map_err(parquet(&temporary))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_column_bloom_filter_enabled(ColumnPath::from("key"), true)
            .set_created_by(concat!("odradek ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let writer = ArrowWriter::try_new(file, columns.schema(), Some(properties))
            .map_err(parquet(&temporary))?;
        Ok(Self { writer, temporary, columns, first, rows: 0, value_bytes: 0 })
    }

    pub(super) fn write(
        &mut self,
        partition: i32,
        rows: &[FlatRow],
        bytes: usize,
    ) -> Result<(), FolderError> {
        let batch = self.columns.batch(partition, rows).map_err(ParquetError::from);
        let batch = batch.map_err(parquet(&self.temporary))?;
        self.writer.write(&batch).map_err(parquet(&self.temporary))?;
        self.rows += rows.len();
        self.value_bytes += bytes;
        Ok(())
    }

    /// Finish, sync, rename, sync the folder (2). `last` is the last offset covered.
    pub(super) fn finish(
        mut self,
        identity: &Identity<'_>,
        last: i64,
        gap_before: Option<(i64, i64)>,
    ) -> Result<PathBuf, FolderError> {
        let Identity { folder, topic, topic_id, partition } = identity;
        let pairs = [
            ("odradek.topic", (*topic).to_owned()),
            (TOPIC_ID, (*topic_id).to_owned()),
            ("odradek.partition", partition.to_string()),
            ("odradek.first_offset", self.first.to_string()),
            ("odradek.last_offset", last.to_string()),
            ("odradek.rows", self.rows.to_string()),
        ];
        for (key, value) in pairs {
            self.writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        if let Some((from, to)) = gap_before {
            let value = format!("{from}-{}", to - 1);
            self.writer.append_key_value_metadata(KeyValue::new(GAP_BEFORE.to_owned(), value));
        }
        let file = self.writer.into_inner().map_err(parquet(&self.temporary))?;
        file.sync_all().map_err(io(&self.temporary))?;
        // Windows does not rename an open file.
        drop(file);
        let name = format!("{topic}-p{partition}-{}-{last}.parquet", self.first);
        let path = folder.join(name);
        fs::rename(&self.temporary, &path).map_err(io(&path))?;
        sync_folder(folder)?;
        Ok(path)
    }
}

/// A rename is durable on Unix when its folder is synced; on Windows a folder cannot be opened as
/// a file, and NTFS journals the rename itself.
fn sync_folder(folder: &Path) -> Result<(), FolderError> {
    if cfg!(unix) {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(folder))?;
    }
    Ok(())
}
