//! Regular expressions over topic names, as members subscribe with (ConsumerGroupHeartbeat 1).
//!
//! Kafka compiles them with RE2/J, whose syntax the crate `regex` shares but for `\Q…\E`, which is
//! translated. A name matches as a whole or not at all. Both engines take time linear in the name;
//! the size of a compiled expression is bounded here, because whoever may join a group can send
//! one.

use regex::{Regex, RegexBuilder};

/// Bytes of one compiled expression: `[a-z]{1,100}` takes about 20 KiB.
const COMPILED_BYTES_MAX: usize = 256 * 1024;

/// Bytes of the cache that one expression may use while it matches.
const CACHE_BYTES_MAX: usize = 256 * 1024;

/// The expression itself: it is part of a record's key, whose texts have a length of 15 bits.
const PATTERN_BYTES_MAX: usize = 4 * 1024;

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
    use super::compile;

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
