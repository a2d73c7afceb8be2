//! Values as written, with where each was written, and the one way to read them.
//!
//! Order of precedence: `--override`, then the environment, then the file, then the table's
//! default. [`Reader`] is the only reader: it refuses bad values with their place and keeps the
//! names it was asked for, so that a test can tell a key that nothing reads.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::keys::{self, Found, Verdict};
use super::properties;

/// What stands in the way of a start: where, what, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigProblem {
    /// File name, or `environment` or `--override`; empty for what was not written at all.
    pub file: String,
    pub line: Option<usize>,
    pub key: String,
    pub what: String,
    pub fix: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}", self.file)?;
            if let Some(line) = self.line {
                write!(f, ":{line}")?;
            }
            f.write_str(": ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)?;
        if !self.fix.is_empty() {
            write!(f, ". Fix: {}", self.fix)?;
        }
        Ok(())
    }
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    File {
        path: String,
        line: usize,
    },
    Environment {
        variable: String,
    },
    Override,
    /// Set through the protocol while the broker runs.
    Dynamic,
}

impl Origin {
    pub(super) fn file(&self) -> String {
        match self {
            Self::File { path, .. } => path.clone(),
            Self::Environment { variable } => format!("environment {variable}"),
            Self::Override => "--override".to_owned(),
            Self::Dynamic => String::new(),
        }
    }

    pub(super) fn line(&self) -> Option<usize> {
        match self {
            Self::File { line, .. } => Some(*line),
            _ => None,
        }
    }
}

#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    pub value: String,
    pub origin: Origin,
}

/// Where configuration comes from. Only the file's name is ever printed.
#[derive(Clone, Default)]
pub struct Sources {
    pub file: Option<PathBuf>,
    /// The process's environment (only `KAFKA_…` and `ODRADEK_…` are looked at).
    pub environment: Vec<(String, String)>,
    /// `key=value`, as given to `--override`.
    pub overrides: Vec<String>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Sources {
    /// The named file, else the first that exists of `./server.properties` and the system's
    /// (`/etc/odradek/server.properties`, `%ProgramData%\Odradek\server.properties`), with the
    /// environment of this process.
    pub fn discover(named: Option<PathBuf>, overrides: Vec<String>) -> Self {
        let system = if cfg!(windows) {
            std::env::var_os("ProgramData").map(|base| PathBuf::from(base).join("Odradek"))
        } else {
            Some(PathBuf::from("/etc/odradek"))
        };
        let places = [Some(PathBuf::from(".")), system].into_iter().flatten();
        let file = named.or_else(|| {
            places.map(|folder| folder.join("server.properties")).find(|file| file.is_file())
        });
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { file, environment, overrides }
    }
}

/// All that was written, by key. Never printed: it holds secrets.
#[derive(Clone, Default)]
pub struct Values {
    pub entries: BTreeMap<String, Entry>,
    /// `KAFKA_…` variables that are no setting of this broker, nor nearly one.
    pub ignored_variables: Vec<String>,
    /// Keys written twice in the file: the last one counts.
    pub repeated: Vec<(String, usize)>,
    /// From `KAFKA_OPTS`, as a JVM would take it.
    pub jaas_file: Option<String>,
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}

impl Values {
    pub fn gather(sources: &Sources) -> Result<Self, Vec<ConfigProblem>> {
        let mut values = Self::default();
        let mut problems = Vec::new();
        if let Some(path) = &sources.file {
            match read_text(path) {
                Ok(text) => problems.extend(values.add_file(&path.display().to_string(), &text)),
                Err(problem) => problems.push(problem),
            }
        }
        for (name, value) in &sources.environment {
            problems.extend(values.add_variable(name, value));
        }
        for text in &sources.overrides {
            problems.extend(values.add_override(text));
        }
        if problems.is_empty() { Ok(values) } else { Err(problems) }
    }

    pub fn add_file(&mut self, path: &str, text: &str) -> Option<ConfigProblem> {
        let properties = match properties::parse(text) {
            Ok(properties) => properties,
            Err(error) => {
                return Some(ConfigProblem {
                    file: path.to_owned(),
                    line: Some(error.line),
                    key: String::new(),
                    what: error.what,
                    fix: "write it as in a Java file: a backslash of a path twice, or as /"
                        .to_owned(),
                });
            }
        };
        for property in properties {
            let origin = Origin::File { path: path.to_owned(), line: property.line };
            // Java keeps blanks at the end of a value; in a broker's settings they are slips.
            let value = property.value.trim_end().to_owned();
            if self.entries.insert(property.key.clone(), Entry { value, origin }).is_some() {
                self.repeated.push((property.key, property.line));
            }
        }
        None
    }

