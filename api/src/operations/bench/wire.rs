//! Kafka's protocol as far as a load needs it: Produce 7 and Fetch 4, whose layout is fixed, and
//! batches that are made once and sent many times. One connection, one thread, blocking.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const PRODUCE: (i16, i16) = (0, 7);
const FETCH: (i16, i16) = (1, 4);
/// Every replica, which here is one.
const ACKS_ALL: i16 = -1;
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);
/// An answer to a fetch holds what was asked for and a little more.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// In a batch (magic 2): what precedes the length's own count, and where what it holds is found.
const BATCH_HEAD_BYTES: usize = 12;
const CHECKED_FROM: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;

pub struct Connection {
    stream: TcpStream,
    correlation: i32,
    answer: Vec<u8>,
}

/// What a fetch brought of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub partition: i32,
    pub next_offset: Option<i64>,
    pub records: u64,
    pub bytes: u64,
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REQUEST_TIME_MAX))?;
        stream.set_write_timeout(Some(REQUEST_TIME_MAX))?;
        Ok(Self { stream, correlation: 0, answer: Vec::new() })
    }

    /// Sends a frame that [`produce_frame`] made; answers come in the order of the frames.
    pub fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.stream.write_all(frame)
    }

    /// Waits for one answer to a Produce; an error in it for any partition is an error.
    pub fn produced(&mut self) -> io::Result<()> {
        self.receive()?;
        let mut reader = Reader { bytes: &self.answer, at: 4 };
        for _ in 0..reader.i32()? {
            reader.string()?;
            for _ in 0..reader.i32()? {
                let (partition, error) = (reader.i32()?, reader.i16()?);
                reader.skip(24)?;
                if error != 0 {
                    return Err(refused("Produce", partition, error));
                }
            }
        }
        Ok(())
    }

    /// Reads each partition from its offset on.
    pub fn fetch(
        &mut self,
        topic: &str,
        offsets: &[i64],
        partition_bytes: i32,
    ) -> io::Result<Vec<Piece>> {
        let mut frame = header(FETCH, self.correlation);
        self.correlation = self.correlation.wrapping_add(1);
        frame.extend_from_slice(&(-1_i32).to_be_bytes());
        frame.extend_from_slice(&100_i32.to_be_bytes());
        frame.extend_from_slice(&1_i32.to_be_bytes());
        let all = partition_bytes.saturating_mul(count(offsets.len()));
        frame.extend_from_slice(&all.to_be_bytes());
        frame.push(0);
        frame.extend_from_slice(&1_i32.to_be_bytes());
        string(&mut frame, topic);
        frame.extend_from_slice(&count(offsets.len()).to_be_bytes());
        for (partition, offset) in offsets.iter().enumerate() {
            frame.extend_from_slice(&count(partition).to_be_bytes());
            frame.extend_from_slice(&offset.to_be_bytes());
            frame.extend_from_slice(&partition_bytes.to_be_bytes());
        }
        finish(&mut frame);
        self.stream.write_all(&frame)?;
        self.receive()?;
        pieces(&self.answer)
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > ANSWER_BYTES_MAX {
            return Err(io::Error::other(format!("an answer of {length} bytes")));
        }
        self.answer.resize(length, 0);
        self.stream.read_exact(&mut self.answer)
    }
}

fn pieces(answer: &[u8]) -> io::Result<Vec<Piece>> {
    let mut reader = Reader { bytes: answer, at: 8 };
    let mut found = Vec::new();
    for _ in 0..reader.i32()? {
        reader.string()?;
        for _ in 0..reader.i32()? {
            let (partition, error) = (reader.i32()?, reader.i16()?);
            reader.skip(16)?;
            if error != 0 {
                return Err(refused("Fetch", partition, error));
            }
            let aborted = usize::try_from(reader.i32()?).unwrap_or(0);
            reader.skip(aborted.saturating_mul(16))?;
            let length = usize::try_from(reader.i32()?).unwrap_or(0);
            found.push(batches(partition, reader.take(length)?));
        }
    }
    Ok(found)
}

/// Goes from head to head; the last batch may be cut off, and then does not count.
fn batches(partition: i32, mut stored: &[u8]) -> Piece {
    let mut piece = Piece { partition, next_offset: None, records: 0, bytes: 0 };
    loop {
        let mut reader = Reader { bytes: stored, at: 0 };
        let (Ok(base), Ok(length)) = (reader.i64(), reader.i32()) else { return piece };
        let length = BATCH_HEAD_BYTES.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
        reader.at = LAST_OFFSET_DELTA_AT;
        let Ok(last) = reader.i32() else { return piece };
        let Some(rest) = stored.get(length..) else { return piece };
        piece.next_offset = Some(base + i64::from(last) + 1);
        piece.records += u64::try_from(last).unwrap_or(0) + 1;
        piece.bytes += length as u64;
        stored = rest;
    }
}

