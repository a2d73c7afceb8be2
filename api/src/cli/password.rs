//! Where a password comes from: a file, the environment, or a prompt. Never the command line, which
//! every user of the machine can read.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;

use super::Complaint;

pub const VARIABLE: &str = "ODRADEK_PASSWORD";

#[derive(Args, Debug, Clone, Default)]
pub struct PasswordArgs {
    /// Reads the password from this file's first line (else from ODRADEK_PASSWORD, else it is
    /// asked for)
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

impl PasswordArgs {
    pub fn read(&self, prompt: &str) -> Result<String, Complaint> {
        self.find(|| ask(prompt))
    }

    /// For a new password: typed twice.
    pub fn read_new(&self) -> Result<String, Complaint> {
        self.find(ask_twice)
    }

    /// As [`Self::read_new`], on the terminal whatever file and environment say.
    pub fn ask_new() -> Result<String, Complaint> {
        let password = ask_twice()?;
        if password.is_empty() {
            return Err(Complaint::wrong_input("the password is empty"));
        }
        Ok(password)
    }

    fn find(&self, ask: impl FnOnce() -> Result<String, Complaint>) -> Result<String, Complaint> {
        let password = if let Some(path) = &self.password_file {
            let text = std::fs::read_to_string(path)
                .map_err(|e| Complaint::wrong_input(format!("{}: {e}", path.display())))?;
            text.lines().next().unwrap_or_default().to_owned()
        } else if let Ok(password) = std::env::var(VARIABLE) {
            password
        } else {
            ask()?
        };
        if password.is_empty() {
            return Err(Complaint::wrong_input("the password is empty"));
        }
        Ok(password)
    }
}

fn ask_twice() -> Result<String, Complaint> {
    let first = ask("New password: ")?;
    if first != ask("Again: ")? {
        return Err(Complaint::wrong_input("the two passwords differ"));
    }
    Ok(first)
}

fn ask(prompt: &str) -> Result<String, Complaint> {
    let failed = |e: std::io::Error| Complaint::wrong_input(format!("no password: {e}"));
    if !std::io::stdin().is_terminal() {
        let text = format!("no terminal to ask on; use --password-file FILE or {VARIABLE}");
        return Err(Complaint::wrong_input(text));
    }
    rpassword::prompt_password(prompt).map_err(failed)
}