    /// `KAFKA_ADVERTISED_LISTENERS` is `advertised.listeners`, as in the usual images (`__` is an
    /// underscore, `___` a dash); `ODRADEK_HTTP_LISTEN` is `odradek.http.listen`.
    fn add_variable(&mut self, variable: &str, value: &str) -> Option<ConfigProblem> {
        if variable == "KAFKA_OPTS" {
            let option = "-Djava.security.auth.login.config=";
            let path = value.split_whitespace().find_map(|word| word.strip_prefix(option));
            self.jaas_file = path.map(str::to_owned);
            return None;
        }
        let (key, ours) = match variable.strip_prefix("KAFKA_") {
            Some(rest) => (dotted(rest), false),
            None => (format!("odradek.{}", dotted(variable.strip_prefix("ODRADEK_")?)), true),
        };
        let origin = Origin::Environment { variable: variable.to_owned() };
        let known = keys::find(&key).is_some() || key.starts_with("listener.name.");
        if known {
            self.entries.insert(key, Entry { value: value.trim().to_owned(), origin });
            return None;
        }
        // Other programs use such names too (KAFKA_VERSION, KAFKA_HEAP_OPTS): only what is nearly
        // a setting is taken for a slip.
        let near = keys::nearest(&key).filter(|near| keys::distance(near, &key) <= 2)?;
        if ours {
            return None;
        }
        Some(ConfigProblem {
            file: origin.file(),
            line: None,
            key,
            what: "unknown".to_owned(),
            fix: format!("is {near} meant?"),
        })
    }

    pub fn add_override(&mut self, text: &str) -> Option<ConfigProblem> {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                self.set(key.trim(), value.trim());
                None
            }
            _ => Some(ConfigProblem {
                file: "--override".to_owned(),
                line: None,
                key: String::new(),
                // Behind the name may stand a password.
                what: format!("{:?} is not of the form key=value", name_of(text)),
                fix: "for example --override num.partitions=4".to_owned(),
            }),
        }
    }

    /// A value that wins over file and environment.
    pub fn set(&mut self, key: &str, value: &str) {
        let entry = Entry { value: value.to_owned(), origin: Origin::Override };
        self.entries.insert(key.to_owned(), entry);
    }
}

/// The text of a user's file, or what is wrong with it. Java reads properties as Latin-1, so what
/// is not UTF-8 (an umlaut in a comment, from an editor on Windows) is taken for that.
pub fn read_text(path: &Path) -> Result<String, ConfigProblem> {
    let problem = |what: String, fix: &str| ConfigProblem {
        file: path.display().to_string(),
        line: None,
        key: String::new(),
        what,
        fix: fix.to_owned(),
    };
    let bytes = std::fs::read(path).map_err(|error| {
        problem(format!("cannot be read: {error}"), "check the path and who may read it")
    })?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        let what = "is UTF-16, which some editors on Windows call Unicode";
        return Err(problem(what.to_owned(), "save it as UTF-8"));
    }
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| error.as_bytes().iter().map(|byte| char::from(*byte)).collect()))
}

/// What looks like the name of a key at the beginning of a text.
fn name_of(text: &str) -> &str {
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let end = text.find(|c: char| !part_of_name(c)).unwrap_or(text.len());
    &text[..end]
}

fn dotted(variable: &str) -> String {
    variable
        .to_lowercase()
        .replace("___", "-")
        .replace("__", "\u{0}")
        .replace('_', ".")
        .replace('\u{0}', "_")
}