/// A Produce with this batch for each of the partitions.
pub fn produce_frame(topic: &str, partitions: i32, batch: &[u8]) -> Vec<u8> {
    let mut frame = header(PRODUCE, 0);
    frame.extend_from_slice(&(-1_i16).to_be_bytes());
    frame.extend_from_slice(&ACKS_ALL.to_be_bytes());
    frame.extend_from_slice(&30_000_i32.to_be_bytes());
    frame.extend_from_slice(&1_i32.to_be_bytes());
    string(&mut frame, topic);
    frame.extend_from_slice(&partitions.to_be_bytes());
    for partition in 0..partitions {
        frame.extend_from_slice(&partition.to_be_bytes());
        frame.extend_from_slice(&count(batch.len()).to_be_bytes());
        frame.extend_from_slice(batch);
    }
    finish(&mut frame);
    frame
}

/// A record batch, magic 2, not compressed, of records without a key.
pub fn batch(values: &[&[u8]], timestamp_ms: i64) -> Vec<u8> {
    let mut batch = vec![0; 8 + 4 + 4];
    batch.push(2);
    batch.extend_from_slice(&[0; 4]);
    batch.extend_from_slice(&0_i16.to_be_bytes());
    batch.extend_from_slice(&(count(values.len()) - 1).to_be_bytes());
    batch.extend_from_slice(&timestamp_ms.to_be_bytes());
    batch.extend_from_slice(&timestamp_ms.to_be_bytes());
    // No producer id, no epoch, no sequence.
    batch.extend_from_slice(&[0xff; 8 + 2 + 4]);
    batch.extend_from_slice(&count(values.len()).to_be_bytes());
    for (index, value) in values.iter().enumerate() {
        let mut record = vec![0, 0];
        varint(&mut record, i64::from(count(index)));
        varint(&mut record, -1);
        varint(&mut record, i64::from(count(value.len())));
        record.extend_from_slice(value);
        record.push(0);
        varint(&mut batch, i64::from(count(record.len())));
        batch.extend_from_slice(&record);
    }
    let length = count(batch.len() - BATCH_HEAD_BYTES).to_be_bytes();
    batch[8..BATCH_HEAD_BYTES].copy_from_slice(&length);
    let checksum = crc32c::crc32c(&batch[CHECKED_FROM..]).to_be_bytes();
    batch[17..CHECKED_FROM].copy_from_slice(&checksum);
    batch
}

fn varint(out: &mut Vec<u8>, number: i64) {
    let mut zigzag = (number << 1) ^ (number >> 63);
    while zigzag & !0x7f != 0 {
        out.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag = (zigzag as u64 >> 7) as i64;
    }
    out.push(zigzag as u8);
}

/// With room for the length before it.
fn header((api, version): (i16, i16), correlation: i32) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.extend_from_slice(&api.to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&correlation.to_be_bytes());
    string(&mut frame, "odradek-bench");
    frame
}

fn finish(frame: &mut [u8]) {
    let length = count(frame.len() - 4).to_be_bytes();
    frame[..4].copy_from_slice(&length);
}

fn string(out: &mut Vec<u8>, text: &str) {
    let length = i16::try_from(text.len()).expect("our own names are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn count(number: usize) -> i32 {
    i32::try_from(number).expect("what we send is smaller than 2 GiB")
}

fn refused(what: &str, partition: i32, error: i16) -> io::Error {
    io::Error::other(format!("{what} of partition {partition} was answered with error {error}"))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> io::Result<&'a [u8]> {
        let end = self.at.checked_add(length);
        let found = end.and_then(|end| self.bytes.get(self.at..end));
        let found = found.ok_or_else(|| io::Error::other("an answer ends too early"))?;
        self.at += length;
        Ok(found)
    }

    fn skip(&mut self, length: usize) -> io::Result<()> {
        self.take(length).map(|_| ())
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn i16(&mut self) -> io::Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> io::Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> io::Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn string(&mut self) -> io::Result<()> {
        let length = usize::try_from(self.i16()?).unwrap_or(0);
        self.skip(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_counted_as_they_were_made_and_a_cut_one_does_not_count() {
        let made = batch(&[b"a".as_slice(), b"bc".as_slice()], 1_000);
        // 61 bytes of head; a record is its length (1), attributes, time, offset, key and count of
        // headers (5), the value's length (1) and the value.
        assert_eq!(made.len(), 61 + 8 + 9);
        let mut second = made.clone();
        second[..8].copy_from_slice(&2_i64.to_be_bytes());
        let stored = [made.as_slice(), second.as_slice(), &made[..40]].concat();
        let expected = Piece { partition: 3, next_offset: Some(4), records: 4, bytes: 156 };
        assert_eq!(batches(3, &stored), expected);
        assert_eq!(batches(3, &[]).next_offset, None);
    }

    #[test]
    fn numbers_are_written_as_in_protobufs_zigzag() {
        // Protocol Buffers, "Signed Integers": 0, 1, 2, 3 stand for 0, -1, 1, -2.
        for (number, bytes) in [
            (0, vec![0]),
            (-1, vec![1]),
            (1, vec![2]),
            (-2, vec![3]),
            (64, vec![0x80, 0x01]),
            (1024, vec![0x80, 0x10]),
        ] {
            let mut out = Vec::new();
            varint(&mut out, number);
            assert_eq!(out, bytes, "{number}");
        }
    }

    #[test]
    fn an_answer_that_ends_too_early_is_an_error() {
        let whole = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1];
        for length in 8..whole.len() {
            assert!(pieces(&whole[..length]).is_err(), "{length}");
        }
    }
}
