//! Made-up prices, for a demonstration without a market.
//!
//! A random walk for each symbol, in yliveticker's shape, with `"exchange":"SYNTHETIC"` in every
//! record, so that nobody takes it for a quote. Tick number `n` of a seed always has the same
//! random numbers. The walk's state is committed with the ticks (checkpoint `source:<name>`), so it
//! goes on where it was after a restart; the time in which nothing ran stays empty.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use odradek_broker::client::{Record, TopicRecords, Unit};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::limits::SYNTHETIC_RECORDS_PER_UNIT_MAX;
use crate::meter::SourceState;
use crate::plan::{Plan, SyntheticPlan};
use crate::supervise::{Context, RunError, Runner, Tally};

const DAY_MS: i64 = 86_400_000;
/// The standard deviation of a return over a second: about 60 % a year of trading hours, twice
/// that of a lively stock, so that a minute's candle has a body.
const VOLATILITY_PER_SQRT_S: f64 = 0.000_25;

pub(crate) struct SyntheticRunner {
    pub plan: Plan,
    pub walk: SyntheticPlan,
}

/// The walk's state: the checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Walk {
    /// Ticks made so far, of all symbols.
    ticks: u64,
    /// The time of the next tick.
    next_ms: f64,
    day: i64,
    symbols: Vec<Symbol>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Symbol {
    name: String,
    price: f64,
    open: f64,
    high: f64,
    low: f64,
    previous_close: f64,
    day_volume: i64,
}

#[async_trait]
impl Runner for SyntheticRunner {
    async fn run(&self, context: &Context) -> Result<(), RunError> {
        context
            .client
            .ensure_topic(&self.plan.topic, self.plan.partitions, &self.plan.topic_configs)
            .await?;
        let mut walk = self.begin(context).await?;
        let clock = context.meter.clock();
        let detail = "synthetic prices: a random walk, no market";
        context.meter.set_state(SourceState::Running, detail);
        let interval_ms = self.interval_ms();
        loop {
            let now_ms = clock.now_ms();
            let mut records = Vec::new();
            while walk.next_ms <= now_ms as f64 && records.len() < SYNTHETIC_RECORDS_PER_UNIT_MAX {
                records.push(walk.tick(self.walk.seed, interval_ms));
            }
            if records.is_empty() {
                let wait_ms = (walk.next_ms - now_ms as f64).clamp(1.0, 60_000.0);
                tokio::time::sleep(Duration::from_secs_f64(wait_ms / 1000.0)).await;
                continue;
            }
            self.commit(context, records, &walk).await?;
            context.meter.begin_health();
        }
    }
}

impl SyntheticRunner {
    /// From one tick to the next; the symbols take turns.
    fn interval_ms(&self) -> f64 {
        1000.0 / self.walk.ticks_per_s / self.walk.symbols.len().max(1) as f64
    }

    fn checkpoint(&self) -> String {
        format!("source:{}", self.plan.name)
    }

    /// Goes on with the stored walk, or starts one: in the past if the topic is empty.
    async fn begin(&self, context: &Context) -> Result<Walk, RunError> {
        let now_ms = context.meter.clock().now_ms();
        let stored = context.client.checkpoint(&self.checkpoint()).await?;
        let stored = stored.and_then(|bytes| serde_json::from_slice::<Walk>(&bytes).ok());
        let symbols = self.walk.symbols.iter().map(|name| {
            let known = stored.iter().flat_map(|walk| &walk.symbols);
            let known = known.into_iter().find(|symbol| symbol.name == *name).cloned();
            known.unwrap_or_else(|| Symbol::first(name, self.walk.seed))
        });
        let symbols = symbols.collect();
        if let Some(stored) = &stored {
            let next_ms = stored.next_ms.max(now_ms as f64);
            return Ok(Walk { symbols, next_ms, ..stored.clone() });
        }
        let info = context.client.topic(&self.plan.topic).await?;
        let empty = info.iter().flat_map(|info| &info.partitions).all(|p| p.end_offset == 0);
        let history_ms = if empty { self.walk.history.as_millis() as f64 } else { 0.0 };
        let next_ms = now_ms as f64 - history_ms;
        Ok(Walk { ticks: 0, next_ms, day: (next_ms as i64).div_euclid(DAY_MS), symbols })
    }

