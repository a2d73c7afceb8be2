//! Lines of the transcripts of both kinds of groups, and what the two have in common.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;

use super::exchange::{Caller, LeaveReply, Leaving};
use crate::transcript::error_name;

/// What follows the verb: words, and words with `=`.
pub(crate) struct Words<'a> {
    pub plain: Vec<&'a str>,
    pub named: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    pub(crate) fn parse(text: &'a str) -> Self {
        let (named, plain): (Vec<_>, Vec<_>) =
            text.split_whitespace().partition(|word| word.contains('='));
        let named = named.into_iter().filter_map(|word| word.split_once('=')).collect();
        Self { plain, named }
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> T {
        let given = self.named.get(name).map(|text| text.parse().ok().expect("a number"));
        given.unwrap_or(default)
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.named.get(name).map(|text| (*text).to_owned())
    }

    /// The member id that comes first; `-` is none.
    pub(crate) fn who(&self) -> String {
        member_id(self.plain.first().copied().unwrap_or("-"))
    }

    /// `generation`: what the number is called here.
    pub(crate) fn caller(&self, generation: &str) -> Caller {
        Caller {
            member_id: self.who(),
            instance_id: self.text("instance"),
            generation: self.number(generation, -1),
        }
    }

    /// `a-1 b-2 -/instance`
    pub(crate) fn leaving(&self) -> Vec<Leaving> {
        let leaving = self.plain.iter().map(|word| {
            let (id, instance) = word.split_once('/').unwrap_or((word, ""));
            Leaving {
                member_id: member_id(id),
                instance_id: Some(instance.to_owned()).filter(|name| !name.is_empty()),
                reason: None,
            }
        });
        leaving.collect()
    }
}

fn member_id(word: &str) -> String {
    if word == "-" { String::new() } else { word.to_owned() }
}

pub(crate) fn outcome<T>(result: &Result<T, ResponseError>) -> String {
    result.as_ref().map_or_else(|error| error_name(*error), |_| "ok".to_owned())
}

pub(crate) fn leave_text(left: &LeaveReply) -> String {
    let left = match left {
        Ok(left) => left,
        Err(error) => return format!("leave: {}", error_name(*error)),
    };
    let left = left.iter().map(|one| {
        let instance = one.instance_id.as_ref().map(|id| format!("/{id}")).unwrap_or_default();
        let error = one.error.map_or("ok".to_owned(), error_name);
        format!("{}{instance}:{error}", one.member_id)
    });
    format!("leave: {}", left.collect::<Vec<_>>().join(" "))
}
