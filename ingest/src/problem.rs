//! What is wrong with a source's configuration, for a person.

use std::fmt;

/// One thing to change in `pipeline.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub source: String,
    pub key: &'static str,
    pub what: String,
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "source {:?}: {}: {}; {}", self.source, self.key, self.what, self.fix)
    }
}

/// Collects problems of one source.
#[derive(Debug)]
pub(crate) struct Problems {
    source: String,
    found: Vec<Problem>,
}

impl Problems {
    pub fn new(source: &str) -> Self {
        Self { source: source.to_owned(), found: Vec::new() }
    }

    pub fn add(&mut self, key: &'static str, what: impl Into<String>, fix: impl Into<String>) {
        let (what, fix) = (what.into(), fix.into());
        self.found.push(Problem { source: self.source.clone(), key, what, fix });
    }

    pub fn none(&self) -> bool {
        self.found.is_empty()
    }

    pub fn into_vec(self) -> Vec<Problem> {
        self.found
    }
}
