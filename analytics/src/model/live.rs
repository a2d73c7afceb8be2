//! Predictions that wait for their truth, and the error of those already scored.

use std::collections::VecDeque;

use bytes::Bytes;
use odradek_broker::client::Record;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::train::Widths;

/// A prediction whose target bar has not closed yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub start_ms: i64,
    pub target_start_ms: i64,
    pub last_close: f64,
    pub predicted_return: f64,
    pub model: String,
}

impl Pending {
    pub(crate) fn prediction(&self, symbol: &str, widths: &Widths) -> Record {
        let bound = |width: Option<f64>, sign: f64| {
            width.map(|width| self.last_close * (1.0 + self.predicted_return + sign * width))
        };
        let value = json!({
            "symbol": symbol,
            "start": self.start_ms,
            "target_start": self.target_start_ms,
            "last_close": self.last_close,
            "predicted_return": self.predicted_return,
            "predicted_close": self.predicted_close(),
            "low_80": bound(widths.width_80, -1.0),
            "high_80": bound(widths.width_80, 1.0),
            "low_95": bound(widths.width_95, -1.0),
            "high_95": bound(widths.width_95, 1.0),
            "model": self.model,
        });
        record(symbol, self.start_ms, &value)
    }

    fn predicted_close(&self) -> f64 {
        self.last_close * (1.0 + self.predicted_return)
    }

    /// The score against the target bar's close; `rolling` takes it in first.
    pub(crate) fn score(&self, symbol: &str, actual_close: f64, rolling: &mut Rolling) -> Record {
        let actual_return = actual_close / self.last_close - 1.0;
        let error = self.predicted_return - actual_return;
        let naive_error = -actual_return;
        rolling.add(self.target_start_ms, error, naive_error);
        let value = json!({
            "symbol": symbol,
            "target_start": self.target_start_ms,
            "predicted_return": self.predicted_return,
            "actual_return": actual_return,
            "error": error,
            "naive_error": naive_error,
            "predicted_close": self.predicted_close(),
            "actual_close": actual_close,
            "model": self.model,
            "rolling_1h": rolling.hour.figures(),
            "rolling_1d": rolling.day.figures(),
        });
        record(symbol, self.target_start_ms, &value)
    }
}

fn record(symbol: &str, timestamp_ms: i64, value: &Value) -> Record {
    Record {
        timestamp_ms,
        key: Some(Bytes::from(symbol.to_owned())),
        value: Some(Bytes::from(value.to_string())),
        headers: Vec::new(),
    }
}

/// Errors of the last hour and day of event time, over all symbols. Sums are kept per minute and
/// per hour, so that a day of them is small enough for a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rolling {
    pub hour: Sums,
    pub day: Sums,
}

impl Default for Rolling {
    fn default() -> Self {
        Self { hour: Sums::new(60_000, 60), day: Sums::new(3_600_000, 24) }
    }
}

impl Rolling {
    pub(crate) fn add(&mut self, time_ms: i64, error: f64, naive_error: f64) {
        self.hour.add(time_ms, error, naive_error);
        self.day.add(time_ms, error, naive_error);
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sums {
    bucket_ms: i64,
    buckets_max: i64,
    buckets: VecDeque<Bucket>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Bucket {
    index: i64,
    n: u64,
    squares: f64,
    sizes: f64,
    naive_squares: f64,
    naive_sizes: f64,
}

impl Sums {
    fn new(bucket_ms: i64, buckets_max: i64) -> Self {
        Self { bucket_ms, buckets_max, buckets: VecDeque::new() }
    }

    fn add(&mut self, time_ms: i64, error: f64, naive_error: f64) {
        let index = time_ms.div_euclid(self.bucket_ms);
        let newest = self.buckets.back().map_or(index, |bucket| bucket.index.max(index));
        if index <= newest - self.buckets_max {
            return;
        }
        let at = self.buckets.partition_point(|bucket| bucket.index < index);
        if self.buckets.get(at).is_none_or(|bucket| bucket.index != index) {
            let (n, zero) = (0, 0.0);
            let (squares, sizes, naive_squares, naive_sizes) = (zero, zero, zero, zero);
            let bucket = Bucket { index, n, squares, sizes, naive_squares, naive_sizes };
            self.buckets.insert(at, bucket);
        }
        if let Some(bucket) = self.buckets.get_mut(at) {
            bucket.n += 1;
            bucket.squares += error * error;
            bucket.sizes += error.abs();
            bucket.naive_squares += naive_error * naive_error;
            bucket.naive_sizes += naive_error.abs();
        }
        while self.buckets.front().is_some_and(|b| b.index <= newest - self.buckets_max) {
            self.buckets.pop_front();
        }
    }

    pub(crate) fn figures(&self) -> Value {
        let n: u64 = self.buckets.iter().map(|bucket| bucket.n).sum();
        if n == 0 {
            return Value::Null;
        }
        let mean = |sum: fn(&Bucket) -> f64| self.buckets.iter().map(sum).sum::<f64>() / n as f64;
        json!({
            "n": n,
            "rmse": mean(|b| b.squares).sqrt(),
            "mae": mean(|b| b.sizes),
            "naive_rmse": mean(|b| b.naive_squares).sqrt(),
            "naive_mae": mean(|b| b.naive_sizes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rolling_errors_forget_what_is_older_than_their_span() {
        let mut rolling = Rolling::default();
        for minute in 0..120_i64 {
            let error = if minute < 60 { 3.0 } else { -1.0 };
            rolling.add(minute * 60_000, error, 2.0);
        }
        // A straggler within the hour, and one beyond it.
        rolling.add(61 * 60_000, -1.0, 2.0);
        rolling.add(10 * 60_000, 3.0, 2.0);
        let (hour, day) = (rolling.hour.figures(), rolling.day.figures());
        assert_eq!(
            (&hour["n"], &hour["rmse"], &hour["mae"]),
            (&json!(61), &json!(1.0), &json!(1.0))
        );
        assert_eq!((&day["n"], &day["naive_rmse"]), (&json!(122), &json!(2.0)));
        let stored = serde_json::to_string(&rolling).unwrap();
        assert_eq!(serde_json::from_str::<Rolling>(&stored).unwrap(), rolling);
    }
}
