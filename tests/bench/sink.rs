//! A server that does nothing, for as little processor time as can be: what a client reaches
//! against it is the client's own ceiling on this machine. `sink PORT` listens on loopback until it
//! is killed; `sink.py` builds it with rustc alone.
//!
//! It speaks just enough of Kafka's protocol for the perf tools: one version of each API, which
//! `harness/wire.py` and `contestants.py` speak, too. A batch is counted, acknowledged and
//! forgotten; nothing of it but its header is looked at, and nothing is written. So that there is
//! something to read, the largest batch of each partition is kept, and given to readers again and
//! again, with other base offsets, until they have as many records as were counted. Groups,
//! transactions and acks=0 are not served. It believes what a client says: it is for clients that
//! we start ourselves.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const LIST_OFFSETS: i16 = 2;
const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
const CREATE_TOPICS: i16 = 19;
const DELETE_TOPICS: i16 = 20;
const INIT_PRODUCER_ID: i16 = 22;
/// Each API with its one version.
const SERVED: [(i16, i16); 8] = [
    (PRODUCE, 7),
    (FETCH, 4),
    (LIST_OFFSETS, 1),
    (METADATA, 1),
    (API_VERSIONS, 0),
    (CREATE_TOPICS, 2),
    (DELETE_TOPICS, 1),
    (INIT_PRODUCER_ID, 1),
];

const NO_ERROR: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const UNSUPPORTED_VERSION: i16 = 35;
const BROKER_ID: i32 = 1;
const EARLIEST: i64 = -2;
/// Where a batch says by how much its last offset is above its first one, and the header's end.
const LAST_OFFSET_DELTA_AT: usize = 23;
const HEADER_BYTES: usize = 61;

#[derive(Clone, Default)]
struct Partition {
    records: i64,
    largest: Arc<Vec<u8>>,
}

#[derive(Default)]
struct Topics {
    partitions: Mutex<HashMap<String, Vec<Partition>>>,
    grown: Condvar,
}

impl Topics {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Partition>>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The base offset that this batch gets.
    fn take(&self, name: &str, index: i32, batch: &[u8]) -> Option<i64> {
        let mut topics = self.lock();
        let partition = topics.get_mut(name)?.get_mut(usize::try_from(index).ok()?)?;
        let base_offset = partition.records;
        partition.records += records_of(batch)?;
        if batch.len() > partition.largest.len() {
            partition.largest = Arc::new(batch.to_vec());
        }
        Some(base_offset)
    }

    fn at(&self, name: &str, index: i32) -> Option<Partition> {
        self.lock().get(name)?.get(usize::try_from(index).ok()?).cloned()
    }

