//! Topic names that somebody nearly wrote right.
//!
//! A name that no topic has is compared with those that there are: blanks at the ends, upper and
//! lower case, `-` `_` `.` in each other's place, or one character more, less or another. Digits
//! are left out of that last rule, because `bars-1` and `bars-2` are two topics, not a slip; so are
//! short names. Each name of each peer is looked at once, and only so many a second: the cost grows
//! with the number of topics, and names come from the network.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::partition::lock;

/// Names remembered as looked at; then it begins anew.
const SEEN_MAX: usize = 2_048;
const LOOKS_PER_SECOND_MAX: u32 = 50;
/// In shorter names one character is too much of the name to be a slip.
const SLIP_CHARS_MIN: usize = 5;
/// Longer ones are no slip of a topic's name, which has at most 249.
const NAME_BYTES_MAX: usize = 300;

/// Which names were looked at.
#[derive(Default)]
pub(crate) struct Looks {
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seen: HashSet<u64>,
    second: Option<Instant>,
    looks: u32,
}

impl Looks {
    /// Whether this name of this peer is to be looked at now.
    pub(crate) fn is_due(&self, peer: IpAddr, name: &str) -> bool {
        self.is_due_at(Instant::now(), peer, name)
    }

    fn is_due_at(&self, now: Instant, peer: IpAddr, name: &str) -> bool {
        if name.len() > NAME_BYTES_MAX {
            return false;
        }
        let key = self.hasher.hash_one((peer.to_canonical(), name));
        let mut state = lock(&self.state);
        if state.seen.contains(&key) {
            return false;
        }
        let over = |began| now.saturating_duration_since(began) >= Duration::from_secs(1);
        if state.second.is_none_or(over) {
            (state.second, state.looks) = (Some(now), 0);
        }
        if state.looks >= LOOKS_PER_SECOND_MAX {
            return false;
        }
        state.looks += 1;
        if state.seen.len() >= SEEN_MAX {
            state.seen.clear();
        }
        state.seen.insert(key)
    }
}

/// What to say about a name that no topic has, or that was just `created`, given the names that
/// there are; `None` if it is like none of them.
pub(crate) fn evidence<'a>(
    asked: &str,
    names: impl Iterator<Item = &'a str>,
    created: bool,
) -> Option<String> {
    let mut near: Option<(u8, &str, &str)> = None;
    for name in names.filter(|name| *name != asked) {
        let Some((rank, how)) = difference(asked, name) else { continue };
        if near.is_none_or(|(best, ..)| rank < best) {
            near = Some((rank, name, how));
        }
    }
    let what = if created { "was created" } else { "was asked for and does not exist" };
    if let Some((_, name, how)) = near {
        return Some(format!("topic {asked:?} {what}; there is {name:?}, which differs by {how}"));
    }
    let trimmed = asked.trim();
    let only_blanks = trimmed != asked && crate::topics::check_name(trimmed).is_ok();
    only_blanks.then(|| format!("topic {asked:?} {what}: a topic's name has no blanks at its ends"))
}

/// How two different names differ, if they are nearly the same; the smaller the rank, the nearer.
fn difference(asked: &str, name: &str) -> Option<(u8, &'static str)> {
    let trimmed = asked.trim();
    if trimmed == name {
        return Some((0, "blanks at its ends"));
    }
    if trimmed.eq_ignore_ascii_case(name) {
        return Some((1, "upper and lower case"));
    }
    let same = trimmed.len() == name.len()
        && trimmed.bytes().zip(name.bytes()).all(|(a, b)| folded(a) == folded(b));
    if same {
        return Some((2, "dashes, dots or underscores"));
    }
    let long = trimmed.len().min(name.len()) >= SLIP_CHARS_MIN;
    (long && is_one_slip(trimmed.as_bytes(), name.as_bytes())).then_some((3, "one character"))
}

fn folded(byte: u8) -> u8 {
    match byte {
        b'-' | b'_' | b'.' | b' ' => b'-',
        other => other.to_ascii_lowercase(),
    }
}

