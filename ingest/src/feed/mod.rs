//! What live feeds share, whichever protocol brings them: from the bytes that came to documents
//! (`decode`, with `filter` and the vendors' codecs), from documents to the records of one unit
//! (`batch`), repetitions dropped (`recent`); and the way there (`transport`).

pub(crate) mod batch;
pub(crate) mod decode;
pub(crate) mod filter;
pub(crate) mod pricing;
pub(crate) mod recent;
pub(crate) mod transport;

use serde_json::{Map, Value};

/// `a.b.c` in nested objects.
pub(crate) fn field<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(document, |value, name| value.get(name))
}

/// The same, from an object.
pub(crate) fn field_of<'a>(document: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        None => document.get(path),
        Some((name, rest)) => document.get(name).and_then(|value| field(value, rest)),
    }
}
