//! Transcripts: what is said to a machine, and what it does, as text in a folder of `testdata`.
//!
//! A line that begins with `>` is said; the indented lines below it are what came of it; `#` begins
//! a comment that names the rule. After a change of behaviour, run with `UPDATE_TRANSCRIPTS=1` and
//! review the difference: it is the specification.

use std::path::Path;

use kafka_protocol::ResponseError;

/// Says each transcript of a folder of this package to a new machine, and compares what is heard.
/// `say` takes a line without its `>` and gives the lines below it.
pub(crate) fn check<M>(folder: &str, new: fn() -> M, say: fn(&mut M, &str) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut checked = 0;
    for entry in std::fs::read_dir(&folder).expect("the folder of transcripts") {
        let path = entry.expect("an entry").path();
        let expected = std::fs::read_to_string(&path).expect("a transcript").replace("\r\n", "\n");
        let mut machine = new();
        let heard = replay(&expected, |line| say(&mut machine, line));
        if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
            std::fs::write(&path, &heard).expect("write the transcript");
        } else {
            assert_eq!(heard, expected, "{}", path.display());
        }
        checked += 1;
    }
    assert!(checked > 0, "no transcripts in {}", folder.display());
}

/// The transcript as it comes out when its lines are said again.
fn replay(transcript: &str, mut say: impl FnMut(&str) -> String) -> String {
    let mut out = String::new();
    for line in transcript.lines() {
        let said = line.strip_prefix("> ");
        if said.is_none() && line.starts_with("  ") {
            continue;
        }
        out.push_str(line);
        out.push('\n');
        if let Some(said) = said {
            out.push_str(&say(said.trim()));
        }
    }
    out
}

/// Kafka's name of an error.
pub(crate) fn error_name(error: ResponseError) -> String {
    let mut name = String::new();
    for letter in format!("{error:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_uppercase());
    }
    name
}
