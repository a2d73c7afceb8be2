//! The opaque cursor of range pages and of streams.
//!
//! Stateless: all that a reader needs to go on is in the text, so any server over the same data
//! answers it, also after a restart. It holds the topic's identity (a deleted and re-created topic
//! is another one), the resolved time range (a page of `from=-1h` must not move with the clock),
//! the order, the last record delivered, and per partition the offset before which nothing is left
//! to deliver. Once retention has passed one of those offsets the cursor is gone: 410, never a gap.
//!
//! Form: base64url of a version byte, an order byte, 8 bytes of the topic id, then zigzag varints.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use odradek_broker::client::TopicInfo;

use super::{Failure, Outcome};

const VERSION: u8 = 1;
/// No topic has more partitions than this; a longer list is not one of our cursors.
const POSITIONS_MAX: usize = 100_000;

/// In which order records are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By timestamp, then partition, then offset; exact over the whole range.
    TimeAscending,
    /// The same, backwards.
    TimeDescending,
    /// Each partition in offset order; partitions merged by the timestamp of their next record.
    Offset,
}

/// A record's place in time order.
pub type Place = (i64, i32, i64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub topic_tag: u64,
    pub order: Order,
    pub from_ms: i64,
    pub to_ms: i64,
    /// Timestamp, partition and offset of the last record delivered, where the order is by time.
    pub last: Option<Place>,
    /// By partition: nothing below it is left to deliver. Negative: this partition is not read.
    pub positions: Vec<i64>,
}

pub fn topic_tag(topic: &TopicInfo) -> u64 {
    topic.topic_id.as_u64_pair().0
}

impl Cursor {
    pub fn encode(&self) -> String {
        let order = match self.order {
            Order::TimeAscending => 0,
            Order::TimeDescending => 1,
            Order::Offset => 2,
        };
        let mut bytes = vec![VERSION, order];
        bytes.extend_from_slice(&self.topic_tag.to_be_bytes());
        write_varint(&mut bytes, self.from_ms);
        write_varint(&mut bytes, self.to_ms);
        write_varint(&mut bytes, i64::from(self.last.is_some()));
        if let Some((timestamp_ms, partition, offset)) = self.last {
            write_varint(&mut bytes, timestamp_ms);
            write_varint(&mut bytes, i64::from(partition));
            write_varint(&mut bytes, offset);
        }
        for position in &self.positions {
            write_varint(&mut bytes, *position);
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub fn decode(text: &str) -> Outcome<Self> {
        Self::read(text).ok_or_else(|| {
            Failure::invalid("the cursor is not one that this server gave out", CURSOR_HINT)
        })
    }

    fn read(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (head, mut rest) = bytes.split_at_checked(10)?;
        if head[0] != VERSION {
            return None;
        }
        let order = match head[1] {
            0 => Order::TimeAscending,
            1 => Order::TimeDescending,
            2 => Order::Offset,
            _ => return None,
        };
        let topic_tag = u64::from_be_bytes(head[2..].try_into().ok()?);
        let from_ms = read_varint(&mut rest)?;
        let to_ms = read_varint(&mut rest)?;
        let last = match read_varint(&mut rest)? {
            0 => None,
            1 => {
                let timestamp_ms = read_varint(&mut rest)?;
                let partition = i32::try_from(read_varint(&mut rest)?).ok()?;
                Some((timestamp_ms, partition, read_varint(&mut rest)?))
            }
            _ => return None,
        };
        let mut positions = Vec::new();
        while !rest.is_empty() {
            positions.push(read_varint(&mut rest)?);
            if positions.len() > POSITIONS_MAX {
                return None;
            }
        }
        Some(Self { topic_tag, order, from_ms, to_ms, last, positions })
    }

    /// The cursor still holds for this topic as it is now: the same topic, and nothing that it has
    /// yet to deliver was removed.
    pub fn check(&self, topic: &TopicInfo) -> Outcome<()> {
        if self.topic_tag != topic_tag(topic) {
            return Err(Failure::Gone(format!(
                "the topic {:?} was deleted and created again since the cursor was given out",
                topic.name
            )));
        }
        for info in &topic.partitions {
            let position = usize::try_from(info.partition)
                .ok()
                .and_then(|index| self.positions.get(index))
                .copied()
                .unwrap_or(-1);
            if position >= 0 && info.start_offset > position {
                return Err(Failure::Gone(format!(
                    "retention has passed the cursor: partition {} of {:?} begins at offset {}, \
                     the cursor stands at {position}",
                    info.partition, topic.name, info.start_offset
                )));
            }
        }
        Ok(())
    }
}

const CURSOR_HINT: &str = "pass `next` of the last page unchanged, or start again without a cursor";

fn write_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn read_varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Cursor {
        Cursor {
            topic_tag: 0xfeed_beef_0123_4567,
            order: Order::TimeDescending,
            from_ms: i64::MIN,
            to_ms: i64::MAX,
            last: Some((1_357_017_300_250, 11, 336_775)),
            positions: vec![0, 1, -1, i64::MAX, 300],
        }
    }

    #[test]
    fn a_cursor_comes_back_as_it_was_given_out() {
        let cursor = sample();
        assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
        let cursor = Cursor { last: None, positions: vec![], ..sample() };
        assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
    }

    #[test]
    fn a_damaged_cursor_is_refused_and_never_panics() {
        let text = sample().encode();
        for end in 0..20 {
            assert!(Cursor::decode(&text[..end]).is_err(), "{end}");
        }
        for text in ["", "!", "AAAA", "AgAAAAAAAAAAAAAA", "////////////////////////////////"] {
            assert!(Cursor::decode(text).is_err(), "{text}");
        }
    }
}
