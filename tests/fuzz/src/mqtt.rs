//! What an MQTT server sends: packets, and the topics and payloads of its messages.
//!
//! First byte: which of the sources below reads the message (a topic's length in two bytes, the
//! topic, the payload; the upper bit of the length: the server had kept it), or, after the last,
//! that the rest are packets as they stand on a connection. Promises: a message is read exactly if
//! its topic fits the source's filters, by a second matching of them; what is made of it is JSON of
//! bounded size and number, with the levels of the topic in it, at a time between 1990 and 2100,
//! and the same the next time; packets are the same however the connection cuts them; a message
//! beyond the bound is never held.

use std::sync::LazyLock;

use bytes::Bytes;
use odradek_ingest::SourceConfig;
use odradek_ingest::fuzzing::{
    DOCUMENTS_MAX, MqttMessage, MqttRecord, Source, VALUE_BYTES_MAX, mqtt_packets,
};
use serde_json::{Map, Value};

/// Filters, filters of what is left out, fields of the topic: again, for the second reading.
struct Case {
    config: &'static str,
    wanted: &'static [&'static str],
    ignored: &'static [&'static str],
    fields: &'static [&'static str],
    drops_retained: bool,
}

const CASES: [Case; 6] = [
    Case {
        config: "topics=['home/#','+/x']\nignore_topics=['home/+/set']\nretained='mark'\n\
                 topic_fields='home/{room}/{sensor...}'\nkey='{room}-{v}'",
        wanted: &["home/#", "+/x"],
        ignored: &["home/+/set"],
        fields: &["room", "sensor", "retained"],
        drops_retained: false,
    },
    Case {
        config: "preset='zigbee2mqtt'",
        wanted: &["zigbee2mqtt/#"],
        ignored: &[
            "zigbee2mqtt/bridge/#",
            "zigbee2mqtt/+/set",
            "zigbee2mqtt/+/+/set",
            "zigbee2mqtt/+/set/+",
            "zigbee2mqtt/+/+/set/+",
            "zigbee2mqtt/+/get",
            "zigbee2mqtt/+/+/get",
            "zigbee2mqtt/+/get/+",
            "zigbee2mqtt/+/+/get/+",
            "zigbee2mqtt/+/availability",
            "zigbee2mqtt/+/+/availability",
        ],
        fields: &["friendly_name"],
        drops_retained: true,
    },
    Case {
        config: "topics=['+/+/state']\ndecode={codec='scalar'}\nretained='keep'\n\
                 time={field='value',unit='ms'}",
        wanted: &["+/+/state"],
        ignored: &[],
        fields: &[],
        drops_retained: false,
    },
    Case {
        config: "topics=['tele/+/SENSOR']\ntopic_fields='tele/{device}/+'\n\
                 time={template='{Time}',zone='Europe/Berlin'}",
        wanted: &["tele/+/SENSOR"],
        ignored: &[],
        fields: &["device"],
        drops_retained: true,
    },
    Case {
        config: "topics=['#']\ndecode={codec='json',where='ok == true',explode='readings'}\n\
                 key='{mqtt.topic}/{id}'\ntime={field='t.at',unit='rfc3339'}",
        wanted: &["#"],
        ignored: &[],
        fields: &[],
        drops_retained: true,
    },
    Case {
        config: "topics=['$SYS/#','a//+','/']\ndecode={codec='scalar'}\n\
                 topic_fields='{a}/{all...}/{z}'",
        wanted: &["$SYS/#", "a//+", "/"],
        ignored: &[],
        fields: &["a", "all", "z"],
        drops_retained: true,
    },
];

const LABELS: [&str; 7] = ["json", "key", "time", "time_range", "too_large", "topic", "utf8"];

/// 2026-01-01T00:00:00Z.
const NOW_MS: i64 = 1_767_225_600_000;

static READY: LazyLock<Vec<Source>> = LazyLock::new(|| {
    let source = |case: &Case| {
        let text =
            format!("name='a'\ntype='mqtt'\ntopic='t'\nurl='mqtt://localhost'\n{}", case.config);
        let config: SourceConfig = toml::from_str(&text).expect("a source");
        Source::new(&config).expect("a source that can be started")
    };
    CASES.iter().map(source).collect()
});

