//! DeleteGroups (42), versions 0 to 2.
//!
//! - A group and all its offsets go at once, durably before the reply. NON_EMPTY_GROUP while it has
//!   members, GROUP_ID_NOT_FOUND if there is none. A share group goes with where it stands.
//! - Needs Delete on each group, else GROUP_AUTHORIZATION_FAILED.
//! - v1: throttling told; v2: flexible.
//!
//! Left out: v3 (an error message), which the message crate does not have.

use futures::future::join_all;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::handlers::{Context, distinct};

pub(crate) async fn handle(
    context: &Context,
    request: DeleteGroupsRequest,
) -> Result<DeleteGroupsResponse, Close> {
    // Together, so that they share a sync of the log.
    let results = distinct(request.groups_names).into_iter().map(|group| async move {
        let result = match context.allowed(Operation::Delete, Resource::Group(&group)) {
            true => context.core.delete_group(&group).await,
            false => Err(ResponseError::GroupAuthorizationFailed),
        };
        DeletableGroupResult::default()
            .with_group_id(group)
            .with_error_code(result.err().map_or(0, |error| error.code()))
    });
    Ok(DeleteGroupsResponse::default().with_results(join_all(results).await))
}
