//! Client instances: what each was told, and when it may speak again. The rules are those of
//! Kafka's `ClientMetricsManager`.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Mutex;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use odradek_protocol::compression::{self, Compression};
use regex::Regex;
use uuid::Uuid;

use super::otlp;
use super::values::{ClientMetrics, SERIES_MAX, Values};
use crate::config::Subscription;
use crate::partition::lock;

/// Bytes of one push, as they come and unpacked (Kafka's `telemetry.max.bytes`).
pub(crate) const PUSH_BYTES_MAX: usize = 1_048_576;

/// Instances at a time; the one that was silent for longest makes room.
const INSTANCES_MAX: usize = 1_000;

const INTERVAL_MS: i32 = 300_000;
const FORGOTTEN_AFTER_MS_MIN: i64 = 60_000;
const ALL: &str = "*";

/// A client, as subscriptions look at it.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub client_id: String,
    pub software_name: String,
    pub software_version: String,
    pub peer: SocketAddr,
}

impl Client {
    fn matches(&self, id: Uuid, subscription: &Subscription) -> bool {
        subscription.matching.iter().all(|(what, pattern)| {
            let text = match what.as_str() {
                "client_instance_id" => kafka_text(id),
                "client_id" => self.client_id.clone(),
                "client_software_name" => self.software_name.clone(),
                "client_software_version" => self.software_version.clone(),
                "client_source_address" => self.peer.ip().to_canonical().to_string(),
                _ => self.peer.port().to_string(),
            };
            // The whole text must match, as with Java's `matches`.
            Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|regex| regex.is_match(&text))
        })
    }
}

/// Kafka writes ids in base 64.
fn kafka_text(id: Uuid) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(id.as_bytes())
}

/// What an instance is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub subscription_id: i32,
    pub metrics: Vec<String>,
    pub interval_ms: i32,
}

impl Asked {
    fn of(id: Uuid, client: &Client, subscriptions: &[Subscription]) -> Self {
        let mut metrics = BTreeSet::new();
        let mut interval_ms = INTERVAL_MS;
        for subscription in subscriptions.iter().filter(|s| client.matches(id, s)) {
            metrics.extend(subscription.metrics.iter().cloned());
            interval_ms = interval_ms.min(subscription.interval_ms);
        }
        let metrics: Vec<String> = match metrics.contains(ALL) {
            true => vec![ALL.to_owned()],
            false => metrics.into_iter().collect(),
        };
        // Another one for each set of metrics, interval and instance.
        let text = format!("{metrics:?}{interval_ms}{id}");
        let hash = text
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Self { subscription_id: hash.cast_signed(), metrics, interval_ms }
    }
}

#[derive(Debug)]
struct Instance {
    asked: Asked,
    got_ms: Option<i64>,
    pushed_ms: Option<i64>,
    used_ms: i64,
    terminating: bool,
    last_error: Option<ResponseError>,
}

impl Instance {
    fn new(asked: Asked, now_ms: i64) -> Self {
        Self {
            asked,
            got_ms: None,
            pushed_ms: None,
            used_ms: now_ms,
            terminating: false,
            last_error: None,
        }
    }

    fn is_due(&self, last_ms: Option<i64>, now_ms: i64) -> bool {
        last_ms.is_none_or(|last_ms| now_ms - last_ms >= i64::from(self.asked.interval_ms))
    }

    fn is_forgotten(&self, now_ms: i64) -> bool {
        let after_ms = FORGOTTEN_AFTER_MS_MIN.max(3 * i64::from(self.asked.interval_ms));
        now_ms - self.used_ms >= after_ms
    }
}

#[derive(Default)]
pub(crate) struct Telemetry {
    instances: Mutex<HashMap<Uuid, Instance>>,
    pub metrics: ClientMetrics,
}

impl Telemetry {
    /// What this instance is asked for; one without an id gets one.
    pub(crate) fn subscriptions(
        &self,
        id: Uuid,
        client: &Client,
        subscriptions: &[Subscription],
        now_ms: i64,
    ) -> Result<(Uuid, Asked), ResponseError> {
        let id = if id.is_nil() { Uuid::new_v4() } else { id };
        self.with_instance(id, client, subscriptions, now_ms, |instance| {
            let last_ms = instance.got_ms.max(instance.pushed_ms);
            let again = matches!(
                instance.last_error,
                Some(
                    ResponseError::UnknownSubscriptionId
                        | ResponseError::UnsupportedCompressionType
                )
            );
            if !again && !instance.is_due(last_ms, now_ms) {
                return Err(ResponseError::ThrottlingQuotaExceeded);
            }
            instance.got_ms = Some(now_ms);
            instance.last_error = None;
            Ok((id, instance.asked.clone()))
        })
    }

