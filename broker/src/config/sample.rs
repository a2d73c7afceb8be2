//! The commented sample file, generated from the table.

use std::fmt::Write as _;

use super::keys;

/// A `server.properties` in which every key is a comment with its default.
pub fn sample_file() -> String {
    let mut text = String::from(
        "# Configuration of Odradek. The names are Apache Kafka's; a server.properties of Kafka\n\
         # works as it is. Lines with # are comments and show the defaults.\n",
    );
    for (title, keys) in keys::SECTIONS {
        let _ = write!(text, "\n### {title}\n");
        for key in *keys {
            text.push('\n');
            for line in wrap(&format!("{} {}", key.short, key.long), 96) {
                let _ = writeln!(text, "# {line}");
            }
            if let Some((kafka, why)) = key.kafka_default {
                for line in wrap(&format!("Kafka's default is {kafka}; {why}."), 96) {
                    let _ = writeln!(text, "# {line}");
                }
            }
            let _ = writeln!(text, "#{}={}", key.name, key.default.unwrap_or_default());
        }
    }
    text
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("never empty");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
