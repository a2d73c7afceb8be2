//! From one message to the documents in it.

use serde_json::{Map, Value};

use super::topics::{TopicFields, TopicFilter};
use crate::config::Retained;
use crate::feed::decode::{Decoder, Undecodable, undecodable};
use crate::limits::MQTT_TOPIC_BYTES_MAX;

/// What is read from a message, and which messages are read.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub filters: Vec<TopicFilter>,
    pub ignored: Vec<TopicFilter>,
    pub fields: Option<TopicFields>,
    pub retained: Retained,
    pub decoder: Decoder,
}

type Documents = Result<Vec<Map<String, Value>>, Undecodable>;

impl Reader {
    /// Whether the message is for us. Not: one of another filter (a persistent session keeps those
    /// of its past), one that is to be left out, one that only deletes what the server had kept.
    pub fn takes(&self, topic: &str, payload_bytes: usize, retained: bool) -> bool {
        let matches = |filters: &[TopicFilter]| filters.iter().any(|filter| filter.matches(topic));
        payload_bytes > 0
            && !(retained && self.retained == Retained::Drop)
            && matches(&self.filters)
            && !matches(&self.ignored)
    }

    pub fn documents(&self, topic: &str, payload: &[u8], retained: bool) -> Documents {
        if topic.len() > MQTT_TOPIC_BYTES_MAX {
            let detail = format!("a topic of {} bytes is too long", topic.len());
            return Err(undecodable("topic", detail));
        }
        let fields = match &self.fields {
            None => Vec::new(),
            Some(fields) => fields.read(topic).ok_or_else(|| {
                undecodable("topic", format!("{topic:?} does not fit topic_fields"))
            })?,
        };
        let mut documents = self.decoder.decode(payload)?;
        let mark = (self.retained == Retained::Mark).then_some(("retained", retained));
        if fields.is_empty() && mark.is_none() {
            return Ok(documents);
        }
        for document in &mut documents {
            let payload = std::mem::take(document);
            let fields = fields.iter().map(|(name, text)| (*name, Value::from(*text)));
            let fields = fields.chain(mark.map(|(name, truth)| (name, Value::from(truth))));
            document.extend(fields.map(|(name, value)| (name.to_owned(), value)));
            for (name, value) in payload {
                document.entry(name).or_insert(value);
            }
        }
        Ok(documents)
    }
}
