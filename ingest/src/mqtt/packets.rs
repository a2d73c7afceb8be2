//! Packets on a connection: the library's codec, with a bound that does not break the connection.
//!
//! A message beyond the bound would come again at every connection if it only ended this one. So
//! it is skipped, without being held in memory, and told by its topic and its number, so that it
//! can be acknowledged.

use bytes::{Buf, BytesMut};
use rumqttc::mqttbytes::v4::{Codec, Packet, Publish};
use rumqttc::mqttbytes::{Error, FixedHeader};
use tokio_util::codec::{Decoder, Encoder};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Incoming {
    Packet(Packet),
    /// A message without its payload, which had so many bytes.
    TooLarge(Publish, usize),
}

#[derive(Debug)]
pub(crate) struct Packets {
    codec: Codec,
    /// The message that is being skipped, the bytes of its payload, and how many are still to come.
    skipping: Option<(Publish, usize, usize)>,
}

impl Packets {
    /// `max`: bytes of a packet behind its first ones.
    pub fn new(max: usize) -> Self {
        Self { codec: Codec { max_incoming_size: max, max_outgoing_size: max }, skipping: None }
    }

    fn skip(&mut self, source: &mut BytesMut) -> Option<Incoming> {
        let (publish, bytes, missing) = self.skipping.take()?;
        let here = missing.min(source.len());
        source.advance(here);
        if here < missing {
            self.skipping = Some((publish, bytes, missing - here));
            return None;
        }
        Some(Incoming::TooLarge(publish, bytes))
    }
}

impl Decoder for Packets {
    type Item = Incoming;
    type Error = Error;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Incoming>, Error> {
        if self.skipping.is_none() {
            match self.codec.decode(source) {
                Err(Error::PayloadSizeLimitExceeded(remaining)) if is_publish(source) => {
                    self.skipping = head(source, remaining)?;
                }
                packet => return packet.map(|packet| packet.map(Incoming::Packet)),
            }
        }
        Ok(self.skip(source))
    }
}

impl Encoder<Packet> for Packets {
    type Error = Error;

    fn encode(&mut self, packet: Packet, target: &mut BytesMut) -> Result<(), Error> {
        self.codec.encode(packet, target)
    }
}

fn is_publish(source: &[u8]) -> bool {
    source.first().is_some_and(|first| first >> 4 == 3)
}

/// Takes what stands before the payload of a message with so many bytes behind its fixed header;
/// `None` as long as not all of that has come.
fn head(source: &mut BytesMut, remaining: usize) -> Result<Option<(Publish, usize, usize)>, Error> {
    // The length ends with the first byte whose upper bit is not set.
    let length_bytes = source.iter().skip(1).take_while(|byte| **byte >= 0x80).count() + 1;
    let fixed_bytes = 1 + length_bytes;
    let (Some(first), Some(topic)) =
        (source.first().copied(), source.get(fixed_bytes..fixed_bytes + 2))
    else {
        return Ok(None);
    };
    let topic_bytes = usize::from(u16::from_be_bytes([topic[0], topic[1]]));
    let numbered = first & 0b0110 != 0;
    let head_bytes = 2 + topic_bytes + if numbered { 2 } else { 0 };
    if source.len() < fixed_bytes + head_bytes {
        return Ok(None);
    }
    let payload_bytes = remaining.checked_sub(head_bytes).ok_or(Error::MalformedPacket)?;
    let fixed = FixedHeader::new(first, length_bytes, remaining);
    let publish = Publish::read(fixed, source.split_to(fixed_bytes + head_bytes).freeze())?;
    Ok(Some((publish, payload_bytes, payload_bytes)))
}

#[cfg(test)]
mod tests {
    use rumqttc::mqttbytes::QoS;
    use rumqttc::mqttbytes::v4::PubAck;

    use super::*;
    use crate::limits::MQTT_MESSAGE_BYTES_MAX;

    fn publish(pkid: u16, payload_bytes: usize) -> Publish {
        let qos = if pkid == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let mut publish = Publish::new("a/b", qos, vec![7; payload_bytes]);
        publish.pkid = pkid;
        publish
    }

    fn read(bytes: &[u8], chunk: usize) -> Vec<Incoming> {
        let (mut packets, mut source, mut read) =
            (Packets::new(MQTT_MESSAGE_BYTES_MAX), BytesMut::new(), Vec::new());
        for chunk in bytes.chunks(chunk) {
            source.extend_from_slice(chunk);
            while let Some(incoming) = packets.decode(&mut source).unwrap() {
                read.push(incoming);
            }
            assert!(source.capacity() < 2 * MQTT_MESSAGE_BYTES_MAX, "{}", source.capacity());
        }
        read
    }

    #[test]
    fn a_message_beyond_the_bound_is_skipped_and_told_wherever_its_bytes_are_cut() {
        let ack = Packet::PubAck(PubAck::new(3));
        let large = 5 * MQTT_MESSAGE_BYTES_MAX;
        let sent = [publish(1, 10), publish(2, large), publish(0, large), publish(4, 0)];
        let mut bytes = BytesMut::new();
        for publish in &sent {
            publish.write(&mut bytes).unwrap();
            ack.write(&mut bytes, 100).unwrap();
        }
        let ack = Incoming::Packet(ack);
        let without =
            |publish: &Publish| Publish { payload: Default::default(), ..publish.clone() };
        let wanted = [
            Incoming::Packet(Packet::Publish(sent[0].clone())),
            ack.clone(),
            Incoming::TooLarge(without(&sent[1]), large),
            ack.clone(),
            Incoming::TooLarge(without(&sent[2]), large),
            ack.clone(),
            Incoming::Packet(Packet::Publish(sent[3].clone())),
            ack,
        ];
        for chunk in [1, 2, 3, 1000, 65_537, bytes.len()] {
            assert_eq!(read(&bytes, chunk), wanted, "{chunk}");
        }
    }

    #[test]
    fn a_length_that_lies_or_another_packet_of_that_size_is_an_error() {
        // A length of 256 MiB less one, in which the topic alone has 4 bytes too many.
        let mut lies = BytesMut::from(&[0x32, 0xff, 0xff, 0xff, 0x7f, 0, 1, b'#', 0, 1][..]);
        assert!(
            Packets::new(MQTT_MESSAGE_BYTES_MAX).decode(&mut lies).is_err(),
            "a wildcard in a topic"
        );
        let mut other = BytesMut::from(&[0x90, 0xff, 0xff, 0xff, 0x7f][..]);
        assert!(Packets::new(MQTT_MESSAGE_BYTES_MAX).decode(&mut other).is_err());
    }
}