/// Reads keys of the table out of [`Values`]; problems and notes are gathered, not thrown, so that
/// a user sees all of them at once.
pub struct Reader<'a> {
    pub values: &'a Values,
    problems: RefCell<Vec<ConfigProblem>>,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Reader<'a> {
    pub fn new(values: &'a Values) -> Self {
        Self { values, problems: RefCell::default(), asked: RefCell::default() }
    }

    pub fn into_problems(self) -> Vec<ConfigProblem> {
        self.problems.into_inner()
    }

    #[cfg(test)]
    pub fn asked(&self) -> BTreeSet<&'static str> {
        self.asked.borrow().clone()
    }

    /// Reports what is wrong with the key as written at `origin`.
    pub fn problem(
        &self,
        origin: Option<&Origin>,
        key: &str,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.problems.borrow_mut().push(ConfigProblem {
            file: origin.map(Origin::file).unwrap_or_default(),
            line: origin.and_then(Origin::line),
            key: key.to_owned(),
            what: what.into(),
            fix: fix.into(),
        });
    }

    pub fn origin(&self, key: &str) -> Option<&'a Origin> {
        self.values.entries.get(key).map(|entry| &entry.origin)
    }

    /// What was written, if it was and is valid; an empty value counts as not written.
    pub fn written(&self, name: &'static str) -> Option<String> {
        self.written_at(name, name).map(|(_, value)| value)
    }

    /// The value of `name` for a listener: `listener.name.<listener>.<name>`, else `<name>`.
    /// Returns the key under which it was found, too.
    pub fn written_for(&self, listener: &str, name: &'static str) -> Option<(String, String)> {
        let prefixed = format!("listener.name.{}.{name}", listener.to_lowercase());
        let own = self.entry_key(&prefixed).and_then(|key| self.written_at(&key, name));
        own.or_else(|| self.written_at(name, name))
    }

    /// As [`Self::written_for`], without the bare key: `listener` may be a listener and a
    /// mechanism.
    pub fn written_only_for(&self, listener: &str, name: &'static str) -> Option<String> {
        let prefixed = format!("listener.name.{}.{name}", listener.to_lowercase());
        let key = self.entry_key(&prefixed)?;
        self.written_at(&key, name).map(|(_, value)| value)
    }

    /// As [`Self::written_for`], with the table's default behind it.
    pub fn text_for(&self, listener: &str, name: &'static str) -> String {
        let default = || keys::used_key(name).default.unwrap_or_default().to_owned();
        self.written_for(listener, name).map_or_else(default, |(_, value)| value)
    }

    /// The value or the table's default; an empty text if it has none.
    pub fn text(&self, name: &'static str) -> String {
        let default = || keys::used_key(name).default.unwrap_or_default().to_owned();
        self.written(name).unwrap_or_else(default)
    }

    pub fn bool(&self, name: &'static str) -> bool {
        keys::parse_bool(&self.text(name)).expect("a checked value or the table's default")
    }

    pub fn long(&self, name: &'static str) -> i64 {
        self.text(name).parse().expect("a checked value or the table's default")
    }

    /// A number whose bounds in the table make it fit.
    pub fn number<T: TryFrom<i64>>(&self, name: &'static str) -> T {
        let number = T::try_from(self.long(name)).ok();
        number.expect("the table's bounds are those of the type")
    }

    fn written_at(&self, written: &str, name: &'static str) -> Option<(String, String)> {
        let key = keys::used_key(name);
        self.asked.borrow_mut().insert(key.name);
        let entry = self.values.entries.get(written)?;
        // What is wrong with a value is reported once, by `check_names`.
        if entry.value.is_empty() || key.check(&entry.value).is_err() {
            return None;
        }
        Some((written.to_owned(), entry.value.clone()))
    }

    /// Listener names in prefixes are written in any case.
    fn entry_key(&self, lower: &str) -> Option<String> {
        if self.values.entries.contains_key(lower) {
            return Some(lower.to_owned());
        }
        let mut all = self.values.entries.keys();
        all.find(|key| key.eq_ignore_ascii_case(lower)).cloned()
    }
}

