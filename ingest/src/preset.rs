//! Presets: values for keys that a `[[source]]` leaves out. A preset is data; the one thing that
//! Yahoo needs in code is the codec that its `decode` names.

use crate::config::{
    Codec, DecodeConfig, Format, KeepaliveConfig, Preset, SourceConfig, TimeConfig, TimeUnit,
};
use crate::span::Span;

/// The configuration with the preset's values where it had none.
pub(crate) fn filled(mut config: SourceConfig) -> SourceConfig {
    match config.preset {
        Some(Preset::Yahoo) => fill_yahoo(&mut config),
        Some(Preset::Zigbee2mqtt) => fill_zigbee2mqtt(&mut config),
        None => {}
    }
    config
}

fn fill_yahoo(config: &mut SourceConfig) {
    let seconds = |seconds| Span(std::time::Duration::from_secs(seconds));
    let format = *config.format.get_or_insert(Format::Yliveticker);
    let (time, volume) = match format {
        Format::Yliveticker | Format::Full => ("timestamp", "dayVolume"),
        Format::Yfinance => ("time", "day_volume"),
    };
    set(&mut config.url, "wss://streamer.finance.yahoo.com/?version=2");
    set(&mut config.origin, "https://finance.yahoo.com");
    set(&mut config.key, "{id}");
    config.on_open.get_or_insert_with(|| vec![r#"{"subscribe":{symbols}}"#.to_owned()]);
    config.decode.get_or_insert(DecodeConfig { codec: Codec::Yahoo, filter: None, explode: None });
    config.time.get_or_insert_with(|| TimeConfig {
        field: Some(time.to_owned()),
        unit: Some(TimeUnit::Ms),
        ..TimeConfig::default()
    });
    config.dedup.get_or_insert_with(|| [time, "price", volume].map(str::to_owned).to_vec());
    // Yahoo closes sockets after 20 to 25 minutes.
    config.recycle.get_or_insert(seconds(20 * 60));
    let keepalive = config.keepalive.get_or_insert_with(KeepaliveConfig::default);
    // yfinance's own client repeats the whole list every 15 s; without it, updates dry up.
    keepalive.resend_on_open.get_or_insert(seconds(15));
}

/// A device's state is on `zigbee2mqtt/NAME`, and a name may have slashes in it. Beside it: what
/// the bridge tells of itself, requests of others to the devices, and whether a device is there.
/// The payloads carry no time.
fn fill_zigbee2mqtt(config: &mut SourceConfig) {
    set(&mut config.url, "mqtt://localhost:1883");
    let topics = config.topics.get_or_insert_with(|| vec!["zigbee2mqtt/#".to_owned()]);
    // `base_topic` can be another one, in Zigbee2MQTT's settings and so in `topics`.
    let base = topics.first().and_then(|topic| topic.strip_suffix("/#")).unwrap_or("zigbee2mqtt");
    let field = format!("{base}/{{friendly_name...}}");
    config.topic_fields.get_or_insert(field);
    config.ignore_topics.get_or_insert_with(|| {
        let mut ignored = vec![format!("{base}/bridge/#")];
        for request in ["set", "set/+", "get", "get/+", "availability"] {
            for name in ["+", "+/+"] {
                ignored.push(format!("{base}/{name}/{request}"));
            }
        }
        ignored
    });
    config.decode.get_or_insert(DecodeConfig { codec: Codec::Json, filter: None, explode: None });
    set(&mut config.key, "{friendly_name}");
}

fn set(value: &mut Option<String>, text: &str) {
    value.get_or_insert_with(|| text.to_owned());
}
