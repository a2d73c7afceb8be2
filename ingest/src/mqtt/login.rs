//! The password of a login: from a file or the environment, never from `pipeline.toml`, which is
//! shown to others and kept in repositories. It is read at every connection, so a changed one is
//! taken up; it is in no message, whatever goes wrong.

use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::limits::PASSWORD_BYTES_MAX;
use crate::supervise::RunError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub user: String,
    pub password: Option<PasswordPlace>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PasswordPlace {
    /// Its first line.
    File(PathBuf),
    Environment(String),
}

impl Login {
    pub async fn password(&self) -> Result<Option<Bytes>, RunError> {
        let Some(place) = self.password.clone() else { return Ok(None) };
        let password = tokio::task::spawn_blocking(move || place.read())
            .await
            .map_err(|error| RunError::retry("login", error.to_string()))?;
        match password {
            Ok(password) => Ok(Some(Bytes::from(password))),
            Err(why) => Err(RunError::retry("login", why)),
        }
    }
}

impl PasswordPlace {
    fn read(&self) -> Result<String, String> {
        let password = match self {
            Self::File(path) => {
                let text = read_file(path);
                let text =
                    text.map_err(|why| format!("password_file {}: {why}", path.display()))?;
                text.lines().next().unwrap_or_default().to_owned()
            }
            Self::Environment(name) => std::env::var(name)
                .map_err(|_| format!("password_env: there is no variable {name}, or no text"))?,
        };
        if password.is_empty() { Err("the password is empty".to_owned()) } else { Ok(password) }
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(PASSWORD_BYTES_MAX).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}
