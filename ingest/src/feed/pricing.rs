//! Yahoo's `PricingData`: the protobuf, and the JSON shapes it is stored in.
//!
//! Field numbers and types are those of the descriptors in yliveticker and yfinance. `sint64` is
//! zigzag; enums are plain varints, kept as numbers; zero values are absent on the wire, so a
//! pre-market quote (`market_hours` 0) has no such field. `options_type` (20) is declared as an
//! enum by one package and as `sint64` by the other: the raw varint is taken, and 1 (a put as an
//! enum) and 2 (the zigzag of 1) both mean put.

use serde_json::{Map, Number, Value};

use crate::config::{Floats, Format};

/// A quote that only says that the feed is alive.
pub(crate) const QUOTE_TYPE_HEARTBEAT: i32 = 7;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PricingData {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(float, tag = "2")]
    pub price: f32,
    /// Epoch milliseconds.
    #[prost(sint64, tag = "3")]
    pub time: i64,
    #[prost(string, tag = "4")]
    pub currency: String,
    #[prost(string, tag = "5")]
    pub exchange: String,
    #[prost(int32, tag = "6")]
    pub quote_type: i32,
    #[prost(int32, tag = "7")]
    pub market_hours: i32,
    #[prost(float, tag = "8")]
    pub change_percent: f32,
    /// Since the session began.
    #[prost(sint64, tag = "9")]
    pub day_volume: i64,
    #[prost(float, tag = "10")]
    pub day_high: f32,
    #[prost(float, tag = "11")]
    pub day_low: f32,
    #[prost(float, tag = "12")]
    pub change: f32,
    #[prost(string, tag = "13")]
    pub short_name: String,
    #[prost(sint64, tag = "14")]
    pub expire_date: i64,
    #[prost(float, tag = "15")]
    pub open_price: f32,
    #[prost(float, tag = "16")]
    pub previous_close: f32,
    #[prost(float, tag = "17")]
    pub strike_price: f32,
    #[prost(string, tag = "18")]
    pub underlying_symbol: String,
    #[prost(sint64, tag = "19")]
    pub open_interest: i64,
    #[prost(uint64, tag = "20")]
    pub options_type_raw: u64,
    #[prost(sint64, tag = "21")]
    pub mini_option: i64,
    #[prost(sint64, tag = "22")]
    pub last_size: i64,
    #[prost(float, tag = "23")]
    pub bid: f32,
    #[prost(sint64, tag = "24")]
    pub bid_size: i64,
    #[prost(float, tag = "25")]
    pub ask: f32,
    #[prost(sint64, tag = "26")]
    pub ask_size: i64,
    #[prost(sint64, tag = "27")]
    pub price_hint: i64,
    #[prost(sint64, tag = "28")]
    pub vol_24hr: i64,
    #[prost(sint64, tag = "29")]
    pub vol_all_currencies: i64,
    #[prost(string, tag = "30")]
    pub from_currency: String,
    #[prost(string, tag = "31")]
    pub last_market: String,
    #[prost(double, tag = "32")]
    pub circulating_supply: f64,
    #[prost(double, tag = "33")]
    pub market_cap: f64,
}

/// A field's value by its protobuf type, before a format gives it its JSON form.
enum Field<'a> {
    Text(&'a str),
    Single(f32),
    Double(f64),
    /// A 32-bit integer or an enum.
    Small(i64),
    /// A 64-bit integer, which protobuf's JSON writes as a string.
    Long(i64),
}

impl PricingData {
    /// The document to store.
    pub fn document(&self, format: Format, ten_keys: bool, floats: Floats) -> Map<String, Value> {
        match format {
            Format::Yliveticker => self.yliveticker(ten_keys, floats),
            Format::Yfinance => self
                .fields()
                .into_iter()
                .filter(|(_, _, field)| !field.is_zero())
                .map(|(snake, _, field)| (snake.to_owned(), field.as_protobuf_json(floats)))
                .collect(),
            Format::Full => self
                .fields()
                .into_iter()
                .map(|(_, camel, field)| (camel.to_owned(), field.as_json(floats)))
                .collect(),
        }
    }

