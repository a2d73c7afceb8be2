//! First step: the public face over memory alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, mpsc};

use bytes::{Bytes, BytesMut};

use crate::disk::Disk;
use crate::types::*;
use crate::wire;

type Partitions = Arc<Mutex<HashMap<PartitionId, Held>>>;

#[derive(Debug, Default)]
struct Held {
    start: i64,
    end: i64,
    batches: Vec<(i64, i64, Bytes)>,
}

pub struct Log {
    partitions: Partitions,
    queue: Mutex<Option<mpsc::Sender<Unit>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Log {
    pub fn open(options: Options, disk: Arc<dyn Disk>) -> Result<(Log, OpenReport), OpenError> {
        let _ = (options, disk);
        let log = Log {
            partitions: Partitions::default(),
            queue: Mutex::new(None),
            thread: Mutex::new(None),
        };
        Ok((log, OpenReport::default()))
    }

    pub fn attach(&self, spec: PartitionSpec) -> Result<Ends, AttachError> {
        let start = spec.log_start_offset;
        let held = Held { start, end: start, batches: Vec::new() };
        self.partitions.lock().expect("lock").insert(spec.id, held);
        Ok(Ends { log_start_offset: start, log_end_offset: start, ..Ends::default() })
    }

    pub fn start(&self) -> Result<StartReport, OpenError> {
        let (sender, receiver) = mpsc::channel::<Unit>();
        *self.queue.lock().expect("lock") = Some(sender);
        let partitions = self.partitions.clone();
        let thread = std::thread::spawn(move || {
            for unit in receiver {
                for append in unit.appends {
                    if let Some(held) = partitions.lock().expect("lock").get_mut(&append.partition)
                    {
                        held.append(&append);
                    }
                }
                (unit.done)(Ok(()));
            }
        });
        *self.thread.lock().expect("lock") = Some(thread);
        Ok(StartReport::default())
    }

    /// Queue push only; `done` is called on the commit thread once the unit is durable.
    pub fn commit(&self, unit: Unit) {
        let sender = self.queue.lock().expect("lock").clone();
        match sender {
            Some(sender) => drop(sender.send(unit)),
            None => (unit.done)(Err(CommitError::Closed)),
        }
    }

    pub fn ends(&self, id: PartitionId) -> Option<Ends> {
        let partitions = self.partitions.lock().expect("lock");
        let held = partitions.get(&id)?;
        Some(Ends {
            log_start_offset: held.start,
            log_end_offset: held.end,
            max_timestamp_ms: -1,
            ..Ends::default()
        })
    }

    pub fn read_cached(&self, id: PartitionId, offset: i64, bytes_max: usize) -> Cached {
        match self.read(id, offset, bytes_max) {
            Ok(read) if read.batches.is_empty() => Cached::AtEnd,
            Ok(read) => Cached::Hit(read),
            Err(_) => Cached::Miss,
        }
    }

    pub fn read(&self, id: PartitionId, offset: i64, bytes_max: usize) -> Result<Read, ReadError> {
        let partitions = self.partitions.lock().expect("lock");
        let held = partitions.get(&id).ok_or(ReadError::UnknownPartition)?;
        if offset < held.start || offset > held.end {
            return Err(ReadError::OffsetOutOfRange {
                offset,
                log_start_offset: held.start,
                log_end_offset: held.end,
            });
        }
        let mut read = Read { batches: Vec::new(), next_offset: offset };
        for (_, last, batch) in held.batches.iter().filter(|(_, last, _)| *last >= offset) {
            if !read.batches.is_empty() && read.byte_count() + batch.len() > bytes_max {
                break;
            }
            read.batches.push(batch.clone());
            read.next_offset = last + 1;
        }
        Ok(read)
    }

    pub fn offset_for_time(
        &self,
        _id: PartitionId,
        _timestamp_ms: i64,
    ) -> Result<Option<TimeHit>, ReadError> {
        Ok(None)
    }

    pub fn max_timestamp(&self, _id: PartitionId) -> Result<Option<TimeHit>, ReadError> {
        Ok(None)
    }

    pub fn next_in_time(
        &self,
        id: PartitionId,
        _from_ms: i64,
        _to_ms: i64,
        at_offset: i64,
    ) -> Result<Option<i64>, ReadError> {
        Ok(self.ends(id).filter(|ends| at_offset < ends.log_end_offset).map(|_| at_offset))
    }

    pub fn retention(
        &self,
        _id: PartitionId,
        _now_ms: i64,
        _retention_ms: Option<i64>,
        _retention_bytes: Option<i64>,
    ) -> Option<i64> {
        None
    }

    pub fn trim(&self, id: PartitionId, log_start_offset: i64) {
        if let Some(held) = self.partitions.lock().expect("lock").get_mut(&id) {
            held.start = log_start_offset;
        }
    }

    pub fn remove(&self, id: PartitionId) {
        self.partitions.lock().expect("lock").remove(&id);
    }

    pub fn keyed(&self, _id: PartitionId) -> Result<BTreeMap<Bytes, Bytes>, ReadError> {
        Ok(BTreeMap::new())
    }

    pub fn producers(&self, _id: PartitionId) -> Result<Vec<ProducerEntry>, ReadError> {
        Ok(Vec::new())
    }

    pub fn set_settings(&self, _id: PartitionId, _settings: PartitionSettings) {}

    pub fn failed(&self) -> Option<String> {
        None
    }

    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Clean stop.
    pub fn close(&self) {
        self.queue.lock().expect("lock").take();
        if let Some(thread) = self.thread.lock().expect("lock").take() {
            let _ = thread.join();
        }
    }
}

impl Held {
    fn append(&mut self, append: &Append) {
        let mut base = append.base_offset;
        for (_, batch) in wire::batches(&append.batches) {
            let mut bytes = BytesMut::from(&batch[..]);
            let last = base + i64::from(wire::last_offset_delta(&batch).unwrap_or(0));
            bytes[0..8].copy_from_slice(&base.to_be_bytes());
            bytes[12..16].copy_from_slice(&append.leader_epoch.to_be_bytes());
            self.batches.push((base, last, bytes.freeze()));
            base = last + 1;
        }
        self.end = base;
    }
}