pub fn run(data: &[u8]) {
    let Some((&which, rest)) = data.split_first() else { return };
    let which = usize::from(which) % (CASES.len() + 1);
    let Some(case) = CASES.get(which) else { return packets(rest) };
    let Some((length, rest)) = rest.split_first_chunk::<2>() else { return };
    let length = u16::from_be_bytes(*length);
    let (retained, length) = (length & 0x8000 != 0, usize::from(length & 0x7fff));
    let Some((topic, payload)) = rest.split_at_checked(length) else { return };
    let Ok(topic) = std::str::from_utf8(topic) else { return };
    // The reading of packets lets no such topic through; that is checked there.
    if topic.is_empty() || topic.contains(['+', '#', '\0']) {
        return;
    }
    let payload = Bytes::copy_from_slice(payload);
    message(case, &READY[which], &MqttMessage { topic: topic.to_owned(), payload, retained });
}

fn message(case: &Case, source: &Source, message: &MqttMessage) {
    let made = source.message(message, NOW_MS);
    assert_eq!(made, source.message(message, NOW_MS), "another result the second time");
    let MqttMessage { topic, payload, retained } = message;
    let fits = |filters: &[&str]| filters.iter().any(|filter| fits(topic, filter));
    let left_out = payload.is_empty() || (*retained && case.drops_retained) || fits(case.ignored);
    assert_eq!(made.is_some(), fits(case.wanted) && !left_out, "{topic:?}");
    let made = made.unwrap_or_default();
    assert!(made.len() <= DOCUMENTS_MAX);
    let mut bytes = 0;
    for made in &made {
        match made {
            Ok(record) => {
                check(case, topic, record);
                bytes += record.value.len();
            }
            Err(label) => assert!(LABELS.contains(label), "{label}"),
        }
    }
    // A float such as 1e9 becomes four times as long, a control character six times.
    assert!(bytes <= 6 * payload.len() + made.len() * (6 * topic.len() + 100), "{bytes} bytes");
}

fn check(case: &Case, topic: &str, record: &MqttRecord) {
    assert!(record.value.len() <= VALUE_BYTES_MAX);
    let known = 631_152_000_000..4_102_444_800_000;
    assert!(known.contains(&record.timestamp_ms), "{}", record.timestamp_ms);
    let document: Map<String, Value> = serde_json::from_slice(&record.value).expect("it is JSON");
    let names: Vec<&str> = document.keys().map(String::as_str).collect();
    assert_eq!(names.get(..case.fields.len()), Some(case.fields), "the topic's fields are first");
    // Put together again, the levels are in the topic, in their order.
    let mut at = 0;
    for name in case.fields.iter().filter(|name| **name != "retained") {
        let level = document[*name].as_str().expect("a level is text");
        at += topic[at..].find(level).expect("a level is in the topic") + level.len();
    }
    let again = serde_json::to_vec(&document).expect("it is JSON");
    assert_eq!(again, record.value, "written, read and written, it is another one");
    if let Some(key) = &record.key {
        std::str::from_utf8(key).expect("a key is text");
    }
}

/// A filter and a topic, level by level, as section 4.7 of the standard reads.
fn fits(topic: &str, filter: &str) -> bool {
    fn levels(topic: &[&str], filter: &[&str]) -> bool {
        match (topic, filter) {
            (_, ["#"]) | ([], []) => true,
            ([_, topic @ ..], ["+", filter @ ..]) => levels(topic, filter),
            ([one, topic @ ..], [same, filter @ ..]) if one == same => levels(topic, filter),
            _ => false,
        }
    }
    let split = |text| -> Vec<&str> { str::split(text, '/').collect() };
    (topic.starts_with('$') == filter.starts_with('$')) && levels(&split(topic), &split(filter))
}

/// First byte: a quarter of the largest packet that is taken.
fn packets(data: &[u8]) {
    let Some((&max, bytes)) = data.split_first() else { return };
    let max = usize::from(max) * 4;
    let whole = mqtt_packets(bytes, bytes.len(), max);
    for message in &whole.messages {
        assert!(message.topic.len() + message.payload.len() <= max);
        assert!(!message.topic.is_empty() && !message.topic.contains(['+', '#', '\0']));
    }
    for chunk in [1, 7] {
        let cut = mqtt_packets(bytes, chunk, max);
        assert_eq!(cut.messages, whole.messages, "in pieces of {chunk}");
        assert_eq!(cut.others, whole.others, "in pieces of {chunk}");
        assert_eq!(cut.failed, whole.failed, "in pieces of {chunk}");
        // A packet and a piece of the next; or a topic of 64 KiB and what stands around it.
        assert!(cut.held_bytes_max <= (max + 5).max(65_535 + 9) + chunk, "{}", cut.held_bytes_max);
    }
}