    /// The keys in the order of yliveticker 0.5: thirteen, or the ten of 0.3.
    fn yliveticker(&self, ten_keys: bool, floats: Floats) -> Map<String, Value> {
        use Field::{Long, Single, Small, Text};
        let mut fields = vec![
            ("id", Text(&self.id)),
            ("exchange", Text(&self.exchange)),
            ("quoteType", Small(self.quote_type.into())),
            ("price", Single(self.price)),
            ("timestamp", Long(self.time)),
            ("marketHours", Small(self.market_hours.into())),
            ("changePercent", Single(self.change_percent)),
            ("dayVolume", Long(self.day_volume)),
        ];
        if ten_keys {
            fields.push(("change", Single(self.change)));
        } else {
            fields.push(("dayHigh", Single(self.day_high)));
            fields.push(("dayLow", Single(self.day_low)));
            fields.push(("change", Single(self.change)));
            fields.push(("openPrice", Single(self.open_price)));
        }
        fields.push(("priceHint", Long(self.price_hint)));
        fields.into_iter().map(|(name, field)| (name.to_owned(), field.as_json(floats))).collect()
    }

    fn options_type(&self) -> i64 {
        match self.options_type_raw {
            2 => 1,
            raw => i64::try_from(raw).unwrap_or(i64::MAX),
        }
    }

    /// Snake-case name, camel-case name, value; by field number.
    fn fields(&self) -> [(&'static str, &'static str, Field<'_>); 33] {
        use Field::{Double, Long, Single, Small, Text};
        [
            ("id", "id", Text(&self.id)),
            ("price", "price", Single(self.price)),
            ("time", "timestamp", Long(self.time)),
            ("currency", "currency", Text(&self.currency)),
            ("exchange", "exchange", Text(&self.exchange)),
            ("quote_type", "quoteType", Small(self.quote_type.into())),
            ("market_hours", "marketHours", Small(self.market_hours.into())),
            ("change_percent", "changePercent", Single(self.change_percent)),
            ("day_volume", "dayVolume", Long(self.day_volume)),
            ("day_high", "dayHigh", Single(self.day_high)),
            ("day_low", "dayLow", Single(self.day_low)),
            ("change", "change", Single(self.change)),
            ("short_name", "shortName", Text(&self.short_name)),
            ("expire_date", "expireDate", Long(self.expire_date)),
            ("open_price", "openPrice", Single(self.open_price)),
            ("previous_close", "previousClose", Single(self.previous_close)),
            ("strike_price", "strikePrice", Single(self.strike_price)),
            ("underlying_symbol", "underlyingSymbol", Text(&self.underlying_symbol)),
            ("open_interest", "openInterest", Long(self.open_interest)),
            ("options_type", "optionsType", Long(self.options_type())),
            ("mini_option", "miniOption", Long(self.mini_option)),
            ("last_size", "lastSize", Long(self.last_size)),
            ("bid", "bid", Single(self.bid)),
            ("bid_size", "bidSize", Long(self.bid_size)),
            ("ask", "ask", Single(self.ask)),
            ("ask_size", "askSize", Long(self.ask_size)),
            ("price_hint", "priceHint", Long(self.price_hint)),
            ("vol_24hr", "vol24hr", Long(self.vol_24hr)),
            ("vol_all_currencies", "volAllCurrencies", Long(self.vol_all_currencies)),
            ("from_currency", "fromCurrency", Text(&self.from_currency)),
            ("last_market", "lastMarket", Text(&self.last_market)),
            ("circulating_supply", "circulatingSupply", Double(self.circulating_supply)),
            ("market_cap", "marketCap", Double(self.market_cap)),
        ]
    }
}

impl Field<'_> {
    fn is_zero(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            // Protobuf leaves out positive zero only.
            Self::Single(number) => number.to_bits() == 0,
            Self::Double(number) => number.to_bits() == 0,
            Self::Small(number) | Self::Long(number) => *number == 0,
        }
    }

    fn as_json(&self, floats: Floats) -> Value {
        match self {
            Self::Text(text) => Value::from(*text),
            Self::Single(number) => single(*number, floats),
            Self::Double(number) => Value::from(*number),
            Self::Small(number) | Self::Long(number) => Value::from(*number),
        }
    }

    fn as_protobuf_json(&self, floats: Floats) -> Value {
        match self {
            Self::Long(number) => Value::from(number.to_string()),
            other => other.as_json(floats),
        }
    }
}

/// JSON knows no NaN and no infinity: null.
fn single(number: f32, floats: Floats) -> Value {
    let number = match floats {
        Floats::Widened => f64::from(number),
        Floats::Shortest => number.to_string().parse().unwrap_or(f64::from(number)),
    };
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}
