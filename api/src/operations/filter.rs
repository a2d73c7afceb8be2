//! Which records a reader wants: `key=` and `where=`.
//!
//! `where` is one or more comparisons of top-level JSON fields joined by `and`:
//! `carrier==UA and dep_delay>=60 and origin!='JFK'`. A comparison is numeric where both sides are
//! numbers, also when the record holds the number as a string (the flights are such records); else
//! it compares text. A record without the field, or whose value is no JSON object, does not match.
//! A value that is an array of objects matches if one of its objects does.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;

use odradek_broker::client::StoredRecord;
use serde_json::value::RawValue;

use super::{Failure, Outcome};

pub const HINT: &str = "where=<field><op><value> joined by ` and `, with op one of == != >= <= > \
                        <, for example where=carrier==UA and dep_delay>=60";
/// More comparisons than this in one request are refused.
const CONDITIONS_MAX: usize = 32;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    pub key: Option<Vec<u8>>,
    pub conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    field: String,
    operator: Operator,
    text: String,
    number: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    GreaterOrEqual,
    LessOrEqual,
    Greater,
    Less,
}

/// Longest first, so that `>=` is not read as `>`.
const OPERATORS: [(&str, Operator); 6] = [
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    (">=", Operator::GreaterOrEqual),
    ("<=", Operator::LessOrEqual),
    (">", Operator::Greater),
    ("<", Operator::Less),
];

impl Filter {
    pub fn parse(key: Option<&str>, conditions: Option<&str>) -> Outcome<Self> {
        Ok(Self {
            key: key.map(|key| key.as_bytes().to_vec()),
            conditions: conditions.map(parse_conditions).transpose()?.unwrap_or_default(),
        })
    }

    pub fn matches(&self, record: &StoredRecord) -> bool {
        if let Some(key) = &self.key
            && record.key.as_deref() != Some(key.as_slice())
        {
            return false;
        }
        if self.conditions.is_empty() {
            return true;
        }
        let value = record.value.as_deref().unwrap_or_default();
        if let Ok(object) = serde_json::from_slice::<Object>(value) {
            return self.conditions.iter().all(|condition| condition.matches(&object));
        }
        let rows = serde_json::from_slice::<Vec<Object>>(value).unwrap_or_default();
        rows.iter().any(|row| self.conditions.iter().all(|condition| condition.matches(row)))
    }
}

/// A JSON object's fields, values as they were written.
pub type Object<'a> = HashMap<Cow<'a, str>, &'a RawValue>;

impl Condition {
    fn matches(&self, object: &Object) -> bool {
        let Some(raw) = object.get(self.field.as_str()) else { return false };
        let actual: Cow<str> = match serde_json::from_str::<String>(raw.get()) {
            Ok(text) => text.into(),
            Err(_) => raw.get().into(),
        };
        let ordering = match (self.number, number(&actual)) {
            (Some(wanted), Some(actual)) => actual.partial_cmp(&wanted),
            _ => Some(actual.as_ref().cmp(self.text.as_str())),
        };
        let Some(ordering) = ordering else { return false };
        match self.operator {
            Operator::Equal => ordering == Ordering::Equal,
            Operator::NotEqual => ordering != Ordering::Equal,
            Operator::GreaterOrEqual => ordering != Ordering::Less,
            Operator::LessOrEqual => ordering != Ordering::Greater,
            Operator::Greater => ordering == Ordering::Greater,
            Operator::Less => ordering == Ordering::Less,
        }
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

fn parse_conditions(text: &str) -> Outcome<Vec<Condition>> {
    let conditions: Vec<Condition> =
        split_and(text).into_iter().map(parse_condition).collect::<Outcome<_>>()?;
    if conditions.len() > CONDITIONS_MAX {
        let detail = format!("where has more than {CONDITIONS_MAX} comparisons");
        return Err(Failure::invalid(detail, HINT));
    }
    Ok(conditions)
}

/// Splits at the word `and` outside quotes.
fn split_and(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quote) = (Vec::new(), 0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            (None, ' ') if at >= start && starts_with_and(&text[at..]) => {
                parts.push(&text[start..at]);
                start = at + " and ".len();
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

fn starts_with_and(text: &str) -> bool {
    text.get(..5).is_some_and(|word| word.eq_ignore_ascii_case(" and "))
}

fn parse_condition(text: &str) -> Outcome<Condition> {
    let refuse = |why: &str| Failure::invalid(format!("where: {text:?} {why}"), HINT);
    let (at, symbol, operator) = OPERATORS
        .iter()
        .filter_map(|(symbol, operator)| Some((text.find(symbol)?, *symbol, *operator)))
        .min_by_key(|(at, symbol, _)| (*at, std::cmp::Reverse(symbol.len())))
        .ok_or_else(|| refuse("holds no comparison"))?;
    let field = text[..at].trim();
    if field.is_empty() {
        return Err(refuse("names no field"));
    }
    let value = text[at + symbol.len()..].trim();
    let unquoted = ['\'', '"']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote).and_then(|rest| rest.strip_suffix(*quote)));
    Ok(Condition {
        field: field.to_owned(),
        operator,
        text: unquoted.unwrap_or(value).to_owned(),
        number: if unquoted.is_some() { None } else { number(value) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &str) -> StoredRecord {
        StoredRecord {
            offset: 0,
            timestamp_ms: 0,
            key: Some(key.to_owned().into()),
            value: Some(value.to_owned().into()),
            headers: Vec::new(),
        }
    }

    #[test]
    fn comparisons_are_numeric_where_both_sides_are_numbers_else_textual() {
        let flight = r#"{"carrier":"UA","dep_delay":"9","year":2013,"tail":null,"late":true}"#;
        let table = [
            ("carrier==UA", true),
            ("carrier == 'UA'", true),
            ("carrier!=UA", false),
            ("dep_delay<60", true),
            ("dep_delay>=10", false),
            ("dep_delay=='9'", true),
            ("year>=2013 and carrier==UA", true),
            ("year>2013 AND carrier==UA", false),
            ("carrier>=TZ", true),
            ("tail==null", true),
            ("late==true", true),
            ("missing!=x", false),
            ("carrier==\"a and b\"", false),
        ];
        for (text, expected) in table {
            let filter = Filter::parse(None, Some(text)).expect(text);
            assert_eq!(filter.matches(&record("k", flight)), expected, "{text}");
        }
    }

    #[test]
    fn an_array_of_objects_matches_if_one_of_them_does() {
        let filter = Filter::parse(None, Some("a==1 and b==2")).expect("valid");
        assert!(filter.matches(&record("k", r#"[{"a":0},{"a":1,"b":2}]"#)));
        assert!(!filter.matches(&record("k", r#"[{"a":1},{"b":2}]"#)));
        assert!(!filter.matches(&record("k", "not json")));
    }

    #[test]
    fn a_key_is_compared_byte_for_byte() {
        let filter = Filter::parse(Some("GM"), None).expect("valid");
        assert!(filter.matches(&record("GM", "")));
        assert!(!filter.matches(&record("gm", "")));
        assert!(!filter.matches(&StoredRecord { key: None, ..record("", "") }));
    }

    #[test]
    fn a_condition_without_comparison_or_field_is_refused() {
        for text in ["", "carrier", "==UA", "a==1 and ", "a==1 and b"] {
            assert!(Filter::parse(None, Some(text)).is_err(), "{text}");
        }
    }
}
