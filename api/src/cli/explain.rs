//! `odradek explain`: one diagnosis of the catalogue in full, or the list of all.

use std::io::Write;

use clap::Args;
use odradek_broker::diagnose::Diagnosis;
use serde_json::json;

use super::paragraph::wrapped;
use super::{Complaint, Done, written};
use crate::operations::{Failure, diagnoses};

/// Explain a diagnosis: what happened, and what to do about it
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    odradek explain                         (every id with its title)\n  \
    odradek explain tls-on-plain-port\n  \
    odradek explain wrong-password --json\n\n\
    Ids stand in the log, in the console, in the metric odradek_odd_connections, in answers of\n\
    the HTTP interface (\"diagnosis\"), and in what `odradek doctor` finds. No server is needed.")]
pub struct Explain {
    /// The diagnosis, as it stands in the log or in what `odradek doctor` printed
    id: Option<String>,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub fn run(self) -> Done {
        let text = match &self.id {
            Some(id) => {
                let known = diagnoses::find(id).map_err(|failure| unknown(&failure))?;
                if self.json { json!(known).to_string() } else { in_full(known) }
            }
            None => self.list(),
        };
        written(writeln!(std::io::stdout(), "{text}")).map(|_| ())
    }

    fn list(&self) -> String {
        let all: Vec<&Diagnosis> = diagnoses::list().collect();
        if self.json {
            return json!({ "catalogue": all }).to_string();
        }
        let width = all.iter().map(|known| known.id.len()).max().unwrap_or_default();
        let lines = all.iter().map(|known| format!("{:<width$}  {}", known.id, known.title));
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn unknown(failure: &Failure) -> Complaint {
    let hint = match failure {
        Failure::Unknown { hint, .. } => hint.as_str(),
        _ => "`odradek explain` lists them all",
    };
    Complaint::wrong_input(format!("{failure}; {hint}"))
}

fn in_full(known: &Diagnosis) -> String {
    format!(
        "{} ({})\n\nWhat happened\n{}\n\nWhat to do\n{}",
        known.title,
        known.id,
        wrapped(known.what_happened, 2),
        wrapped(known.how_to_fix, 2)
    )
}
