//! Consumer groups and how far they are behind.

use odradek_broker::client::{Admin, GroupInfo};

use super::Outcome;

pub async fn list(admin: &dyn Admin) -> Outcome<Vec<GroupInfo>> {
    Ok(admin.groups().await?)
}

pub async fn delete(admin: &dyn Admin, group: &str) -> Outcome<()> {
    Ok(admin.delete_group(group).await?)
}