/// One byte more, less or another, and no digit.
fn is_one_slip(a: &[u8], b: &[u8]) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if long.len() - short.len() > 1 {
        return false;
    }
    let at = short.iter().zip(long).take_while(|(a, b)| a == b).count();
    let rest = if short.len() == long.len() { short.get(at + 1..) } else { short.get(at..) };
    let slipped = [long.get(at), short.get(at).filter(|_| short.len() == long.len())];
    let digit = slipped.into_iter().flatten().any(u8::is_ascii_digit);
    !digit && rest.is_some() && rest == long.get(at + 1..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(asked: &str, names: &[&str]) -> Option<String> {
        evidence(asked, names.iter().copied(), false)
    }

    #[test]
    fn a_name_that_is_nearly_another_is_found_and_the_difference_named() {
        // The first is the one that the system which this replaces was bitten by.
        let cases = [
            ("ds04_messages_2 ", "ds04_messages_2", "blanks at its ends"),
            ("\tOrders", "Orders", "blanks at its ends"),
            ("Orders", "orders", "upper and lower case"),
            ("stock-bars.1m", "stock_bars_1m", "dashes, dots or underscores"),
            ("my topic", "my-topic", "dashes, dots or underscores"),
            ("order", "orders", "one character"),
            ("oders", "orders", "one character"),
            ("ordera", "orders", "one character"),
        ];
        for (asked, name, how) in cases {
            let said = near(asked, &["another", name, "zzz"]).unwrap_or_default();
            assert!(said.contains(&format!("{asked:?}")), "{said}");
            assert!(said.contains(&format!("there is {name:?}, which differs by {how}")), "{said}");
        }
    }

    #[test]
    fn numbered_short_and_different_names_are_topics_of_their_own() {
        for (asked, name) in [
            ("bars-2", "bars-1"),
            ("bars-10", "bars-1"),
            ("2024orders", "024orders"),
            ("cat", "cart"),
            ("a", "b"),
            ("orders", "payments"),
            ("ordexx", "orders"),
            ("orders", "orders"),
        ] {
            assert_eq!(near(asked, &[name]), None, "{asked} {name}");
        }
    }

    #[test]
    fn the_nearest_of_several_is_named_and_blanks_are_told_without_any() {
        let said = near("Orders ", &["Order", "ORDERS", "Orders"]).unwrap();
        assert!(said.contains("there is \"Orders\""), "{said}");
        assert!(near("brand_new ", &[]).unwrap().contains("no blanks at its ends"));
        assert_eq!(near("brand new", &[]), None);
        assert!(evidence("Orders", ["orders"].into_iter(), true).unwrap().contains("was created"));
    }

    #[test]
    fn each_name_of_a_peer_is_looked_at_once_and_few_a_second() {
        let looks = Looks::default();
        let now = Instant::now();
        let peer = IpAddr::from([192, 0, 2, 1]);
        assert!(looks.is_due_at(now, peer, "a") && !looks.is_due_at(now, peer, "a"));
        assert!(looks.is_due_at(now, IpAddr::from([192, 0, 2, 2]), "a"));
        let due = |now| (0..1_000).filter(|i| looks.is_due_at(now, peer, &i.to_string())).count();
        assert_eq!(due(now), 48);
        assert_eq!(due(now + Duration::from_secs(1)), 50);
        assert!(!looks.is_due_at(now, peer, &"x".repeat(301)));
    }

    proptest::proptest! {
        #[test]
        fn no_name_makes_it_panic(asked: String, name: String) {
            let _ = near(&asked, &[&name]);
        }

        #[test]
        fn one_slip_is_a_distance_of_one(a in "[ab]{0,6}", b in "[ab]{0,6}") {
            let slip = is_one_slip(a.as_bytes(), b.as_bytes());
            let distance = crate::config::keys::distance(&a, &b);
            proptest::prop_assert_eq!(slip, distance == 1);
        }
    }
}
