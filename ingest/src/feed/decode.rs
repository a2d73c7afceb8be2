//! From one frame's text to the documents in it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde_json::{Map, Value};

use super::field;
use super::filter::Filter;
use super::pricing::{PricingData, QUOTE_TYPE_HEARTBEAT};
use crate::config::{Codec, DecodeConfig, Floats, Format, SourceConfig};
use crate::limits::DOCUMENTS_PER_FRAME_MAX;
use crate::problem::Problems;

#[derive(Debug, Clone)]
pub(crate) enum Decoder {
    Yahoo {
        format: Format,
        ten_keys: bool,
        floats: Floats,
    },
    Json {
        filter: Option<Filter>,
        explode: Option<String>,
    },
    /// A single value becomes `{"value": …}`.
    Scalar,
}

/// A frame that should have carried a record, and did not. `reason` is a label of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Undecodable {
    pub reason: &'static str,
    pub detail: String,
}

pub(crate) fn undecodable(reason: &'static str, detail: impl ToString) -> Undecodable {
    Undecodable { reason, detail: detail.to_string() }
}

impl Decoder {
    /// As `decode` of this source says.
    pub fn of(
        decode: &DecodeConfig,
        config: &SourceConfig,
        problems: &mut Problems,
    ) -> Option<Self> {
        if decode.codec != Codec::Json && (decode.filter.is_some() || decode.explode.is_some()) {
            problems.add("decode", "where and explode are for codec = \"json\"", "remove them");
        }
        if decode.codec == Codec::Yahoo {
            return yahoo_decoder(config, problems);
        }
        for (key, set) in [("format", config.format.is_some()), ("compat", config.compat.is_some())]
        {
            if set {
                problems.add(key, "is for codec = \"yahoo\"", "remove it");
            }
        }
        if decode.codec == Codec::Scalar {
            return Some(Self::Scalar);
        }
        let filter = match decode.filter.as_deref().map(Filter::parse).transpose() {
            Ok(filter) => filter,
            Err(what) => {
                problems.add("decode.where", what, "write for example \"channel == 'trade'\"");
                None
            }
        };
        Some(Self::Json { filter, explode: decode.explode.clone() })
    }

    /// No documents: a frame that is to be ignored (an acknowledgement, a heartbeat).
    pub fn decode(&self, frame: &[u8]) -> Result<Vec<Map<String, Value>>, Undecodable> {
        match self {
            Self::Yahoo { format, ten_keys, floats } => {
                let quote = yahoo(frame)?;
                let quote = quote.filter(|quote| quote.quote_type != QUOTE_TYPE_HEARTBEAT);
                Ok(quote
                    .map(|quote| quote.document(*format, *ten_keys, *floats))
                    .into_iter()
                    .collect())
            }
            Self::Json { filter, explode } => json(frame, filter.as_ref(), explode.as_deref()),
            Self::Scalar => scalar(frame),
        }
    }
}

fn yahoo_decoder(config: &SourceConfig, problems: &mut Problems) -> Option<Decoder> {
    let ten_keys = match config.compat.as_deref() {
        None => false,
        Some("0.3") => true,
        Some(other) => {
            problems.add("compat", format!("{other:?} is unknown"), "write \"0.3\" or remove it");
            false
        }
    };
    let format = config.format.unwrap_or(Format::Yliveticker);
    if ten_keys && format != Format::Yliveticker {
        problems.add("compat", "is for format = \"yliveticker\"", "remove it");
    }
    // protobuf's own JSON, which yfinance hands on, writes the shortest form.
    let usual = match format {
        Format::Yfinance => Floats::Shortest,
        Format::Yliveticker | Format::Full => Floats::Widened,
    };
    Some(Decoder::Yahoo { format, ten_keys, floats: config.floats.unwrap_or(usual) })
}

/// Both dialects: a JSON envelope `{"type":"pricing","message":"<base64>"}`, else bare base64.
/// JSON of another type or without a message is an acknowledgement: `None`.
fn yahoo(frame: &[u8]) -> Result<Option<PricingData>, Undecodable> {
    let frame = frame.trim_ascii();
    let bytes = if frame.first() == Some(&b'{') {
        let envelope: Value =
            serde_json::from_slice(frame).map_err(|error| undecodable("json", error))?;
        if envelope.get("type").is_some_and(|kind| kind != "pricing") {
            return Ok(None);
        }
        let Some(message) = envelope.get("message").and_then(Value::as_str) else {
            return Ok(None);
        };
        STANDARD.decode(message)
    } else {
        STANDARD.decode(frame)
    };
    let bytes = bytes.map_err(|error| undecodable("base64", error))?;
    let quote = PricingData::decode(&bytes[..]).map_err(|error| undecodable("protobuf", error))?;
    if quote.id.is_empty() {
        return Err(undecodable("protobuf", "the quote names no symbol"));
    }
    Ok(Some(quote))
}

