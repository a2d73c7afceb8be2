//! Is a server there, and what does it say of itself?

use odradek_broker::diagnose::{
    self, CONFIGURATION_UNREADABLE, CONFIGURATION_WRONG, SERVER_NOT_RUNNING, SERVER_VIEW_HIDDEN,
    SOURCE_FAILS, STORAGE_PROBLEM,
};

use super::facts::{Facts, Http, Lock, ProblemSeen};
use super::{Finding, Level};

const SUBJECT: &str = "server";

pub fn judge_presence(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(file) = &facts.configuration_closed {
        let what = format!("this user may not read {file}");
        findings.push(Finding::warning(CONFIGURATION_UNREADABLE, "configuration", what));
    }
    if !facts.configuration_problems.is_empty() {
        findings.push(
            Finding::problem(CONFIGURATION_WRONG, "configuration", "it has mistakes")
                .evidence(facts.configuration_problems.join("; ")),
        );
    }
    let answers = facts.listeners.iter().flat_map(|listener| &listener.dialled);
    let kafka_answers = answers.filter(|dialled| dialled.answer.is_kafka()).count() > 0;
    match (&facts.http, facts.lock) {
        (Http::Told { address, view }, _) => {
            let what = format!(
                "odradek {} has run for {}, and tells how it is at http://{address}",
                view.version,
                duration(view.uptime_s)
            );
            findings.push(Finding::ok(SUBJECT, what));
        }
        (Http::Closed { address, why }, _) => {
            let what = format!("a server answers at http://{address}, but does not tell how it is");
            let finding = Finding::warning(SERVER_VIEW_HIDDEN, SUBJECT, what);
            findings.push(finding.evidence(why.clone()));
        }
        (Http::Silent { address, why }, Lock::Held) => {
            let what =
                format!("a process holds the data folder, but nothing answers at http://{address}");
            let finding = Finding::warning(SERVER_VIEW_HIDDEN, SUBJECT, what);
            findings.push(finding.evidence(why.clone()));
        }
        (Http::Silent { address, why }, _) if kafka_answers => {
            let what = format!("nothing answers at http://{address}, though a listener does");
            let finding = Finding::warning(SERVER_VIEW_HIDDEN, SUBJECT, what);
            findings.push(finding.evidence(why.clone()));
        }
        (Http::Off, Lock::Held) => {
            findings.push(Finding::ok(SUBJECT, "a process holds the data folder"));
            let what = "HTTP is switched off, so the server cannot tell how it is";
            findings.push(Finding::warning(SERVER_VIEW_HIDDEN, SUBJECT, what));
        }
        (Http::Off, _) if kafka_answers => {
            let what = "HTTP is switched off, so the server cannot tell how it is";
            findings.push(Finding::warning(SERVER_VIEW_HIDDEN, SUBJECT, what));
        }
        (Http::Silent { address, why }, lock) => {
            let finding = Finding::problem(SERVER_NOT_RUNNING, SUBJECT, "it is not running");
            let no_holder =
                if lock == Lock::Free { "; no process holds its data folder" } else { "" };
            findings.push(finding.evidence(format!("http://{address}: {why}{no_holder}")));
        }
        (Http::Off, _) => {
            let finding = Finding::problem(SERVER_NOT_RUNNING, SUBJECT, "it is not running");
            findings.push(finding.evidence("no process holds its data folder"));
        }
    }
    findings.extend(another_folder(facts));
    findings
}

/// The server that answers is not the one of this configuration.
fn another_folder(facts: &Facts) -> Option<Finding> {
    let Http::Told { address, .. } = &facts.http else { return None };
    if facts.lock != Lock::Free || !facts.is_here {
        return None;
    }
    let what = format!(
        "the server at http://{address} does not use the data folder of this configuration"
    );
    let finding = Finding::warning(SERVER_NOT_RUNNING, SUBJECT, what);
    let finding = finding.evidence("no process holds the folder's lock");
    Some(finding.fix(
        "name the configuration with which that server runs (--config, --data), or restart it \
         with this one",
    ))
}

/// What the running server knows about itself.
pub fn judge_own_view(facts: &Facts) -> Vec<Finding> {
    let Http::Told { view, .. } = &facts.http else { return Vec::new() };
    if view.problems.is_empty() {
        return vec![Finding::ok("server's own view", "it knows of no problem")];
    }
    view.problems.iter().map(own_problem).collect()
}

fn own_problem(problem: &ProblemSeen) -> Finding {
    let level = match problem.id.as_str() {
        STORAGE_PROBLEM => Level::Problem,
        // Another client's mistake is not the server's.
        _ => Level::Warning,
    };
    let what = match problem.count {
        0 | 1 => problem.what.clone(),
        count => format!("{}, {count} times", problem.what),
    };
    let known = diagnose::find(&problem.id).map_or(SOURCE_FAILS, |known| known.id);
    let finding = Finding::of(level, known, "server's own view", what);
    let finding = finding.evidence(problem.evidence.clone());
    if problem.fix.is_empty() { finding } else { finding.fix(problem.fix.clone()) }
}

/// `3 days`, `2 hours`, `5 minutes`, `12 seconds`
pub fn duration(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}