/// Checks every written name against the table; returns those without effect, with the reason.
pub fn check_names(reader: &Reader<'_>, listeners: &[String]) -> Vec<(String, &'static str)> {
    let mut without_effect = Vec::new();
    let pasted = pasted_jaas(reader);
    for (name, entry) in &reader.values.entries {
        let bare = match without_listener(name, listeners) {
            Ok(bare) => bare,
            Err(listener) => {
                let what = format!("there is no listener named {listener}");
                reader.problem(Some(&entry.origin), name, what, "name it in listeners=");
                continue;
            }
        };
        match keys::find(bare) {
            Some(Found::Key(key)) => {
                let plain = matches!(key.scope, keys::Scope::Broker | keys::Scope::Topic);
                if plain && bare != name {
                    let what = format!("{bare} holds for the whole broker");
                    reader.problem(Some(&entry.origin), name, what, format!("write {bare}="));
                }
                let wrong = key.check(&entry.value).err().filter(|_| !entry.value.is_empty());
                if let Some(what) = wrong {
                    let fix = key.default.map_or(String::new(), |value| {
                        format!("the default is {value}; {}", key.short)
                    });
                    reader.problem(Some(&entry.origin), name, what, fix);
                }
            }
            Some(Found::Foreign(Verdict::Refused(why))) if !entry.value.is_empty() => {
                reader.problem(Some(&entry.origin), name, "cannot be honoured", why);
            }
            Some(Found::Foreign(Verdict::NoEffect(why) | Verdict::Refused(why))) => {
                without_effect.push((name.clone(), why));
            }
            Some(Found::Foreign(Verdict::Used)) => {}
            None if entry.origin.line().is_some_and(|line| pasted.contains(&line)) => {}
            None => {
                let fix = match keys::nearest(bare) {
                    Some(near) => meant(near, &entry.value),
                    None => "take the line out".to_owned(),
                };
                reader.problem(Some(&entry.origin), name, "unknown", fix);
            }
        }
    }
    without_effect
}

/// The lines of a JAAS file that was pasted into the properties: one problem instead of one a line.
fn pasted_jaas(reader: &Reader<'_>) -> Range<usize> {
    let entries = &reader.values.entries;
    let is_section = |(name, entry): &(&String, &Entry)| {
        let bare = name.strip_suffix('{').filter(|_| entry.value.is_empty());
        let bare = bare.or(Some(name.as_str()).filter(|_| entry.value.starts_with('{')));
        matches!(bare, Some("KafkaServer" | "KafkaClient" | "Client"))
    };
    let first = entries.iter().filter(is_section).min_by_key(|(_, entry)| entry.origin.line());
    let Some((name, entry)) = first else { return 0..0 };
    let fix = "keep it in a file of its own and write odradek.jaas.file= with its path here, or \
               write listener.name.NAME.plain.sasl.jaas.config= and behind it the lines between \
               the braces as one";
    reader.problem(
        Some(&entry.origin),
        name,
        "the content of a JAAS file does not belong here",
        fix,
    );
    // Of keys that stand there twice, the last counts.
    let end = entries.get("};").and_then(|entry| entry.origin.line()).unwrap_or(usize::MAX - 1);
    entry.origin.line().unwrap_or_default()..end + 1
}

/// The line as it should be, unless its value may be a secret.
fn meant(near: &str, value: &str) -> String {
    let is_secret = near.contains("password")
        || near.contains("jaas")
        || matches!(keys::find(near), Some(Found::Key(key)) if key.sensitive());
    if is_secret || value.is_empty() {
        return format!("is {near} meant? Else take the line out");
    }
    format!("is {near} meant? Write {near}={value}, else take the line out")
}

/// Strips `listener.name.<listener>.` and `<mechanism>.`; `Err` is an unknown listener.
pub(super) fn without_listener<'n>(name: &'n str, listeners: &[String]) -> Result<&'n str, String> {
    let Some(rest) = name.strip_prefix("listener.name.") else {
        return Ok(name);
    };
    // A listener's name may hold dots, so the longest known one that fits is taken.
    let known = listeners
        .iter()
        .filter(|listener| {
            let end = listener.len();
            rest.get(..end).is_some_and(|head| head.eq_ignore_ascii_case(listener))
                && rest[end..].starts_with('.')
        })
        .map(String::len)
        .max();
    let Some(end) = known else {
        return Err(rest.split('.').next().unwrap_or_default().to_owned());
    };
    let bare = &rest[end + 1..];
    const MECHANISMS: [&str; 5] =
        ["plain.", "scram-sha-256.", "scram-sha-512.", "gssapi.", "oauthbearer."];
    let lower = bare.to_ascii_lowercase();
    let mechanism = MECHANISMS.iter().find(|prefix| lower.starts_with(*prefix));
    Ok(mechanism.map_or(bare, |prefix| &bare[prefix.len()..]))
}
