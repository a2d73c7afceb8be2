//! Users that the configuration names: in JAAS lines, in a JAAS file, and in lines that are set
//! while the broker runs.
//!
//! A line that is set is kept in the state log, where no password lies in clear: [`seal`] puts a
//! verifier in the place of each one before the line is kept.

use std::collections::BTreeMap;
use std::path::Path;

use super::dynamic::Overrides;
use super::values::{self, Origin, Reader};
use super::{Secret, jaas, keys};
use crate::auth::UserRecord;

pub(super) const KEY: &str = "sasl.jaas.config";

/// A user named in the configuration; holds for every listener with login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigUser {
    pub name: String,
    /// Or a sealed verifier: see [`UserRecord::unsealed`].
    pub password: Secret,
}

/// Whether the value of this key is a JAAS line.
fn is_line(name: &str) -> bool {
    name == KEY || keys::of_listener(name).is_some_and(|key| key.name == KEY)
}

/// Users of the JAAS file, which is read at the start only.
pub(super) fn of_file(reader: &Reader<'_>, warnings: &mut Vec<String>) -> Vec<ConfigUser> {
    let file = reader.written("odradek.jaas.file").or(reader.values.jaas_file.clone());
    let Some(file) = file else { return Vec::new() };
    let mut gathered = Gathered::new(reader, warnings);
    let origin = reader.origin("odradek.jaas.file");
    match values::read_text(Path::new(&file)) {
        Ok(text) => gathered.take(&file, origin, jaas::parse_file(&text)),
        Err(problem) => {
            let fix = "check the path: it is from odradek.jaas.file, or from KAFKA_OPTS \
                       (-Djava.security.auth.login.config=)";
            reader.problem(origin, &file, problem.what, fix);
        }
    }
    gathered.into_users()
}

/// Users of the file and of every line. What is set while the broker runs wins.
pub(super) fn resolve(
    reader: &Reader<'_>,
    of_file: &[ConfigUser],
    warnings: &mut Vec<String>,
) -> Vec<ConfigUser> {
    let _ = reader.written(KEY);
    let lines = reader.values.entries.iter().filter(|(key, entry)| {
        let listener = key.starts_with("listener.name.") && key.ends_with(KEY);
        (*key == KEY || listener) && !entry.value.is_empty()
    });
    let (set, fixed): (Vec<_>, Vec<_>) =
        lines.partition(|(_, entry)| entry.origin == Origin::Dynamic);
    let mut all = Gathered::new(reader, warnings);
    all.users = of_file.iter().map(|user| (user.name.clone(), user.password.clone())).collect();
    for (key, entry) in fixed {
        all.take(key, Some(&entry.origin), jaas::parse_entry(&entry.value));
    }
    let mut users = all.users;
    let mut set_ones = Gathered::new(reader, warnings);
    for (key, entry) in set {
        set_ones.take(key, Some(&entry.origin), jaas::parse_entry(&entry.value));
    }
    users.append(&mut set_ones.users);
    users.into_iter().map(|(name, password)| ConfigUser { name, password }).collect()
}

/// Users by name, each with one password.
struct Gathered<'a> {
    reader: &'a Reader<'a>,
    warnings: &'a mut Vec<String>,
    users: BTreeMap<String, Secret>,
}

impl<'a> Gathered<'a> {
    fn new(reader: &'a Reader<'a>, warnings: &'a mut Vec<String>) -> Self {
        Self { reader, warnings, users: BTreeMap::new() }
    }

    fn take(&mut self, source: &str, origin: Option<&Origin>, parsed: Result<jaas::Jaas, String>) {
        let jaas = match parsed {
            Ok(jaas) => jaas,
            Err(what) => {
                let fix = "write it as … required user_NAME=\"PASSWORD\" ;";
                return self.reader.problem(origin, source, what, fix);
            }
        };
        if jaas.only_own_login {
            self.warnings.push(format!(
                "{source} names no users: username= and password= are a broker's own login, which \
                 is not needed here. To let NAME log in, add user_NAME=\"PASSWORD\""
            ));
        }
        for (name, password) in jaas.users {
            let before = self.users.insert(name.clone(), password.clone());
            if name.is_empty() || password.expose().is_empty() {
                let what = "a user without name or password";
                self.reader.problem(origin, source, what, "fill it in");
            } else if before.is_some_and(|before| before != password) {
                let what = format!("the user {name} has two passwords");
                let fix = "users hold for all listeners: keep one";
                self.reader.problem(origin, source, what, fix);
            }
        }
    }

