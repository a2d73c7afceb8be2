//! `where` of a JSON decoder: comparisons of fields with literals, joined by `&&`.
//!
//! `channel == 'trade' && data.size != 0 && type == 'update'`

use serde_json::Value;

use super::field;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Filter {
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq)]
struct Condition {
    path: String,
    equal: bool,
    literal: Value,
}

impl Filter {
    pub fn parse(text: &str) -> Result<Self, String> {
        let conditions = text.split("&&").map(condition).collect::<Result<_, _>>()?;
        Ok(Self { conditions })
    }

    /// A field that is missing equals nothing.
    pub fn matches(&self, document: &Value) -> bool {
        self.conditions.iter().all(|condition| {
            (field(document, &condition.path) == Some(&condition.literal)) == condition.equal
        })
    }
}

fn condition(text: &str) -> Result<Condition, String> {
    let wrong = || format!("{:?} is no comparison", text.trim());
    let (left, right, equal) = match (text.split_once("=="), text.split_once("!=")) {
        (Some((left, right)), None) => (left, right, true),
        (None, Some((left, right))) => (left, right, false),
        _ => return Err(wrong()),
    };
    let (path, literal) = (left.trim(), right.trim());
    if path.is_empty() || path.contains(char::is_whitespace) {
        return Err(wrong());
    }
    let quoted = literal.strip_prefix('\'').and_then(|literal| literal.strip_suffix('\''));
    let literal = match quoted {
        Some(text) => Value::from(text),
        None => serde_json::from_str(literal).map_err(|_| wrong())?,
    };
    Ok(Condition { path: path.to_owned(), equal, literal })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_conditions_must_hold() {
        let filter = Filter::parse("channel == 'trade' && data.n != 0 && ok == true").unwrap();
        assert!(filter.matches(&json!({"channel": "trade", "data": {"n": 1}, "ok": true})));
        assert!(!filter.matches(&json!({"channel": "trade", "data": {"n": 0}, "ok": true})));
        assert!(!filter.matches(&json!({"channel": "book", "data": {"n": 1}, "ok": true})));
        assert!(!filter.matches(&json!({"data": {"n": 1}, "ok": true})));
        for text in ["", "channel", "a == b", "a = 'b'", "== 'b'", "a == 'b' == 'c' !="] {
            assert!(Filter::parse(text).is_err(), "{text}");
        }
    }
}
