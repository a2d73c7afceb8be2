//! What is wrong with a server, judged from what was seen of it: facts in, findings out.
//!
//! Nothing here looks, dials, reads a file or knows the time: [`facts::Facts`] holds all of that,
//! gathered by the command. So every judgement can be tested, and none depends on the machine. Each
//! warning and problem carries an id of the catalogue of diagnoses.

mod addresses;
mod certificates;
pub mod facts;
mod machine;
mod server;

use odradek_broker::diagnose;
use serde::Serialize;

use facts::Facts;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    /// Works, but not for long, not for everybody, or not safely.
    Warning,
    /// Does not work.
    Problem,
}

/// One thing that was looked at, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// What was looked at: `server`, `listener LAN`, `disk`.
    pub subject: String,
    /// A clause.
    pub what: String,
    /// An id of the catalogue; none if all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<&'static str>,
    /// What was seen, where `what` does not say it already.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub evidence: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fix: String,
}

impl Finding {
    fn ok(subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            subject: subject.into(),
            what: what.into(),
            diagnosis: None,
            evidence: String::new(),
            fix: String::new(),
        }
    }

    /// With the catalogue's fix, until [`Self::fix`] says something closer to the case.
    fn of(
        level: Level,
        diagnosis: &'static str,
        subject: impl Into<String>,
        what: impl Into<String>,
    ) -> Self {
        let fix = diagnose::find(diagnosis).map_or("", |known| known.how_to_fix).to_owned();
        Self { level, diagnosis: Some(diagnosis), fix, ..Self::ok(subject, what) }
    }

    fn warning(
        diagnosis: &'static str,
        subject: impl Into<String>,
        what: impl Into<String>,
    ) -> Self {
        Self::of(Level::Warning, diagnosis, subject, what)
    }

    fn problem(
        diagnosis: &'static str,
        subject: impl Into<String>,
        what: impl Into<String>,
    ) -> Self {
        Self::of(Level::Problem, diagnosis, subject, what)
    }

    fn evidence(self, evidence: impl Into<String>) -> Self {
        Self { evidence: evidence.into(), ..self }
    }

    fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: fix.into(), ..self }
    }
}

/// In the order in which they are best read: the server, its listeners, the machine, what the
/// server itself knows.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = server::judge_presence(facts);
    for listener in &facts.listeners {
        findings.extend(addresses::judge(facts, listener));
        findings.extend(certificates::judge(facts, listener));
    }
    findings.extend(machine::judge(facts));
    findings.extend(server::judge_own_view(facts));
    findings
}

#[cfg(test)]
mod tests;