    async fn commit(
        &self,
        context: &Context,
        records: Vec<Record>,
        walk: &Walk,
    ) -> Result<(), RunError> {
        let value_bytes = |record: &Record| record.value.as_ref().map_or(0, Bytes::len);
        let tally = Tally {
            records: records.len(),
            bytes: records.iter().map(value_bytes).sum(),
            dead_letters: 0,
        };
        let state = serde_json::to_vec(walk)
            .map_err(|error| RunError::fatal("state", error.to_string()))?;
        let topic = self.plan.topic.clone();
        let unit = Unit {
            records: vec![TopicRecords { topic, partition: None, records }],
            offsets: Vec::new(),
            checkpoints: vec![(self.checkpoint(), Some(Bytes::from(state)))],
        };
        // An unknown outcome needs no care: the next run reads the walk from the log.
        context.commit(unit, tally).await?;
        Ok(())
    }
}

impl Walk {
    fn tick(&mut self, seed: u64, interval_ms: f64) -> Record {
        let timestamp_ms = self.next_ms as i64;
        let day = timestamp_ms.div_euclid(DAY_MS);
        if day != self.day {
            self.day = day;
            self.symbols.iter_mut().for_each(Symbol::new_day);
        }
        let count = self.symbols.len() as u64;
        let index = usize::try_from(self.ticks % count).unwrap_or(0);
        let mut random = StdRng::seed_from_u64(seed.rotate_left(32) ^ self.ticks);
        let passed_s = interval_ms * count as f64 / 1000.0;
        let symbol = &mut self.symbols[index];
        symbol.step(&mut random, passed_s);
        self.ticks += 1;
        self.next_ms += interval_ms;
        symbol.record(timestamp_ms)
    }
}

impl Symbol {
    fn first(name: &str, seed: u64) -> Self {
        let price = match name {
            "GM" => 48.0,
            "AAPL" => 230.0,
            "MSFT" => 415.0,
            "F" => 11.0,
            "BTC-USD" => 95_000.0,
            _ => {
                let salt =
                    name.bytes().fold(seed, |salt, byte| salt.rotate_left(7) ^ u64::from(byte));
                StdRng::seed_from_u64(salt).random_range(10.0_f64..400.0).round()
            }
        };
        let name = name.to_owned();
        let (open, high, low, previous_close) = (price, price, price, price);
        Self { name, price, open, high, low, previous_close, day_volume: 0 }
    }

    fn new_day(&mut self) {
        self.previous_close = cents(self.price);
        (self.open, self.high, self.low) = (self.price, self.price, self.price);
        self.day_volume = 0;
    }

    fn step(&mut self, random: &mut StdRng, passed_s: f64) {
        // Twelve uniform numbers less six have mean 0 and variance 1, near enough to normal.
        let normal: f64 = (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
        self.price *= (VOLATILITY_PER_SQRT_S * passed_s.sqrt() * normal).exp();
        self.price = self.price.max(0.05);
        self.high = self.high.max(self.price);
        self.low = self.low.min(self.price);
        self.day_volume += random.random_range(1..=50_i64) * 10;
    }

    fn record(&self, timestamp_ms: i64) -> Record {
        let change = self.price - self.previous_close;
        let document = json!({
            "id": self.name,
            "exchange": "SYNTHETIC",
            "quoteType": 8,
            "price": cents(self.price),
            "timestamp": timestamp_ms,
            "marketHours": 1,
            "changePercent": cents(change / self.previous_close * 100.0),
            "dayVolume": self.day_volume,
            "dayHigh": cents(self.high),
            "dayLow": cents(self.low),
            "change": cents(change),
            "openPrice": cents(self.open),
            "priceHint": 2,
        });
        Record {
            timestamp_ms,
            key: Some(Bytes::from(self.name.clone())),
            value: Some(Bytes::from(document.to_string())),
            headers: Vec::new(),
        }
    }
}

fn cents(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
