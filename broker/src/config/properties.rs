//! Java's `.properties` syntax, with line numbers.
//!
//! What `java.util.Properties.load` accepts is accepted here with the same meaning: `#` and `!`
//! comments, `=`, `:` or white space between key and value, a backslash at the end of a line that
//! joins the next one, `\t \n \r \f`, `\u` with four digits, and a backslash before
//! anything else is that thing.
//! One difference: a broken `\u` is an error with its line instead of an exception without one.

/// One `key=value`, with the line (from 1) on which it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    pub line: usize,
    pub key: String,
    pub value: String,
}

/// What is wrong with the text, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct PropertiesError {
    pub line: usize,
    pub what: String,
}

/// All properties in the order of the text; a repeated key is there twice.
pub fn parse(text: &str) -> Result<Vec<Property>, PropertiesError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    logical_lines(text)
        .into_iter()
        .map(|(line, text)| {
            let (key, value) = split(&text);
            let unescaped = |raw: &str| {
                unescape(raw).map_err(|what| PropertiesError { line, what: what.to_owned() })
            };
            Ok(Property { line, key: unescaped(key)?, value: unescaped(value)? })
        })
        .collect()
}

/// Lines with continuations joined; blank lines and comments are left out.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    let text = text.replace("\r\n", "\n");
    for (index, raw) in text.split(['\n', '\r']).enumerate() {
        let part = raw.trim_start_matches([' ', '\t', '\u{c}']);
        if open.is_none() && (part.is_empty() || part.starts_with(['#', '!'])) {
            continue;
        }
        let (line, mut joined) = open.take().unwrap_or((index + 1, String::new()));
        if ends_with_continuation(part) {
            joined.push_str(&part[..part.len() - 1]);
            open = Some((line, joined));
        } else {
            joined.push_str(part);
            lines.push((line, joined));
        }
    }
    lines.extend(open);
    lines.retain(|(_, text)| !text.is_empty());
    lines
}

fn ends_with_continuation(part: &str) -> bool {
    part.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// The key ends at the first unescaped `=`, `:` or white space.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line
        .char_indices()
        .find(|(_, c)| {
            let ends = !escaped && matches!(c, '=' | ':' | ' ' | '\t' | '\u{c}');
            escaped = !escaped && *c == '\\';
            ends
        })
        .map_or(line.len(), |(at, _)| at);
    let blank = [' ', '\t', '\u{c}'];
    let rest = line[end..].trim_start_matches(blank);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(blank);
    (&line[..end], value)
}

fn unescape(raw: &str) -> Result<String, &'static str> {
    const BROKEN: &str = "\\u needs four hexadecimal digits";
    let mut units: Vec<u16> = Vec::with_capacity(raw.len());
    let mut chars = raw.chars();
    let mut pair = [0u16; 2];
    while let Some(c) = chars.next() {
        if c != '\\' {
            units.extend_from_slice(c.encode_utf16(&mut pair));
            continue;
        }
        match chars.next() {
            None => {}
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(BROKEN);
                }
                units.push(u16::from_str_radix(&digits, 16).map_err(|_| BROKEN)?);
            }
            Some('t') => units.push(u16::from(b'\t')),
            Some('n') => units.push(u16::from(b'\n')),
            Some('r') => units.push(u16::from(b'\r')),
            Some('f') => units.push(0x0c),
            Some(other) => units.extend_from_slice(other.encode_utf16(&mut pair)),
        }
    }
    String::from_utf16(&units).map_err(|_| "\\u escapes form half of a surrogate pair")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(usize, String, String)> {
        parse(text).unwrap().into_iter().map(|p| (p.line, p.key, p.value)).collect()
    }

    fn one(text: &str) -> (String, String) {
        let mut all = pairs(text);
        assert_eq!(all.len(), 1, "{text:?}");
        let (_, key, value) = all.remove(0);
        (key, value)
    }

    /// Expected values: the examples in the documentation of `java.util.Properties.load`.
    #[test]
    fn the_examples_of_javas_documentation_mean_what_they_mean_in_java() {
        for text in ["Truth = Beauty", " Truth:Beauty", "Truth\t\t\t:Beauty"] {
            assert_eq!(one(text), ("Truth".into(), "Beauty".into()));
        }
        let fruits =
            "fruits   apple, banana, pear, \\\n   cantaloupe, watermelon, \\\n   kiwi, mango";
        let value = "apple, banana, pear, cantaloupe, watermelon, kiwi, mango";
        assert_eq!(one(fruits), ("fruits".into(), value.into()));
        assert_eq!(one("cheeses"), ("cheeses".into(), String::new()));
        assert_eq!(one("\\:\\==x"), (":=".into(), "x".into()));
    }

    #[test]
    fn escapes_comments_and_line_ends_follow_java() {
        assert_eq!(one("path=E:\\\\kafka\\\\logs").1, "E:\\kafka\\logs");
        assert_eq!(one("path=E:\\kafka").1, "E:kafka");
        assert_eq!(one("k=\\u0041\\ud83d\\ude00\\t").1, "A😀\t");
        assert_eq!(
            pairs("# c\r\n! c\r\n\r\na=1\r\nb=2\n"),
            [(4, "a".into(), "1".into()), (5, "b".into(), "2".into())]
        );
        assert_eq!(one("a=x\\\\").1, "x\\");
        assert_eq!(one("a = b # c = d").1, "b # c = d");
        assert_eq!(one("a=1 ").1, "1 ");
        assert_eq!(pairs("a=1\\\n# not a comment\nb=2")[0].2, "1# not a comment");
        assert_eq!(one("a=end\\").1, "end");
    }

    #[test]
    fn a_broken_unicode_escape_names_its_line() {
        let error = parse("a=1\nb=\\u00zz").unwrap_err();
        assert_eq!(error.to_string(), "line 2: \\u needs four hexadecimal digits");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*|[\\\\\r\n\t =:#!u0-9a-f]*") {
            let _ = parse(&text);
        }
    }
}
