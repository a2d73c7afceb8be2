//! Regular expressions over topic names, as members subscribe with (ConsumerGroupHeartbeat 1).
//!
//! Kafka compiles them with RE2/J, whose syntax the crate `regex` shares but for `\Q…\E`, which is
//! translated. A name matches as a whole or not at all. Both engines take time linear in the name;
//! the size of a compiled expression is bounded here, because whoever may join a group can send
//! one.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};

/// Different expressions of one group, which keeps them compiled: at worst each takes about half a
/// megabyte. The members of an application have one, or two while it is being replaced.
pub(super) const GROUP_PATTERNS_MAX: usize = 32;

/// Bytes of one compiled expression: `[a-z]{1,100}` takes about 20 KiB.
const COMPILED_BYTES_MAX: usize = 256 * 1024;

/// Bytes of the cache that one expression may use while it matches.
const CACHE_BYTES_MAX: usize = 256 * 1024;

/// The expression itself: it is part of a record's key, whose texts have a length of 15 bits.
const PATTERN_BYTES_MAX: usize = 4 * 1024;

/// The expressions of one group, compiled when they are first seen: whenever a topic comes, goes or
/// grows they are all matched again, under the lock of all groups.
#[derive(Debug, Clone, Default)]
pub(super) struct Compiled {
    /// `None`: one of a foreign record, which cannot be compiled.
    patterns: BTreeMap<String, Option<Regex>>,
}

/// They follow from the group's image, and so make no difference between groups.
impl PartialEq for Compiled {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Compiled {}

impl Compiled {
    /// One that a member brings; if it is refused, it is not kept.
    pub(super) fn add(&mut self, pattern: &str) -> Result<(), String> {
        let compiled = compile(pattern)?;
        self.patterns.insert(pattern.to_owned(), Some(compiled));
        Ok(())
    }

    /// One of the image; compiled now if it came from a record.
    pub(super) fn of(&mut self, pattern: &str) -> Option<&Regex> {
        let compiled = || compile(pattern).ok();
        self.patterns.entry(pattern.to_owned()).or_insert_with(compiled).as_ref()
    }

    pub(super) fn retain(&mut self, is_used: impl Fn(&str) -> bool) {
        self.patterns.retain(|pattern, _| is_used(pattern));
    }
}

/// A sentence without a full stop says what is wrong.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("it is longer than {PATTERN_BYTES_MAX} bytes"));
    }
    let whole = format!("^(?:{})$", without_quotes(pattern));
    // Compiled by itself first, so that a parenthesis in it cannot close ours.
    let compiled = bounded(&without_quotes(pattern)).and_then(|_| bounded(&whole));
    compiled.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "it is too large when compiled".to_owned(),
        error => {
            // The crate draws the place with several lines; the last one says what is wrong.
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.trim_start_matches("error: ").to_owned()
        }
    })
}

fn bounded(pattern: &str) -> Result<Regex, regex::Error> {
    let mut builder = RegexBuilder::new(pattern);
    builder.size_limit(COMPILED_BYTES_MAX).dfa_size_limit(CACHE_BYTES_MAX).build()
}

/// `\Q…\E` as RE2 has it: what stands between is literal; without `\E`, up to the end.
fn without_quotes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        if let Some(quoted) = escape.strip_prefix("\\Q") {
            let (literal, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            out.push_str(&regex::escape(literal));
            rest = after;
        } else {
            // The backslash and what it escapes, so that `\\Q` is a backslash and a letter.
            let escaped = escape[1..].chars().next().map_or(0, char::len_utf8);
            out.push_str(&escape[..1 + escaped]);
            rest = &escape[1 + escaped..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::{Compiled, compile};

    #[test]
    fn a_foreign_expression_that_cannot_be_compiled_matches_nothing_and_none_is_kept_unused() {
        let mut compiled = Compiled::default();
        assert!(compiled.add("[").is_err());
        assert!(compiled.patterns.is_empty());
        compiled.add("fl.+").expect("an expression");
        assert!(compiled.of("fl.+").expect("compiled").is_match("flights"));
        assert!(compiled.of("[").is_none());
        assert!(compiled.of("t").expect("compiled").is_match("t"));
        compiled.retain(|pattern| pattern == "t");
        assert_eq!(compiled.patterns.keys().collect::<Vec<_>>(), ["t"]);
    }

    #[test]
    fn an_expression_matches_whole_names_only() {
        let cases = [
            ("flights", "flights", true),
            ("flights", "flights-2", false),
            ("fl.*", "flights", true),
            ("a|b", "ab", false),
            ("a|b", "b", true),
            (r"\Qa.b\E.*", "a.b.c", true),
            (r"\Qa.b\E.*", "aXb", false),
            (r"x\Q.+", "x.+", true),
            (r"a\\Q", r"a\Q", true),
            ("(?i)STOCKS", "stocks", true),
            ("stocks[0-9]{2}", "stocks07", true),
        ];
        for (pattern, name, expected) in cases {
            let compiled = compile(pattern).expect(pattern);
            assert_eq!(compiled.is_match(name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn what_cannot_be_compiled_or_is_too_large_is_refused_with_a_reason() {
        for pattern in ["[", "a)", "(", "a{2", "\\", "((a{100}){100}){100}", &"a".repeat(5_000)] {
            if let Err(why) = compile(pattern) {
                assert!(!why.is_empty() && !why.contains('\n'), "{pattern}: {why}");
            } else {
                assert_eq!(pattern, "a{2", "only RE2's and our engine's literal brace may pass");
            }
        }
    }
}