    /// Takes what an instance pushed.
    pub(crate) fn push(
        &self,
        push: &Push,
        client: &Client,
        subscriptions: &[Subscription],
        now_ms: i64,
    ) -> Result<(), ResponseError> {
        if push.id.is_nil() {
            return Err(ResponseError::InvalidRequest);
        }
        let allowed = |instance: &mut Instance| {
            let allowed = push.check(instance, now_ms);
            instance.last_error = allowed.err();
            instance.terminating = push.terminating;
            allowed
        };
        self.with_instance(push.id, client, subscriptions, now_ms, allowed)?;
        if push.metrics.is_empty() {
            return Ok(());
        }
        let numbers = push.numbers()?;
        let mut clients = lock(&self.metrics.clients);
        clients.entry(push.id).or_insert_with(|| Values::new(&client.client_id)).take(numbers);
        Ok(())
    }

    /// Forgets who was silent for too long.
    pub(crate) fn forget(&self, now_ms: i64) {
        let mut instances = lock(&self.instances);
        instances.retain(|_, instance| !instance.is_forgotten(now_ms));
        lock(&self.metrics.clients).retain(|id, _| instances.contains_key(id));
    }

    fn with_instance<T>(
        &self,
        id: Uuid,
        client: &Client,
        subscriptions: &[Subscription],
        now_ms: i64,
        work: impl FnOnce(&mut Instance) -> T,
    ) -> T {
        let asked = Asked::of(id, client, subscriptions);
        let mut instances = lock(&self.instances);
        if instances.len() >= INSTANCES_MAX && !instances.contains_key(&id) {
            let oldest = instances.iter().min_by_key(|(_, instance)| instance.used_ms);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                instances.remove(&oldest);
                lock(&self.metrics.clients).remove(&oldest);
            }
        }
        let instance = instances.entry(id).or_insert_with(|| Instance::new(asked.clone(), now_ms));
        if instance.asked != asked {
            // Changed subscriptions begin anew, and may be asked for at once.
            *instance = Instance::new(asked, now_ms);
        }
        instance.used_ms = now_ms;
        work(instance)
    }
}

/// One PushTelemetry request.
#[derive(Debug)]
pub(crate) struct Push {
    pub id: Uuid,
    pub subscription_id: i32,
    pub terminating: bool,
    pub compression: i8,
    pub metrics: Bytes,
}

impl Push {
    fn check(&self, instance: &mut Instance, now_ms: i64) -> Result<(), ResponseError> {
        if instance.terminating {
            return Err(ResponseError::InvalidRequest);
        }
        // The first push after a subscription comes at half to one and a half interval.
        let due =
            instance.got_ms > instance.pushed_ms || instance.is_due(instance.pushed_ms, now_ms);
        if due {
            instance.pushed_ms = Some(now_ms);
        } else if !self.terminating {
            return Err(ResponseError::ThrottlingQuotaExceeded);
        }
        if self.subscription_id != instance.asked.subscription_id {
            return Err(ResponseError::UnknownSubscriptionId);
        }
        self.codec()?;
        if self.metrics.len() > PUSH_BYTES_MAX {
            return Err(ResponseError::TelemetryTooLarge);
        }
        Ok(())
    }

    fn codec(&self) -> Result<Compression, ResponseError> {
        let codec = match self.compression {
            0..=4 => Compression::from_attributes(i16::from(self.compression)),
            _ => return Err(ResponseError::UnsupportedCompressionType),
        };
        codec.map_err(|_| ResponseError::UnsupportedCompressionType)
    }

    fn numbers(&self) -> Result<Vec<otlp::Number>, ResponseError> {
        let invalid = ResponseError::InvalidRecord;
        let plain = compression::decompress(self.codec()?, &self.metrics, PUSH_BYTES_MAX);
        let plain = plain.map_err(|_| invalid)?;
        otlp::numbers(plain.into(), SERIES_MAX).map_err(|_| invalid)
    }
}

/// How many numbers a push of these bytes holds; `None` if it is refused.
pub(crate) fn pushed_numbers(compression: i8, metrics: Bytes) -> Option<usize> {
    let (id, subscription_id, terminating) = (Uuid::nil(), 0, false);
    let push = Push { id, subscription_id, terminating, compression, metrics };
    push.numbers().ok().map(|numbers| numbers.len())
}

#[cfg(test)]
mod tests {
    use super::super::otlp::tests::message;
    use super::*;

    fn client() -> Client {
        Client {
            client_id: "app".to_owned(),
            software_name: "apache-kafka-java".to_owned(),
            software_version: "4.3.0".to_owned(),
            peer: ([192, 0, 2, 1], 5).into(),
        }
    }

