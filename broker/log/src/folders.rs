//! Partition folders: `<topic>-<partition>` as Kafka names them, each with Kafka's
//! `partition.metadata`, so that a folder says whose it is. Where the file system ignores case,
//! or an old topic's folder still stands, the topic id is added to the name.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use crate::disk::{Disk, DiskFile};
use crate::types::{FoundFolder, PartitionId, PartitionSpec};

pub(crate) const METADATA_NAME: &str = "partition.metadata";
const METADATA_BYTES_MAX: usize = 1024;
/// Longest file name of the file systems in question.
const NAME_BYTES_MAX: usize = 255;

/// All folders in the log's folder, by their name in lower case.
#[derive(Default)]
pub(crate) struct Folders {
    by_name: BTreeMap<String, Folder>,
    /// The first folder by name of each partition that says whose it is: a start places every
    /// partition, and would otherwise look at all folders for each.
    by_owner: HashMap<(Uuid, i32), String>,
    /// The last run did not close: what it wrote last may be in the page cache only.
    unclean: bool,
}

pub(crate) struct Placed {
    pub folder: String,
    pub metadata: Metadata,
}

/// What is known of a folder's metadata file, and of the names that lead to it.
pub(crate) enum Metadata {
    Durable,
    /// Read, perhaps from a page that no sync covered. Where a segment was made behind it, it had
    /// been synced.
    Unproven,
    /// Not synced yet.
    Written(Arc<dyn DiskFile>),
}

struct Folder {
    found: FoundFolder,
    attached: bool,
    /// Nothing says whose it is, and there is nothing in it: a removal ended between its last file
    /// and itself, or a creation before its first.
    is_husk: bool,
}

impl Folders {
    pub fn list(disk: &dyn Disk, unclean: bool) -> io::Result<Folders> {
        let mut folders = Folders { unclean, ..Folders::default() };
        for entry in disk.list("")?.into_iter().filter(|entry| entry.is_folder) {
            let topic_id = read_metadata(disk, &entry.name)?.or_else(|| id_in(&entry.name));
            let partition = partition_of(&entry.name);
            let is_husk = topic_id.is_none() && partition.is_some() && {
                let mut inside = disk.list(&entry.name)?.into_iter();
                inside.all(|inner| inner.name == METADATA_NAME && !inner.is_folder)
            };
            let key = entry.name.to_lowercase();
            let found = FoundFolder { folder: entry.name, topic_id, partition };
            folders.by_name.insert(key, Folder { found, attached: false, is_husk });
        }
        let owned = folders.by_name.iter().filter_map(|(key, f)| Some((f.owner()?, key.clone())));
        for (owner, key) in owned {
            folders.by_owner.entry(owner).or_insert(key);
        }
        Ok(folders)
    }

    pub fn found(&self) -> Vec<FoundFolder> {
        let partitions = self.by_name.values().filter(|f| f.found.partition.is_some());
        partitions.map(|folder| folder.found.clone()).collect()
    }

    /// Folders that say whose they are, and whose owner nobody attached; and husks of folders.
    pub fn orphans(&self) -> Vec<String> {
        let orphans = self
            .by_name
            .values()
            .filter(|folder| !folder.attached && (folder.owner().is_some() || folder.is_husk));
        orphans.map(|folder| folder.found.folder.clone()).collect()
    }

    /// The partition's, if some folder says that it is.
    pub fn of(&self, id: PartitionId) -> Option<&str> {
        let key = self.by_owner.get(&(id.topic_id, id.partition))?;
        self.by_name.get(key).map(|folder| folder.found.folder.as_str())
    }

    pub fn is_unclean(&self) -> bool {
        self.unclean
    }

    pub fn forget(&mut self, folder: &str) {
        let key = folder.to_lowercase();
        let owner = self.by_name.remove(&key).and_then(|folder| folder.owner());
        if let Some(owner) = owner
            && self.by_owner.get(&owner) == Some(&key)
        {
            self.by_owner.remove(&owner);
        }
    }