    fn into_users(self) -> Vec<ConfigUser> {
        let users = self.users.into_iter();
        users.map(|(name, password)| ConfigUser { name, password }).collect()
    }
}

/// Puts verifiers in the place of passwords, in every JAAS line that is new. Costs milliseconds a
/// user. An error is a sentence that shows nothing of the line.
pub(crate) fn seal(before: &Overrides, after: &mut Overrides) -> Result<(), String> {
    for (key, value) in after.iter_mut() {
        if !is_line(key) || value.is_empty() || before.get(key) == Some(value) {
            continue;
        }
        let jaas = jaas::parse_entry(value).map_err(|what| format!("{key}: {what}"))?;
        if jaas.users.is_empty() {
            return Err(format!("{key} names no users: write user_NAME=\"PASSWORD\""));
        }
        if jaas.users.iter().any(|(name, word)| name.is_empty() || word.expose().is_empty()) {
            return Err(format!("{key}: a user without name or password"));
        }
        let sealed = jaas.users.into_iter().map(|(name, password)| {
            let record = UserRecord::of_password_or_seal(password.expose());
            (name, Secret::new(&record.sealed()))
        });
        *value = jaas::line(&sealed.collect::<Vec<_>>());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Levels};

    const LINE: &str = "X required user_alice=\"it's \\\"1\\\"\" user_bob=\"b\" username=\"own\";";

    fn sealed(name: &str, line: &str) -> Result<Overrides, String> {
        let mut after = Overrides::from([(name.to_owned(), line.to_owned())]);
        seal(&Overrides::new(), &mut after).map(|()| after)
    }

    #[test]
    fn a_line_that_is_set_keeps_its_users_and_no_password() {
        let name = "listener.name.plaintext.plain.sasl.jaas.config";
        let kept = sealed(name, LINE).unwrap();
        assert!(!kept[name].contains("it's") && !kept[name].contains("own"));
        let config = Config::from_text("f", "sasl.jaas.config=X required user_bob=\"old\";\n");
        let levels = Levels { broker: kept.clone(), ..Levels::default() };
        let config = config.unwrap().with_levels(levels).unwrap();
        let names: Vec<&str> = config.users.iter().map(|user| user.name.as_str()).collect();
        assert_eq!(names, ["alice", "bob"]);
        let users = crate::auth::Users::default().with_configured(&config.users);
        assert!(users.check_plain("alice", "it's \"1\"") && users.check_plain("bob", "b"));
        assert!(!users.check_plain("bob", "old"), "what is set wins over the file");
        // What was sealed before is left as it is.
        let mut again = kept.clone();
        seal(&kept, &mut again).unwrap();
        assert_eq!(again, kept);
    }

    #[test]
    fn what_names_no_user_is_refused_and_not_repeated() {
        for line in
            ["X required username=\"a\" password=\"hunter2\";", "X required user_=\"hunter2\";"]
        {
            let why = sealed(KEY, line).unwrap_err();
            assert!(!why.contains("hunter2") && why.contains(KEY), "{why}");
        }
        let why = sealed(KEY, "X required user_a=\"hunter2").unwrap_err();
        assert!(!why.contains("hunter2"), "{why}");
    }

    #[test]
    fn a_user_in_two_lines_that_are_set_is_refused() {
        let mut levels = Levels::default();
        for name in [KEY, "listener.name.plaintext.plain.sasl.jaas.config"] {
            levels.broker.extend(sealed(name, "X required user_a=\"b\";").unwrap());
        }
        let why = Config::defaults().with_levels(levels).unwrap_err();
        assert!(why.contains("the user a has two passwords"), "{why}");
    }
}
