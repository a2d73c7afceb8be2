//! `server.properties` and what stands in it: the file's grammar, the resolved configuration, JAAS
//! texts, and the rules that make a user of a certificate's name.
//!
//! First byte: which. Promises: a problem names a line that there is; a configuration that is
//! accepted never shows a password; every entry that is read can be written and read again.

use odradek_broker::config::{Config, PrincipalRules, jaas, properties};

pub fn run(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match which % 4 {
        0 => configuration(text),
        1 => grammar(text),
        2 => {
            for found in [jaas::parse_entry(text), jaas::parse_file(text)].into_iter().flatten() {
                let shown = format!("{found:?}");
                let hidden = |secret: &str| secret.len() < 12 || !shown.contains(secret);
                let outside =
                    |secret: &str| found.users.iter().any(|(user, _)| user.contains(secret));
                for (_, secret) in &found.users {
                    assert!(hidden(secret.expose()) || outside(secret.expose()), "{shown}");
                }
            }
        }
        _ => {
            let (rules, name) = text.split_once('\n').unwrap_or((text, "CN=a,O=b"));
            if let Ok(rules) = PrincipalRules::parse(rules) {
                let user = rules.apply(name);
                assert_eq!(rules.apply(name), user);
            }
        }
    }
}

fn configuration(text: &str) {
    // A file that is named is read: the fuzzer shall not open what it thinks of.
    if names_a_file(text) {
        return;
    }
    let lines = text.split(['\n', '\r']).count();
    match Config::from_text("server.properties", text) {
        Ok(config) => {
            for row in config.describe_broker() {
                let secret = row.sensitive || row.name.to_ascii_lowercase().contains("password");
                assert!(!secret || row.value.is_none(), "{} is shown", row.name);
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{problem}");
            }
        }
    }
}

fn names_a_file(text: &str) -> bool {
    let Ok(entries) = properties::parse(text) else { return false };
    let files = ["jaas.file", "jaas.config.file", "java.security.auth.login.config"];
    entries.iter().any(|entry| files.iter().any(|name| entry.key.contains(name)))
}

fn grammar(text: &str) {
    let Ok(entries) = properties::parse(text) else { return };
    let lines = text.split(['\n', '\r']).count();
    let mut written = String::new();
    for entry in &entries {
        assert!((1..=lines).contains(&entry.line), "{} of {lines}", entry.line);
        written.push_str(&format!("{}={}\n", escaped(&entry.key), escaped(&entry.value)));
    }
    let again = properties::parse(&written).expect("every character is escaped");
    let pairs = |entries: &[properties::Property]| -> Vec<(String, String)> {
        entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect()
    };
    assert_eq!(pairs(&again), pairs(&entries));
}

/// As Java's `Properties.store` could write it: every unit by its number.
fn escaped(text: &str) -> String {
    text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
}
