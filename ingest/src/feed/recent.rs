//! Recognises records that were stored already.
//!
//! A server that lost its socket sends what it believes lost once more, and a subscription that is
//! repeated brings the last quote again. A record repeats another if it has the same key and the
//! same text in the fields that the configuration names (for Yahoo: time, price, volume of the
//! day). Time running backwards is no sign of a repetition and drops nothing.
//!
//! Invariants:
//! 1. A record enters the window only when it is durable, or as part of the unit being built.
//! 2. The window can be rebuilt from the stored values alone, so it survives `kill -9`: the
//!    fingerprint is taken from the stored text in both cases.
//! 3. Memory is bounded: `RECENT_RECORDS_MAX` for all keys, at least `RECENT_PER_KEY_MIN` each.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Map, Value};

use super::field_of;
use crate::limits::{RECENT_KEYS_MAX, RECENT_PER_KEY_MIN, RECENT_RECORDS_MAX};

/// 128 bits of a record's identity: two records of a full window meet by chance once in 10²⁸.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint(u64, u64);

impl Fingerprint {
    /// `None` if the document has none of the fields: nothing can be said about it then.
    pub fn of(document: &Map<String, Value>, fields: &[String]) -> Option<Self> {
        let mut found = false;
        let mut text = String::with_capacity(64);
        for path in fields {
            if let Some(value) = field_of(document, path) {
                found = true;
                text.push_str(&value.to_string());
            }
            text.push('\u{1f}');
        }
        let half = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            salt.hash(&mut hasher);
            text.hash(&mut hasher);
            hasher.finish()
        };
        found.then(|| Self(half(1), half(2)))
    }
}

#[derive(Debug, Default)]
struct Window {
    order: VecDeque<Fingerprint>,
    members: HashSet<Fingerprint>,
}

#[derive(Debug)]
pub(crate) struct Recent {
    windows: HashMap<Vec<u8>, Window>,
    per_key_max: usize,
}

impl Recent {
    /// For about so many keys.
    pub fn new(keys: usize) -> Self {
        let per_key_max = (RECENT_RECORDS_MAX / keys.max(1)).max(RECENT_PER_KEY_MIN);
        Self { windows: HashMap::new(), per_key_max }
    }

    /// Notes the record; `false` if it was there already.
    pub fn insert(&mut self, key: &[u8], fingerprint: Fingerprint) -> bool {
        let known = self.windows.contains_key(key);
        // Keys beyond the bound share the window of the empty key.
        let key = if known || self.windows.len() < RECENT_KEYS_MAX { key } else { &[] };
        let window = self.windows.entry(key.to_vec()).or_default();
        if !window.members.insert(fingerprint) {
            return false;
        }
        window.order.push_back(fingerprint);
        if window.order.len() > self.per_key_max
            && let Some(oldest) = window.order.pop_front()
        {
            window.members.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fingerprint(time: i64, price: f64, volume: i64) -> Fingerprint {
        let document = json!({"timestamp": time, "price": price, "dayVolume": volume, "x": time});
        let fields = ["timestamp", "price", "dayVolume"].map(str::to_owned);
        Fingerprint::of(document.as_object().unwrap(), &fields).unwrap()
    }

    #[test]
    fn only_a_record_equal_in_all_fields_and_key_is_a_repetition() {
        let mut recent = Recent::new(2);
        assert!(recent.insert(b"GM", fingerprint(5, 1.5, 10)));
        assert!(!recent.insert(b"GM", fingerprint(5, 1.5, 10)));
        assert!(recent.insert(b"F", fingerprint(5, 1.5, 10)));
        assert!(recent.insert(b"GM", fingerprint(5, 1.5, 11)));
        assert!(recent.insert(b"GM", fingerprint(5, 1.25, 10)));
        assert!(recent.insert(b"GM", fingerprint(4, 1.5, 10)), "an earlier time is no repetition");
    }

    #[test]
    fn a_busy_key_does_not_push_out_a_quiet_one() {
        let mut recent = Recent::new(2);
        assert!(recent.insert(b"quiet", fingerprint(0, 1.0, 1)));
        for time in 0..100_000 {
            assert!(recent.insert(b"busy", fingerprint(time, 1.0, 1)));
        }
        assert!(!recent.insert(b"quiet", fingerprint(0, 1.0, 1)));
        assert!(!recent.insert(b"busy", fingerprint(99_999 - 32_767, 1.0, 1)));
        assert!(recent.insert(b"busy", fingerprint(99_999 - 32_769, 1.0, 1)));
    }

    #[test]
    fn the_fingerprint_of_the_stored_text_is_that_of_the_document() {
        for bits in (1u32..0x7f00_0000).step_by(0x0013_5791) {
            let price = f64::from(f32::from_bits(bits));
            let document = json!({"price": price});
            let stored: Value = serde_json::from_str(&document.to_string()).unwrap();
            let fields = ["price".to_owned()];
            let of = |value: &Value| Fingerprint::of(value.as_object().unwrap(), &fields);
            assert_eq!(of(&document), of(&stored), "{price}");
        }
    }
}
