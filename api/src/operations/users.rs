//! Users: list, add, change the password, delete.

use odradek_broker::client::{Admin, UserInfo};

use super::{Failure, Outcome};

pub async fn list(admin: &dyn Admin) -> Outcome<Vec<UserInfo>> {
    Ok(admin.users().await?)
}

/// `create`: whether the user must be new (`Some(true)`), must be there (`Some(false)`), or either.
pub async fn set(
    admin: &dyn Admin,
    name: &str,
    password: &str,
    create: Option<bool>,
) -> Outcome<()> {
    if password.is_empty() {
        return Err(Failure::invalid("the password is empty", "choose one"));
    }
    if let Some(create) = create {
        let exists = admin.users().await?.iter().any(|user| user.name == name);
        if create && exists {
            return Err(Failure::invalid(
                format!("there is a user {name:?} already"),
                "`odradek user passwd` changes a password",
            ));
        }
        if !create && !exists {
            return Err(Failure::NotFound(format!("there is no user {name:?}")));
        }
    }
    Ok(admin.set_user(name, password).await?)
}

pub async fn delete(admin: &dyn Admin, name: &str) -> Outcome<()> {
    if !admin.users().await?.iter().any(|user| user.name == name) {
        return Err(Failure::NotFound(format!("there is no user {name:?}")));
    }
    Ok(admin.delete_user(name).await?)
}