fn json(
    frame: &[u8],
    filter: Option<&Filter>,
    explode: Option<&str>,
) -> Result<Vec<Map<String, Value>>, Undecodable> {
    let document: Value =
        serde_json::from_slice(frame).map_err(|error| undecodable("json", error))?;
    if filter.is_some_and(|filter| !filter.matches(&document)) {
        return Ok(Vec::new());
    }
    let found = match explode {
        None => document,
        Some(path) => field(&document, path).cloned().unwrap_or(Value::Null),
    };
    let elements = match found {
        Value::Array(elements) => elements,
        // Acknowledgements and pings have no such field.
        Value::Null if explode.is_some() => Vec::new(),
        element => vec![element],
    };
    if elements.len() > DOCUMENTS_PER_FRAME_MAX {
        return Err(undecodable("json", format!("{} elements in one frame", elements.len())));
    }
    let objects = elements.into_iter().map(|element| match element {
        Value::Object(object) => Ok(object),
        other => Err(undecodable("json", format!("an object was expected, not {other}"))),
    });
    objects.collect()
}

/// A number, a truth value or a text in JSON's form is that; whatever else is text as it stands, as
/// sensors and switches send it: `21.5`, `ON`, `unavailable`, `007`.
fn scalar(frame: &[u8]) -> Result<Vec<Map<String, Value>>, Undecodable> {
    let text = std::str::from_utf8(frame).map_err(|error| undecodable("utf8", error))?.trim();
    let value = match serde_json::from_str(text) {
        Ok(Value::Array(_) | Value::Object(_)) | Err(_) => Value::from(text),
        Ok(value) => value,
    };
    Ok(vec![Map::from_iter([("value".to_owned(), value)])])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// From the tests of yliveticker (MIT) and yfinance (Apache-2.0).
    const MSFT: &str =
        "CgRNU0ZUFYVrMUMY0KLMjcNcKgNOTVMwCDgBRZ+B3L9IuPn8CVU0IjRDXYVrMUNlQApHwNgBBA==";
    const BTC: &str = "CgdCVEMtVVNEFYoMuUcYwLCVgIplIgNVU0QqA0NDQzApOAFFPWrEP0iAgOrxvANVx/25R12csrR\
         HZYD8skR9/7i0R7ABgIDq8bwD2AEE4AGAgOrxvAPoAYCA6vG8A/IBA0JUQ4ECAAAAwPrjckGJAgAA2P5ZT3tC";

    fn decoder(format: Format, ten_keys: bool, floats: Floats) -> Decoder {
        Decoder::Yahoo { format, ten_keys, floats }
    }

    fn decode(decoder: &Decoder, frame: &str) -> Value {
        let mut documents = decoder.decode(frame.as_bytes()).unwrap();
        assert_eq!(documents.len(), 1);
        Value::Object(documents.remove(0))
    }

    /// yliveticker's own expectations for this frame, and its order of keys.
    #[test]
    fn a_golden_frame_becomes_the_thirteen_keys_of_yliveticker() {
        let document = decode(&decoder(Format::Yliveticker, false, Floats::Widened), MSFT);
        assert_eq!(
            document.to_string(),
            "{\"id\":\"MSFT\",\"exchange\":\"NMS\",\"quoteType\":8,\"price\":177.4199981689453,\
             \"timestamp\":1589554809000,\"marketHours\":1,\"changePercent\":-1.7227057218551636,\
             \"dayVolume\":10460764,\"dayHigh\":180.13360595703125,\"dayLow\":177.4199981689453,\
             \"change\":-3.1100006103515625,\"openPrice\":0.0,\"priceHint\":2}"
        );
    }

    #[test]
    fn compat_0_3_gives_the_ten_keys_of_2021() {
        let document = decode(&decoder(Format::Yliveticker, true, Floats::Shortest), MSFT);
        assert_eq!(
            document.to_string(),
            "{\"id\":\"MSFT\",\"exchange\":\"NMS\",\"quoteType\":8,\"price\":177.42,\
             \"timestamp\":1589554809000,\"marketHours\":1,\"changePercent\":-1.7227057,\
             \"dayVolume\":10460764,\"change\":-3.1100006,\"priceHint\":2}"
        );
    }

    /// The output of Google's own Python protobuf (`MessageToDict`) for this frame.
    #[test]
    fn the_yfinance_format_is_protobufs_own_json() {
        let document = decode(&decoder(Format::Yfinance, false, Floats::Shortest), BTC);
        assert_eq!(
            document,
            json!({
                "id": "BTC-USD", "price": 94745.08, "time": "1736509140000", "currency": "USD",
                "exchange": "CCC", "quote_type": 41, "market_hours": 1,
                "change_percent": 1.5344921, "day_volume": "59712028672", "day_high": 95227.555,
                "day_low": 92517.22, "change": 1431.8906, "open_price": 92529.99,
                "last_size": "59712028672", "price_hint": "2", "vol_24hr": "59712028672",
                "vol_all_currencies": "59712028672", "from_currency": "BTC",
                "circulating_supply": 19808172.0, "market_cap": 1876726640000.0
            })
        );
    }

    #[test]
    fn the_full_format_has_all_33_fields_and_volumes_beyond_32_bits() {
        let document = decode(&decoder(Format::Full, false, Floats::Widened), BTC);
        assert_eq!(document.as_object().unwrap().len(), 33);
        assert_eq!(document["dayVolume"], json!(59_712_028_672i64));
        assert_eq!(document["timestamp"], json!(1_736_509_140_000i64));
        assert_eq!(document["underlyingSymbol"], json!(""));
    }

    #[test]
    fn both_dialects_carry_the_same_quote_and_acknowledgements_are_ignored() {
        let decoder = decoder(Format::Yliveticker, false, Floats::Widened);
        let envelope = format!(r#"{{"type":"pricing","message":"{MSFT}"}}"#);
        assert_eq!(decode(&decoder, &envelope), decode(&decoder, MSFT));
        let untyped = format!(r#"{{"message":"{MSFT}"}}"#);
        assert_eq!(decode(&decoder, &untyped), decode(&decoder, MSFT));
        for ignored in [r#"{"type":"ack","message":"x"}"#, r#"{"type":"pricing"}"#, "{}"] {
            assert_eq!(decoder.decode(ignored.as_bytes()), Ok(vec![]), "{ignored}");
        }
    }

    #[test]
    fn bytes_that_are_no_quote_are_undecodable_with_a_reason() {
        let decoder = decoder(Format::Yliveticker, false, Floats::Widened);
        let cases = [("{", "json"), ("!!", "base64"), ("/////w==", "protobuf"), ("", "protobuf")];
        for (frame, reason) in cases {
            assert_eq!(decoder.decode(frame.as_bytes()).unwrap_err().reason, reason, "{frame}");
        }
        let truncated = STANDARD.encode(&STANDARD.decode(MSFT).unwrap()[..20]);
        assert_eq!(decoder.decode(truncated.as_bytes()).unwrap_err().reason, "protobuf");
    }

    #[test]
    fn heartbeats_are_ignored_and_a_put_is_a_put_in_both_encodings() {
        let decoder = decoder(Format::Full, false, Floats::Widened);
        let quote = |quote_type, options_type_raw| {
            let id = "X".to_owned();
            let quote = PricingData { id, quote_type, options_type_raw, ..Default::default() };
            STANDARD.encode(quote.encode_to_vec())
        };
        assert_eq!(decoder.decode(quote(7, 0).as_bytes()), Ok(vec![]));
        for (raw, meaning) in [(0, 0), (1, 1), (2, 1)] {
            assert_eq!(decode(&decoder, &quote(13, raw))["optionsType"], json!(meaning));
        }
    }

    /// Messages as in Kraken's documentation of its v2 trade channel.
    #[test]
    fn json_is_filtered_and_exploded() {
        let filter = Filter::parse("channel == 'trade'").unwrap();
        let decoder = Decoder::Json { filter: Some(filter), explode: Some("data".into()) };
        let frame = json!({"channel": "trade", "type": "update",
            "data": [{"symbol": "MATIC/USD", "qty": 6.0}, {"symbol": "BTC/USD", "qty": 1.0}]});
        let documents = decoder.decode(frame.to_string().as_bytes()).unwrap();
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[1]["symbol"], "BTC/USD");
        let status = json!({"channel": "status", "data": [{"system": "online"}]});
        assert_eq!(decoder.decode(status.to_string().as_bytes()), Ok(vec![]));
        let broken = json!({"channel": "trade", "data": [1]});
        assert_eq!(decoder.decode(broken.to_string().as_bytes()).unwrap_err().reason, "json");
    }

    /// Payloads of Home Assistant's statestream, Tasmota's POWER topic, and plain sensors.
    #[test]
    fn a_scalar_is_a_number_a_truth_value_or_text() {
        let cases = [
            ("21.5", json!(21.5)),
            (" -3\n", json!(-3)),
            ("ON", json!("ON")),
            ("true", json!(true)),
            ("null", json!(null)),
            ("007", json!("007")),
            ("NaN", json!("NaN")),
            ("\"Living room\"", json!("Living room")),
            ("[1,2]", json!("[1,2]")),
            ("", json!("")),
        ];
        for (payload, value) in cases {
            let document = decode(&Decoder::Scalar, payload);
            assert_eq!(document, json!({ "value": value }), "{payload}");
        }
        assert_eq!(Decoder::Scalar.decode(b"\xff").unwrap_err().reason, "utf8");
    }
}