    /// Waits until one of these has more records than its offset says, or until the deadline.
    fn wait(&self, wanted: &[(String, i32, i64)], deadline: Instant) {
        let mut topics = self.lock();
        loop {
            let is_there = wanted.iter().any(|(name, index, offset)| {
                let partitions = topics.get(name).map_or(&[][..], Vec::as_slice);
                usize::try_from(*index)
                    .ok()
                    .and_then(|index| partitions.get(index))
                    .is_none_or(|partition| partition.records > *offset)
            });
            let left = deadline.saturating_duration_since(Instant::now());
            if is_there || left.is_zero() {
                return;
            }
            let woken = self.grown.wait_timeout(topics, left);
            topics = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn records_of(batch: &[u8]) -> Option<i64> {
    let delta = batch.get(LAST_OFFSET_DELTA_AT..)?.first_chunk()?;
    (batch.len() >= HEADER_BYTES).then_some(i64::from(i32::from_be_bytes(*delta)) + 1)
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let port: u16 = port.ok_or_else(|| io::Error::other("usage: sink PORT"))?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let topics = Arc::new(Topics::default());
    for stream in listener.incoming() {
        let (stream, topics) = (stream?, Arc::clone(&topics));
        // A connection that ends, however it does, is its client's affair.
        thread::spawn(move || serve(stream, port, &topics));
    }
    Ok(())
}

/// One connection: a request, its answer, the next request.
fn serve(mut stream: TcpStream, port: u16, topics: &Topics) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut frame, mut reply) = (Vec::new(), Reply::default());
    loop {
        let mut size = [0; 4];
        stream.read_exact(&mut size)?;
        let size = usize::try_from(i32::from_be_bytes(size)).map_err(io::Error::other)?;
        if frame.len() < size {
            frame.resize(size, 0);
        }
        stream.read_exact(&mut frame[..size])?;
        reply.0.clear();
        reply.i32(0); // its size, once that is known
        let mut request = Request(&frame[..size]);
        answer(&mut request, &mut reply, port, topics)
            .ok_or_else(|| io::Error::other("a request that is not served"))?;
        let size = i32::try_from(reply.0.len() - 4).map_err(io::Error::other)?;
        reply.0[..4].copy_from_slice(&size.to_be_bytes());
        stream.write_all(&reply.0)?;
    }
}

fn answer(request: &mut Request, reply: &mut Reply, port: u16, topics: &Topics) -> Option<()> {
    let (key, version, correlation) = (request.i16()?, request.i16()?, request.i32()?);
    reply.i32(correlation);
    let known = SERVED.contains(&(key, version));
    if key == API_VERSIONS {
        // Newer clients ask with their newest version first, and look into the answer for ours.
        api_versions(reply, if known { NO_ERROR } else { UNSUPPORTED_VERSION });
        return Some(());
    }
    if !known {
        return None;
    }
    request.string()?; // the client's name
    match key {
        PRODUCE => produce(request, reply, topics),
        FETCH => fetch(request, reply, topics),
        LIST_OFFSETS => list_offsets(request, reply, topics),
        METADATA => metadata(request, reply, port, topics),
        CREATE_TOPICS => create_topics(request, reply, topics),
        DELETE_TOPICS => delete_topics(request, reply, topics),
        INIT_PRODUCER_ID => {
            reply.i32(0).i16(NO_ERROR).i64(1).i16(0);
            Some(())
        }
        _ => None,
    }
}

fn api_versions(reply: &mut Reply, error: i16) {
    reply.i16(error).count(SERVED.len());
    for (key, version) in SERVED {
        reply.i16(key).i16(version).i16(version);
    }
}

/// Request and reply of three APIs have the same skeleton: topics, their partitions, and what `one`
/// reads and writes for each of those.
fn each_partition(
    request: &mut Request,
    reply: &mut Reply,
    mut one: impl FnMut(&mut Request, &mut Reply, &str, i32) -> Option<()>,
) -> Option<()> {
    let topics = request.i32()?;
    reply.i32(topics);
    for _ in 0..topics {
        let name = request.string()?;
        let partitions = request.i32()?;
        reply.string(name).i32(partitions);
        for _ in 0..partitions {
            let index = request.i32()?;
            reply.i32(index);
            one(request, reply, name, index)?;
        }
    }
    Some(())
}

fn produce(request: &mut Request, reply: &mut Reply, topics: &Topics) -> Option<()> {
    request.string()?; // a transaction's name
    request.take(6)?; // acks and the time for them
    each_partition(request, reply, |request, reply, name, index| {
        let base_offset = topics.take(name, index, request.bytes()?);
        let error = if base_offset.is_some() { NO_ERROR } else { UNKNOWN_TOPIC_OR_PARTITION };
        reply.i16(error).i64(base_offset.unwrap_or(-1));
        reply.i64(-1).i64(0); // time of appending, and the log's start
        Some(())
    })?;
    topics.grown.notify_all();
    reply.i32(0); // no throttling
    Some(())
}

fn fetch(request: &mut Request, reply: &mut Reply, topics: &Topics) -> Option<()> {
    request.i32()?; // no replica
    let wait = Duration::from_millis(u64::try_from(request.i32()?).ok()?);
    request.i32()?; // least bytes: one is enough
    let mut left = usize::try_from(request.i32()?).ok()?;
    request.take(1)?; // isolation
    let mut wanted = Vec::new();
    let mut ahead = Request(request.0);
    each_partition(&mut ahead, &mut Reply::default(), |ahead, _, name, index| {
        wanted.push((name.to_owned(), index, ahead.i64()?));
        ahead.i32().map(drop)
    })?;
    topics.wait(&wanted, Instant::now() + wait);
    reply.i32(0); // no throttling
    each_partition(request, reply, |request, reply, name, index| {
        let (offset, bytes_max) = (request.i64()?, usize::try_from(request.i32()?).ok()?);
        let partition = topics.at(name, index);
        let error = if partition.is_some() { NO_ERROR } else { UNKNOWN_TOPIC_OR_PARTITION };
        let partition = partition.unwrap_or_default();
        reply.i16(error).i64(partition.records).i64(partition.records).i32(-1);
        let before = reply.0.len();
        again_and_again(reply, &partition, offset, bytes_max.min(left))?;
        left = left.saturating_sub(reply.0.len() - before);
        Some(())
    })
}

/// The partition's largest batch from this offset on, as often as it fits; once at least.
fn again_and_again(
    reply: &mut Reply,
    partition: &Partition,
    mut offset: i64,
    bytes_max: usize,
) -> Option<()> {
    let batch = partition.largest.as_slice();
    let begin = reply.0.len();
    reply.i32(0); // the size of what follows, once that is known
    let mut bytes = 0;
    while offset < partition.records && (bytes == 0 || bytes + batch.len() <= bytes_max) {
        reply.i64(offset);
        reply.0.extend_from_slice(batch.get(8..)?);
        offset += records_of(batch)?;
        bytes += batch.len();
    }
    reply.0[begin..begin + 4].copy_from_slice(&i32::try_from(bytes).ok()?.to_be_bytes());
    Some(())
}

fn list_offsets(request: &mut Request, reply: &mut Reply, topics: &Topics) -> Option<()> {
    request.i32()?; // no replica
    each_partition(request, reply, |request, reply, name, index| {
        let time = request.i64()?;
        let partition = topics.at(name, index);
        let error = if partition.is_some() { NO_ERROR } else { UNKNOWN_TOPIC_OR_PARTITION };
        let end = partition.unwrap_or_default().records;
        reply.i16(error).i64(-1).i64(if time == EARLIEST { 0 } else { end });
        Some(())
    })
}

fn metadata(request: &mut Request, reply: &mut Reply, port: u16, topics: &Topics) -> Option<()> {
    let asked = request.i32()?;
    let names = (0..asked).map(|_| request.string()).collect::<Option<Vec<_>>>()?;
    let topics = topics.lock();
    let names = if asked < 0 { topics.keys().map(String::as_str).collect() } else { names };
    reply.i32(1).i32(BROKER_ID).string("127.0.0.1").i32(i32::from(port)).i16(-1); // no rack
    reply.i32(BROKER_ID).count(names.len());
    for name in names {
        let partitions = topics.get(name).map(Vec::len);
        let error = if partitions.is_some() { NO_ERROR } else { UNKNOWN_TOPIC_OR_PARTITION };
        reply.i16(error).string(name).i8(0).count(partitions.unwrap_or(0));
        for index in 0..partitions.unwrap_or(0) {
            // Leader, replicas and those in sync: the one broker.
            reply.i16(NO_ERROR).count(index).i32(BROKER_ID);
            reply.i32(1).i32(BROKER_ID).i32(1).i32(BROKER_ID);
        }
    }
    Some(())
}

/// Of one topic, without configurations.
fn create_topics(request: &mut Request, reply: &mut Reply, topics: &Topics) -> Option<()> {
    if request.i32()? != 1 {
        return None;
    }
    let (name, partitions) = (request.string()?, usize::try_from(request.i32()?).ok()?);
    topics.lock().insert(name.to_owned(), vec![Partition::default(); partitions]);
    reply.i32(0).i32(1).string(name).i16(NO_ERROR).i16(-1); // no words to it
    Some(())
}

fn delete_topics(request: &mut Request, reply: &mut Reply, topics: &Topics) -> Option<()> {
    let count = request.i32()?;
    reply.i32(0).i32(count);
    for _ in 0..count {
        let name = request.string()?;
        let was_there = topics.lock().remove(name).is_some();
        reply.string(name);
        reply.i16(if was_there { NO_ERROR } else { UNKNOWN_TOPIC_OR_PARTITION });
    }
    Some(())
}

/// What is left of a request. None where it ends too early.
struct Request<'a>(&'a [u8]);