    /// The partition's folder, made if it has none.
    pub fn place(&mut self, disk: &dyn Disk, spec: &PartitionSpec) -> io::Result<Placed> {
        let owner = (spec.id.topic_id, spec.id.partition);
        let found = match self.by_owner.get(&owner) {
            Some(key) => self.by_name.get_mut(key),
            None => {
                let named = self.by_name.get_mut(&spec.folder.to_lowercase());
                named.filter(|folder| folder.was(spec))
            }
        };
        if let Some(found) = found {
            let damaged = found.found.topic_id != Some(spec.id.topic_id);
            found.attached = true;
            let folder = found.found.folder.clone();
            if damaged {
                tracing::warn!(
                    folder,
                    "the topic id beside its segments was damaged; written anew"
                );
            }
            let metadata = match damaged {
                true => Metadata::Written(write_metadata(disk, &folder, spec.id.topic_id)?),
                false if self.unclean => Metadata::Unproven,
                false => Metadata::Durable,
            };
            return Ok(Placed { folder, metadata });
        }
        let name = self.free_name(spec);
        disk.create_folder(&name)?;
        let metadata = Metadata::Written(write_metadata(disk, &name, spec.id.topic_id)?);
        let found = FoundFolder {
            folder: name.clone(),
            topic_id: Some(spec.id.topic_id),
            partition: Some(spec.id.partition),
        };
        let key = name.to_lowercase();
        self.by_owner.insert(owner, key.clone());
        self.by_name.insert(key, Folder { found, attached: true, is_husk: false });
        Ok(Placed { folder: name, metadata })
    }

    /// A folder without readable metadata holds nothing of ours (the metadata is durable before the
    /// first segment is made, and goes last), or comes from an old Kafka; both are taken over.
    fn free_name(&self, spec: &PartitionSpec) -> String {
        let taken = self.by_name.get(&spec.folder.to_lowercase());
        let ours = taken.is_none_or(|folder| {
            folder.found.topic_id.is_none()
                && !folder.attached
                && folder.found.folder == spec.folder
        });
        if ours && spec.folder.len() <= NAME_BYTES_MAX {
            return spec.folder.clone();
        }
        let suffix = format!("-{}.{}", spec.id.partition, spec.id.topic_id.simple());
        let topic = spec.folder.rsplit_once('-').map_or(spec.folder.as_str(), |(topic, _)| topic);
        let mut topic = topic.to_owned();
        while topic.len() + suffix.len() > NAME_BYTES_MAX {
            topic.pop();
        }
        topic + &suffix
    }
}

/// Two topics' ids, which are random but for six bits, differ in more than so many: one letter of
/// the metadata that is another now changes up to six.
const DAMAGED_BITS_MAX: u32 = 8;

impl Folder {
    fn owner(&self) -> Option<(Uuid, i32)> {
        Some((self.found.topic_id?, self.found.partition?))
    }

    /// Whether this is the partition's folder, and only what says whose it is was damaged. Taken
    /// for another topic's, it would be removed with all that is in it.
    fn was(&self, spec: &PartitionSpec) -> bool {
        let differing = |id: Uuid| (id.as_u128() ^ spec.id.topic_id.as_u128()).count_ones();
        let near = self.found.topic_id.is_some_and(|id| differing(id) <= DAMAGED_BITS_MAX);
        !self.attached && self.found.folder == spec.folder && near
    }
}

/// Written, not synced.
pub(crate) fn write_metadata(
    disk: &dyn Disk,
    folder: &str,
    topic_id: Uuid,
) -> io::Result<Arc<dyn DiskFile>> {
    let text = metadata_text(topic_id);
    let metadata = disk.create(&format!("{folder}/{METADATA_NAME}"))?;
    metadata.write_all_at(text.as_bytes(), 0)?;
    metadata.set_len(text.len() as u64)?;
    Ok(metadata)
}

fn metadata_text(topic_id: Uuid) -> String {
    format!("version: 0\ntopic_id: {}\n", URL_SAFE_NO_PAD.encode(topic_id.as_bytes()))
}

