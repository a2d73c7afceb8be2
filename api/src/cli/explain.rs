//! `odradek explain`: one diagnosis of the catalogue in full, or the list of all.

use clap::Args;
use odradek_broker::diagnose::Diagnosis;
use serde_json::json;

use super::paragraph::wrapped;
use super::{Complaint, Done};
use crate::operations::{Failure, diagnoses};

/// Explain a diagnosis: what happened, and what to do about it
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    odradek explain                         (every id with its title)\n  \
    odradek explain tls-on-plain-port\n  \
    odradek explain wrong-password --json\n\n\
    Ids stand in the log, in the console, in the metric odradek_odd_connections, and in the\n\
    answers of the HTTP interface (\"diagnosis\"). No server is needed.")]
pub struct Explain {
    /// The diagnosis, as it stands in the log or in what `odradek doctor` printed
    id: Option<String>,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub fn run(self) -> Done {
        let Some(id) = &self.id else {
            let all: Vec<&Diagnosis> = diagnoses::list().collect();
            if self.json {
                println!("{}", json!({ "catalogue": all }));
                return Ok(());
            }
            let width = all.iter().map(|known| known.id.len()).max().unwrap_or_default();
            for known in all {
                println!("{:<width$}  {}", known.id, known.title);
            }
            return Ok(());
        };
        let known = diagnoses::find(id).map_err(|failure| unknown(&failure))?;
        if self.json {
            println!("{}", json!(known));
        } else {
            println!("{}", in_full(known));
        }
        Ok(())
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