impl<'a> Request<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn i16(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn i32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn i64(&mut self) -> Option<i64> {
        Some(i64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    /// Empty where it is null.
    fn string(&mut self) -> Option<&'a str> {
        let size = usize::try_from(self.i16()?).unwrap_or(0);
        std::str::from_utf8(self.take(size)?).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let size = usize::try_from(self.i32()?).ok()?;
        self.take(size)
    }
}

#[derive(Default)]
struct Reply(Vec<u8>);

impl Reply {
    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn i8(&mut self, value: i8) -> &mut Self {
        self.put(&value.to_be_bytes())
    }

    fn i16(&mut self, value: i16) -> &mut Self {
        self.put(&value.to_be_bytes())
    }

    fn i32(&mut self, value: i32) -> &mut Self {
        self.put(&value.to_be_bytes())
    }

    fn i64(&mut self, value: i64) -> &mut Self {
        self.put(&value.to_be_bytes())
    }

    /// Of something that is in memory, and so is no more than 2^31.
    fn count(&mut self, count: usize) -> &mut Self {
        self.i32(i32::try_from(count).unwrap_or(i32::MAX))
    }

    /// A string that came in a request, and so is no longer than 2^15.
    fn string(&mut self, text: &str) -> &mut Self {
        self.i16(i16::try_from(text.len()).unwrap_or(i16::MAX)).put(text.as_bytes())
    }
}
