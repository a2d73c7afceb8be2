//! What clients said, as Prometheus shows it: `odradek_client_…`, bounded in every direction.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};
use uuid::Uuid;

use super::otlp::Number;
use crate::partition::lock;

/// Series of one client: a Java client has about 150.
pub(super) const SERIES_MAX: usize = 500;
/// Series in all that a scrape shows.
const SERIES_SHOWN_MAX: usize = 20_000;
const NAME_CHARS_MAX: usize = 150;
const LABEL_CHARS_MAX: usize = 200;

/// Name and attributes of a series, as they are shown.
type Series = (Arc<str>, String);

/// The values of one client.
#[derive(Debug, Default)]
pub(super) struct Values {
    client_id: String,
    series: BTreeMap<Series, f64>,
}

impl Values {
    pub(super) fn new(client_id: &str) -> Self {
        Self { client_id: cut(client_id, LABEL_CHARS_MAX), series: BTreeMap::new() }
    }

    /// What does not fit is passed over.
    pub(super) fn take(&mut self, numbers: Vec<Number>) {
        for number in numbers {
            let attributes = cut(&number.attributes.join(","), LABEL_CHARS_MAX);
            let series = (number.name, attributes);
            let is_new = !self.series.contains_key(&series);
            if is_new && self.series.len() >= SERIES_MAX {
                continue;
            }
            let value = self.series.entry(series).or_default();
            *value = if number.delta { *value + number.value } else { number.value };
        }
    }
}

/// `org.apache.kafka.producer.record.queue.time.avg` is
/// `odradek_client_producer_record_queue_time_avg`.
pub(super) fn shown_name(name: &str) -> String {
    let name = name.strip_prefix("org.apache.kafka.").unwrap_or(name);
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("odradek_client_{}", name.chars().take(NAME_CHARS_MAX).map(safe).collect::<String>())
}

fn cut(text: &str, chars_max: usize) -> String {
    let safe = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(chars_max).map(safe).collect()
}

/// The values of all clients; clones show the same.
#[derive(Clone)]
pub(crate) struct ClientMetrics {
    pub(super) clients: Arc<Mutex<BTreeMap<Uuid, Values>>>,
    instances: Desc,
}

const INSTANCES: (&str, &str) =
    ("odradek_client_instances", "Clients of which pushed metrics are shown.");

impl Default for ClientMetrics {
    fn default() -> Self {
        let (name, help) = INSTANCES;
        let desc = Desc::new(name.to_owned(), help.to_owned(), Vec::new(), Default::default());
        Self { clients: Arc::default(), instances: desc.expect("the name above is valid") }
    }
}

impl Collector for ClientMetrics {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.instances]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let clients = lock(&self.clients);
        let mut families: BTreeMap<&str, Vec<Metric>> = BTreeMap::new();
        let all = clients.iter().flat_map(|(id, values)| {
            values.series.iter().map(move |(series, value)| (id, values, series, *value))
        });
        for (id, values, (name, attributes), value) in all.take(SERIES_SHOWN_MAX) {
            let labels = [
                ("attributes", attributes.clone()),
                ("client_id", values.client_id.clone()),
                ("client_instance_id", id.to_string()),
            ];
            families.entry(name).or_default().push(gauge(&labels, value));
        }
        let count = gauge(&[], clients.len() as f64);
        let mut shown = vec![family(INSTANCES.0, INSTANCES.1, vec![count])];
        let help = "Pushed by clients (KIP-714).";
        shown.extend(families.into_iter().map(|(name, metrics)| family(name, help, metrics)));
        shown
    }
}

fn gauge(labels: &[(&str, String)], value: f64) -> Metric {
    let labels = labels.iter().map(|(name, value)| {
        let mut label = LabelPair::default();
        label.set_name((*name).to_owned());
        label.set_value(value.clone());
        label
    });
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::default();
    metric.set_label(labels.collect());
    metric.set_gauge(gauge);
    metric
}

fn family(name: &str, help: &str, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(MetricType::GAUGE);
    family.set_metric(metrics);
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(name: &str, value: f64, delta: bool) -> Number {
        let attributes = vec!["node.id=1".to_owned()];
        Number { name: shown_name(name).into(), attributes, value, delta }
    }

    #[test]
    fn gauges_replace_deltas_add_up_and_names_are_prometheuss() {
        let metrics = ClientMetrics::default();
        let mut values = Values::new("app");
        let (rate, total) = ("org.apache.kafka.producer.request.rate", "librdkafka.x-y.total");
        values.take(vec![number(rate, 1.5, false), number(total, 2.0, true)]);
        values.take(vec![number(rate, 2.5, false), number(total, 3.0, true)]);
        lock(&metrics.clients).insert(Uuid::nil(), values);
        let text = prometheus::TextEncoder::new().encode_to_string(&metrics.collect()).unwrap();
        let labels = "attributes=\"node.id=1\",client_id=\"app\",client_instance_id=\"00000000-\
                      0000-0000-0000-000000000000\"";
        for line in [
            format!("odradek_client_producer_request_rate{{{labels}}} 2.5"),
            format!("odradek_client_librdkafka_x_y_total{{{labels}}} 5"),
            "odradek_client_instances 1".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_client_that_invents_names_does_not_make_it_grow() {
        let mut values = Values::new(&"x".repeat(10_000));
        for at in 0..SERIES_MAX + 100 {
            values.take(vec![number(&format!("{at}{}", "y".repeat(1_000)), 1.0, false)]);
        }
        assert_eq!(values.series.len(), SERIES_MAX);
        let longest = values.series.keys().map(|(name, _)| name.len()).max().unwrap();
        assert!(longest < 200 && values.client_id.len() == LABEL_CHARS_MAX);
    }
}