    fn subscription(metrics: &[&str], interval_ms: i32, matching: &[(&str, &str)]) -> Subscription {
        Subscription {
            name: "s".to_owned(),
            metrics: metrics.iter().map(|name| (*name).to_owned()).collect(),
            interval_ms,
            matching: matching.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
        }
    }

    fn push(id: Uuid, asked: &Asked, metrics: Bytes) -> Push {
        Push {
            id,
            subscription_id: asked.subscription_id,
            terminating: false,
            compression: 0,
            metrics,
        }
    }

    #[test]
    fn without_a_subscription_nothing_is_asked_for_and_the_interval_is_kafkas() {
        let telemetry = Telemetry::default();
        let (id, asked) = telemetry.subscriptions(Uuid::nil(), &client(), &[], 0).unwrap();
        assert!(!id.is_nil() && asked.metrics.is_empty() && asked.interval_ms == 300_000);
        let again = telemetry.subscriptions(id, &client(), &[], 299_999);
        assert_eq!(again, Err(ResponseError::ThrottlingQuotaExceeded));
        assert_eq!(telemetry.subscriptions(id, &client(), &[], 300_000), Ok((id, asked)));
    }

    #[test]
    fn subscriptions_that_match_the_whole_text_are_put_together() {
        let id = Uuid::from_u128(1);
        let all = [
            subscription(&["b", "a"], 60_000, &[("client_id", "a.*")]),
            subscription(&["c"], 10_000, &[("client_software_name", "apache-kafka-java")]),
            subscription(&["d"], 100, &[("client_id", "ap")]),
            subscription(&["e"], 100, &[("client_source_port", "6")]),
        ];
        let asked = Asked::of(id, &client(), &all);
        assert_eq!(
            (asked.metrics, asked.interval_ms),
            (vec!["a", "b", "c"].into_iter().map(str::to_owned).collect(), 10_000)
        );
        let star = [subscription(&["*", "a"], 100, &[])];
        assert_eq!(Asked::of(id, &client(), &star).metrics, ["*"]);
    }

    #[test]
    fn pushes_are_taken_in_their_time_and_refused_as_kafka_refuses_them() {
        let telemetry = Telemetry::default();
        let subscriptions = [subscription(&["*"], 1_000, &[])];
        let (id, asked) =
            telemetry.subscriptions(Uuid::nil(), &client(), &subscriptions, 0).unwrap();
        let take = |push: &Push, now_ms| telemetry.push(push, &client(), &subscriptions, now_ms);
        let good = || push(id, &asked, message("m", 1.0, true));
        assert_eq!(take(&good(), 500), Ok(()), "the first one may come early");
        assert_eq!(take(&good(), 600), Err(ResponseError::ThrottlingQuotaExceeded));
        let wrong = Push { subscription_id: asked.subscription_id ^ 1, ..good() };
        assert_eq!(take(&wrong, 1_600), Err(ResponseError::UnknownSubscriptionId));
        assert!(telemetry.subscriptions(id, &client(), &subscriptions, 1_700).is_ok());
        let odd = Push { compression: 9, ..good() };
        assert_eq!(take(&odd, 1_800), Err(ResponseError::UnsupportedCompressionType));
        let large = Push { metrics: vec![0; PUSH_BYTES_MAX + 1].into(), ..good() };
        assert_eq!(take(&large, 3_000), Err(ResponseError::TelemetryTooLarge));
        let garbage = Push { metrics: Bytes::from_static(b"\xff\xff"), ..good() };
        assert_eq!(take(&garbage, 4_100), Err(ResponseError::InvalidRecord));
        let last = Push { terminating: true, ..good() };
        assert_eq!(take(&last, 4_200), Ok(()), "at any time");
        assert_eq!(take(&last, 9_000), Err(ResponseError::InvalidRequest));
        let nil = Push { id: Uuid::nil(), ..good() };
        assert_eq!(take(&nil, 9_000), Err(ResponseError::InvalidRequest));
        assert_eq!(lock(&telemetry.metrics.clients).len(), 1);
        telemetry.forget(9_000 + 60_000);
        assert!(lock(&telemetry.metrics.clients).is_empty());
    }

    /// A bomb: 64 MiB of zeros in a gzip of some 64 KiB.
    #[test]
    fn what_unpacks_to_more_than_is_allowed_is_refused() {
        let telemetry = Telemetry::default();
        let (id, asked) = telemetry.subscriptions(Uuid::nil(), &client(), &[], 0).unwrap();
        let bomb = compression::compress(Compression::Gzip, &vec![0; 64 << 20]).unwrap();
        assert!(bomb.len() < PUSH_BYTES_MAX);
        let push = Push { compression: 1, ..push(id, &asked, bomb.into()) };
        let taken = telemetry.push(&push, &client(), &[], 0);
        assert_eq!(taken, Err(ResponseError::InvalidRecord));
    }
}
