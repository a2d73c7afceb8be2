//! Text for a terminal, or a file, of this width.

const COLUMNS: usize = 84;

/// The text in lines of at most the width, each after `indent` blanks; words are not broken.
pub fn wrapped(text: &str, indent: usize) -> String {
    let blanks = " ".repeat(indent);
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= COLUMNS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{blanks}{word}")),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_to_the_width_and_lose_no_word() {
        let text = "some words that go on and on, ".repeat(20);
        let wrapped = wrapped(&text, 4);
        for line in wrapped.lines() {
            assert!(line.starts_with("    some") || line.starts_with("    "), "{line}");
            assert!(line.chars().count() <= COLUMNS, "{line}");
        }
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&wrapped), words(&text));
        assert_eq!(super::wrapped("", 4), "");
    }
}
