//! From a record's value to rows with fields.
//!
//! A value is one JSON object or an array of objects (the old flight producer sent a whole chunk
//! of its file in one message); each object is a row. Numbers may be written as strings, as CSV
//! sources and yfinance write them.

use serde_json::{Map, Value};

pub type Row = Map<String, Value>;

/// What a value holds.
#[derive(Debug, PartialEq)]
pub enum Rows {
    One(Row),
    Many(Vec<Row>),
    /// Not JSON, or JSON of another shape.
    Unreadable,
}

impl Rows {
    /// An array with any element that is no object is unreadable as a whole: counting the rest
    /// of it would hide the fault.
    pub fn parse(value: Option<&[u8]>) -> Self {
        let Some(bytes) = value else { return Self::Unreadable };
        match serde_json::from_slice::<Value>(bytes) {
            Ok(Value::Object(row)) => Self::One(row),
            Ok(Value::Array(items)) => {
                let rows: Option<Vec<Row>> = items
                    .into_iter()
                    .map(|item| match item {
                        Value::Object(row) => Some(row),
                        _ => None,
                    })
                    .collect();
                rows.map_or(Self::Unreadable, Self::Many)
            }
            _ => Self::Unreadable,
        }
    }

    pub fn into_vec(self) -> Option<Vec<Row>> {
        match self {
            Self::One(row) => Some(vec![row]),
            Self::Many(rows) => Some(rows),
            Self::Unreadable => None,
        }
    }
}

/// The field as a finite number; a numeric string counts.
pub fn number(row: &Row, field: &str) -> Option<f64> {
    let number = match row.get(field)? {
        Value::Number(n) => n.as_f64()?,
        Value::String(s) => s.trim().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

/// The field as a whole number; a numeric string counts.
pub fn integer(row: &Row, field: &str) -> Option<i64> {
    match row.get(field)? {
        Value::Number(n) => n.as_i64(),
        Value::String(s) => s.trim().parse().ok(),
        _ => None,
    }
}

/// The field as text, without JSON quotes. `null` is no text.
pub fn text(row: &Row, field: &str) -> Option<String> {
    match row.get(field)? {
        Value::String(s) => Some(s.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
    }
}

/// Text with `{field}` places, filled from a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(String),
}

impl Template {
    pub fn parse(template: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some(open) = rest.find('{') {
            let close = rest[open..].find('}').ok_or("a `{` is not closed by a `}`")? + open;
            let field = &rest[open + 1..close];
            if field.is_empty() || field.contains('{') {
                return Err("`{…}` must hold the name of a field".to_owned());
            }
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_owned()));
            }
            parts.push(Part::Field(field.to_owned()));
            rest = &rest[close + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        if !parts.iter().any(|part| matches!(part, Part::Field(_))) {
            return Err("it names no field; write for example \"{carrier}\"".to_owned());
        }
        Ok(Self { parts })
    }

    /// `None` when the row lacks one of the fields.
    pub fn fill(&self, row: &Row) -> Option<String> {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Field(field) => filled.push_str(&text(row, field)?),
            }
        }
        Some(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_an_object_or_an_array_of_objects() {
        let rows = |text: &str| Rows::parse(Some(text.as_bytes())).into_vec().map(|r| r.len());
        assert_eq!(rows(r#"{"a":1}"#), Some(1));
        assert_eq!(rows(r#"[{"a":1},{"a":2}]"#), Some(2));
        assert_eq!(rows("[]"), Some(0));
        for unreadable in [r#"[{"a":1},2]"#, "7", "nonsense", ""] {
            assert_eq!(rows(unreadable), None, "{unreadable}");
        }
        assert_eq!(Rows::parse(None), Rows::Unreadable);
    }

    #[test]
    fn numbers_may_be_written_as_strings_but_must_be_finite() {
        let Rows::One(row) = Rows::parse(Some(br#"{"a":1.5,"b":" 2 ","c":"NaN","d":null}"#)) else {
            panic!("an object");
        };
        assert_eq!(number(&row, "a"), Some(1.5));
        assert_eq!(number(&row, "b"), Some(2.0));
        assert_eq!(integer(&row, "b"), Some(2));
        assert_eq!(number(&row, "c"), None);
        assert_eq!(number(&row, "d"), None);
        assert_eq!(number(&row, "e"), None);
    }

    #[test]
    fn a_template_is_filled_from_the_row_or_not_at_all() {
        let Rows::One(row) = Rows::parse(Some(br#"{"year":2013,"month":"1"}"#)) else {
            panic!("an object");
        };
        let template = Template::parse("{year}-{month}!").unwrap();
        assert_eq!(template.fill(&row).as_deref(), Some("2013-1!"));
        assert_eq!(Template::parse("{day}").unwrap().fill(&row), None);
        for wrong in ["{", "{}", "{a{b}", "plain"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }
}