/// `None` if there is none that makes sense. A disk that does not answer is an error: a folder that
/// is thought to be nobody's is given away.
fn read_metadata(disk: &dyn Disk, folder: &str) -> io::Result<Option<Uuid>> {
    let file = match disk.open(&format!("{folder}/{METADATA_NAME}")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let bytes = file.byte_count()?;
    let Some(bytes) = usize::try_from(bytes).ok().filter(|bytes| *bytes <= METADATA_BYTES_MAX)
    else {
        return Ok(None);
    };
    let mut buffer = vec![0; bytes];
    file.read_exact_at(&mut buffer, 0)?;
    Ok(String::from_utf8(buffer).ok().and_then(|text| id_of(&text)))
}

fn id_of(metadata: &str) -> Option<Uuid> {
    let id = metadata.lines().find_map(|line| line.strip_prefix("topic_id: "))?;
    let bytes = URL_SAFE_NO_PAD.decode(id.trim()).ok()?;
    Uuid::from_slice(&bytes).ok()
}

/// The topic id that stands in the folder's own name.
fn id_in(folder: &str) -> Option<Uuid> {
    partition_of(folder)?;
    let (_, id) = folder.rsplit_once('.')?;
    Uuid::try_parse(id).ok()
}

/// The number behind the last dash, with or without a topic id behind that.
fn partition_of(folder: &str) -> Option<i32> {
    let (_, number) = folder.rsplit_once('-')?;
    let number = match number.split_once('.') {
        Some((number, id)) if Uuid::try_parse(id).is_ok() => number,
        Some(_) => return None,
        None => number,
    };
    number.parse().ok().filter(|partition| *partition >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;
    use crate::types::PartitionSettings;

    #[test]
    fn metadata_is_written_as_kafka_writes_it() {
        let id = Uuid::try_parse("00010203-0405-0607-0809-0a0b0c0d0e0f").expect("a uuid");
        assert_eq!(metadata_text(id), "version: 0\ntopic_id: AAECAwQFBgcICQoLDA0ODw\n");
    }

    #[test]
    fn a_flipped_bit_in_its_metadata_does_not_give_a_folder_away() {
        let disk = MemoryDisk::new(1);
        let topic_id = Uuid::from_u128(0x6f64_7261_6465_4b21_8a5c_0f1e_73a1_55aa);
        let spec = PartitionSpec {
            id: PartitionId { topic_id, partition: 3 },
            folder: "topic-3".to_owned(),
            keyed: false,
            makes_room: false,
            log_start_offset: 0,
            settings: PartitionSettings::default(),
        };
        let folder = Folders::default().place(&disk, &spec).expect("the disk is whole").folder;
        let path = format!("{folder}/{METADATA_NAME}");
        let whole = disk.content(&path).expect("it was written");
        for bit in 0..whole.len() * 8 {
            disk.flip_bit(&path, bit);
            let mut folders = Folders::list(&disk, false).expect("the disk is whole");
            let found = folders.place(&disk, &spec).expect("the disk is whole").folder;
            assert_eq!((&found, folders.orphans()), (&folder, Vec::new()), "bit {bit}");
            // Some bits say nothing of the id, and stay.
            if disk.content(&path).as_ref() != Some(&whole) {
                disk.flip_bit(&path, bit);
            }
        }
        // Another topic's folder is another one's, whatever its name.
        let id = PartitionId { topic_id: Uuid::from_u128(!topic_id.as_u128()), ..spec.id };
        let mut folders = Folders::list(&disk, false).expect("the disk is whole");
        let other = PartitionSpec { id, ..spec };
        assert_ne!(folders.place(&disk, &other).expect("the disk is whole").folder, folder);
        assert_eq!(folders.orphans(), [folder]);
    }

    #[test]
    fn what_a_removal_left_goes_at_the_next_start_and_a_foreign_segment_stays() {
        let disk = MemoryDisk::new(1);
        for (folder, files) in [
            ("gone-0", vec![]),
            ("torn-0", vec![METADATA_NAME]),
            ("foreign-0", vec!["00000000000000000000.log"]),
            ("notes", vec![]),
        ] {
            disk.create_folder(folder).expect("the disk is whole");
            for file in files {
                disk.create(&format!("{folder}/{file}")).expect("the disk is whole");
            }
        }
        let folders = Folders::list(&disk, true).expect("the disk is whole");
        assert_eq!(folders.orphans(), ["gone-0", "torn-0"]);
    }

    #[test]
    fn the_partition_number_stands_behind_the_last_dash() {
        assert_eq!(partition_of("a-b.c-12"), Some(12));
        assert_eq!(partition_of("t-0.000102030405060708090a0b0c0d0e0f"), Some(0));
        assert_eq!(partition_of("t-0.delete"), None);
        assert_eq!(partition_of("sled"), None);
    }
}
