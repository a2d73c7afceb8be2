//! The part of OpenTelemetry's metrics (OTLP, protobuf) that is read here: numbers with their
//! attributes. Histograms and everything else are passed over.
//!
//! Parts stay bytes until they are reached, so that a message of many empty parts does not grow
//! much when it is decoded.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::values::shown_name;

#[derive(Clone, PartialEq, Message)]
struct MetricsData {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    resource_metrics: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceMetrics {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    scope_metrics: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeMetrics {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    metrics: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "5")]
    gauge: Option<Points>,
    #[prost(message, optional, tag = "7")]
    sum: Option<Points>,
}

/// A gauge or a sum; a gauge has no temporality.
#[derive(Clone, PartialEq, Message)]
struct Points {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    points: Vec<Bytes>,
    #[prost(int32, tag = "2")]
    temporality: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Point {
    #[prost(bytes = "bytes", repeated, tag = "7")]
    attributes: Vec<Bytes>,
    #[prost(double, optional, tag = "4")]
    as_double: Option<f64>,
    #[prost(sfixed64, optional, tag = "6")]
    as_int: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(int64, optional, tag = "3")]
    number: Option<i64>,
}

/// OTLP's `AGGREGATION_TEMPORALITY_DELTA`.
const DELTA: i32 = 1;

/// One number of one metric.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Number {
    /// As it is shown. All numbers of a metric share it: a long name with many points is a short
    /// message once it is compressed.
    pub name: Arc<str>,
    /// `key=value`, sorted.
    pub attributes: Vec<String>,
    pub value: f64,
    /// To be added to what was there.
    pub delta: bool,
}

/// At most so many numbers; an error if the bytes are no such message.
pub(super) fn numbers(bytes: Bytes, count_max: usize) -> Result<Vec<Number>, prost::DecodeError> {
    let mut numbers = Vec::new();
    for resource in MetricsData::decode(bytes)?.resource_metrics {
        for scope in ResourceMetrics::decode(resource)?.scope_metrics {
            for metric in ScopeMetrics::decode(scope)?.metrics {
                let Metric { name, gauge, sum } = Metric::decode(metric)?;
                let name: Arc<str> = shown_name(&name).into();
                for points in [gauge, sum].into_iter().flatten() {
                    let delta = points.temporality == DELTA;
                    for point in points.points {
                        if numbers.len() >= count_max {
                            return Ok(numbers);
                        }
                        numbers.extend(number(&name, Point::decode(point)?, delta)?);
                    }
                }
            }
        }
    }
    Ok(numbers)
}

fn number(
    name: &Arc<str>,
    point: Point,
    delta: bool,
) -> Result<Option<Number>, prost::DecodeError> {
    // An integer beyond 2^53 loses its last digits, as in Prometheus.
    let Some(value) = point.as_double.or(point.as_int.map(|value| value as f64)) else {
        return Ok(None);
    };
    let mut attributes = Vec::with_capacity(point.attributes.len().min(ATTRIBUTES_MAX));
    for attribute in point.attributes.into_iter().take(ATTRIBUTES_MAX) {
        let Attribute { key, value } = Attribute::decode(attribute)?;
        let value = value.unwrap_or_default();
        let text = value.text.or(value.number.map(|number| number.to_string()));
        attributes.push(format!("{key}={}", text.unwrap_or_default()));
    }
    attributes.sort_unstable();
    Ok(Some(Number { name: name.clone(), attributes, value, delta }))
}

const ATTRIBUTES_MAX: usize = 8;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A message of one metric with one point, as a client builds it.
    pub(crate) fn message(name: &str, value: f64, delta: bool) -> Bytes {
        repeated(name, value, delta, 1)
    }

    /// The same with that point so many times.
    fn repeated(name: &str, value: f64, delta: bool, count: usize) -> Bytes {
        let attribute = Attribute {
            key: "node.id".to_owned(),
            value: Some(Value { text: None, number: Some(1) }),
        };
        let point = Point {
            attributes: vec![attribute.encode_to_vec().into()],
            as_double: Some(value),
            as_int: None,
        };
        let points = Points {
            points: vec![Bytes::from(point.encode_to_vec()); count],
            temporality: if delta { DELTA } else { 0 },
        };
        let (gauge, sum) = if delta { (None, Some(points)) } else { (Some(points), None) };
        let metric = Metric { name: name.to_owned(), gauge, sum };
        let scope = ScopeMetrics { metrics: vec![metric.encode_to_vec().into()] };
        let resource = ResourceMetrics { scope_metrics: vec![scope.encode_to_vec().into()] };
        MetricsData { resource_metrics: vec![resource.encode_to_vec().into()] }
            .encode_to_vec()
            .into()
    }

    /// Written by hand after opentelemetry-proto's metrics.proto: one sum named `a`, cumulative,
    /// with the integer 7 and the attribute k=v.
    #[test]
    fn the_bytes_of_opentelemetrys_schema_are_read() {
        let attribute = [0x0a, 1, b'k', 0x12, 3, 0x0a, 1, b'v'];
        let mut point = vec![0x3a, 8];
        point.extend(attribute);
        point.extend([0x31, 7, 0, 0, 0, 0, 0, 0, 0]);
        let mut sum = vec![0x0a, point.len() as u8];
        sum.extend(point);
        sum.extend([0x10, 2, 0x18, 1]);
        let mut bytes = vec![0x0a, 1, b'a', 0x3a, sum.len() as u8];
        bytes.extend(sum);
        for tag in [0x12, 0x12, 0x0a] {
            let mut outer = vec![tag, bytes.len() as u8];
            outer.extend(bytes);
            bytes = outer;
        }
        let expected = Number {
            name: "odradek_client_a".into(),
            attributes: vec!["k=v".to_owned()],
            value: 7.0,
            delta: false,
        };
        assert_eq!(numbers(bytes.into(), 10).unwrap(), [expected]);
    }

    #[test]
    fn a_long_name_of_many_points_is_cut_and_there_once() {
        let bomb = repeated(&"x".repeat(1_000_000), 1.0, false, 500);
        let numbers = numbers(bomb, 500).unwrap();
        assert_eq!(numbers.len(), 500);
        let name = &numbers[0].name;
        assert!(name.len() < 200, "{}", name.len());
        assert!(numbers.iter().all(|number| Arc::ptr_eq(&number.name, name)));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = numbers(bytes.into(), 10);
        }
    }
}
