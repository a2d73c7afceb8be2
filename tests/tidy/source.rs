//! Rust source text, read just deeply enough: comments, strings and characters are blanked out, so
//! that braces and words that remain are code. No full parser: the rules need lines and braces.

/// One file's text.
pub struct Source {
    /// The text with comments, strings and characters replaced by spaces; lines stay lines.
    pub code: String,
    /// The line (from 1) of `#[cfg(test)] mod`, or one past the last.
    pub tests_begin: usize,
}

pub struct Function {
    pub name: String,
    /// From 1.
    pub line: usize,
    pub lines: usize,
}

impl Source {
    pub fn new(text: &str) -> Self {
        let code = blank(text);
        let lines: Vec<&str> = code.lines().collect();
        let begins = |index: usize| {
            let next = lines.get(index + 1).map_or("", |line| line.trim());
            lines[index].trim() == "#[cfg(test)]"
                && (next.starts_with("mod ") || next.starts_with("pub(crate) mod "))
                && next.ends_with('{')
        };
        let found = (0..lines.len()).find(|index| begins(*index));
        let tests_begin = found.unwrap_or(lines.len()) + 1;
        Self { code, tests_begin }
    }

    pub fn functions(&self) -> Vec<Function> {
        let bytes = self.code.as_bytes();
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(position) = self.code[at..].find("fn ") {
            let start = at + position;
            at = start + 3;
            let apart = start == 0 || !is_word(bytes[start - 1]);
            let name: String =
                self.code[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !apart || name.is_empty() {
                continue;
            }
            if let Some((_, close)) = body(bytes, at) {
                let line = line_of(&self.code, start);
                let lines = line_of(&self.code, close) - line + 1;
                found.push(Function { name, line, lines });
            }
        }
        found
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn line_of(text: &str, position: usize) -> usize {
    text[..position].bytes().filter(|byte| *byte == b'\n').count() + 1
}

/// Where the braces of the function's body open and close; `None` for one without a body.
fn body(bytes: &[u8], from: usize) -> Option<(usize, usize)> {
    let mut nested = 0_i32;
    let mut open = None;
    for (index, byte) in bytes.iter().enumerate().skip(from) {
        match (byte, open) {
            (b'(' | b'[', None) => nested += 1,
            (b')' | b']', None) => nested -= 1,
            (b';', None) if nested == 0 => return None,
            (b'{', None) if nested == 0 => {
                open = Some(index);
                nested = 1;
            }
            (b'{', Some(_)) => nested += 1,
            (b'}', Some(start)) => {
                nested -= 1;
                if nested == 0 {
                    return Some((start, index));
                }
            }
            _ => {}
        }
    }
    None
}

/// Replaces comments, string and character literals by spaces.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            out.push(if chars[at].is_ascii() { chars[at] } else { ' ' });
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// The end of the comment, string or character that begins here; `at` if none does.
fn literal_end(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let apart = at == 0 || !(chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match rest {
        ['/', '/', ..] => at + rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => at + block_comment(rest),
        ['"', ..] => at + quoted(rest),
        ['r', '"' | '#', ..] if apart => raw_end(chars, at, 1),
        ['b', 'r', '"' | '#', ..] if apart => raw_end(chars, at, 2),
        ['\'', '\\', ..] => at + 3 + rest[3..].iter().position(|c| *c == '\'').unwrap_or(0) + 1,
        ['\'', _, '\'', ..] => at + 3,
        _ => at,
    }
}

fn block_comment(rest: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => {
                depth += 1;
                at += 2;
            }
            ['*', '/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn quoted(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A raw string's end; `at` where the `r` turns out to begin a raw identifier.
fn raw_end(chars: &[char], at: usize, prefix: usize) -> usize {
    let marks = chars[at + prefix..].iter().take_while(|c| **c == '#').count();
    let open = at + prefix + marks;
    if chars.get(open) != Some(&'"') {
        return at;
    }
    let mut index = open + 1;
    while index < chars.len() {
        let closing = chars[index] == '"'
            && chars[index + 1..].iter().take_while(|c| **c == '#').count() >= marks;
        if closing {
            return index + 1 + marks;
        }
        index += 1;
    }
    chars.len()
}

#[test]
fn literals_and_comments_do_not_count_as_code() {
    let text = "fn a() { let s = \"} // fn b() {\"; /* { */ let c = '{'; let r = r#\"}\"#; }\n";
    let source = Source::new(text);
    let names: Vec<String> = source.functions().into_iter().map(|found| found.name).collect();
    assert_eq!(names, ["a"]);
    assert_eq!(source.code.matches('{').count(), 1);
}

#[test]
fn a_function_is_measured_from_its_name_to_its_closing_brace() {
    let text = "/// fn\nfn long<T>(\n    a: [u8; 2],\n) -> T\nwhere\n    T: Copy,\n{\n    x()\n}\n";
    let functions = Source::new(text).functions();
    assert_eq!((functions[0].line, functions[0].lines), (2, 8));
}

#[test]
fn tests_inside_a_file_begin_at_their_module() {
    let source = Source::new("fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n");
    assert_eq!(source.tests_begin, 3);
}
