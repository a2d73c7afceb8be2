//! CreateAcls (30), versions 1 to 3.
//!
//! - Needs Alter on the cluster. Without an authorizer every rule is SECURITY_DISABLED.
//! - Rules that are valid become durable together, then count at once; a rule that is there already
//!   is a success. A rule that makes no sense is INVALID_REQUEST and does not stop the others.
//! - v1 (KIP-290): prefixed patterns; v2: flexible; v3: the resource type `User`.
//!
//! Left out: nothing.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::{CreateAclsRequest, CreateAclsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::acl::changes::{self, Refusal};
use crate::acl::{Operation, PatternKind, Permission, ResourceKind, Rule};
use crate::dispatch::Close;
use crate::handlers::{Context, authorised};

pub(crate) async fn handle(
    context: &Context,
    request: CreateAclsRequest,
) -> Result<CreateAclsResponse, Close> {
    let created = match authorised::rules(context, Operation::Alter) {
        Ok(()) => create(context, request.creations).await,
        Err(refused) => request.creations.iter().map(|_| Err(refused.clone())).collect(),
    };
    let results = created.into_iter().map(|created| match created {
        Ok(()) => AclCreationResult::default(),
        Err((error, why)) => AclCreationResult::default()
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_string(why))),
    });
    Ok(CreateAclsResponse::default().with_results(results.collect()))
}

async fn create(context: &Context, creations: Vec<AclCreation>) -> Vec<Result<(), Refusal>> {
    let wanted: Vec<Result<Rule, Refusal>> = creations.into_iter().map(rule).collect();
    let valid = wanted.iter().filter_map(|rule| rule.as_ref().ok()).cloned().collect();
    let created = changes::create(&context.core, valid).await;
    wanted.into_iter().map(|rule| rule.and(created.clone())).collect()
}

fn rule(wanted: AclCreation) -> Result<Rule, Refusal> {
    let invalid =
        |what: &str| (ResponseError::InvalidRequest, format!("this {what} cannot stand in a rule"));
    let rule = Rule {
        kind: ResourceKind::of_code(wanted.resource_type)
            .ok_or_else(|| invalid("resource type"))?,
        pattern: PatternKind::of_code(wanted.resource_pattern_type)
            .ok_or_else(|| invalid("pattern type"))?,
        name: wanted.resource_name.to_string(),
        principal: wanted.principal.to_string(),
        host: wanted.host.to_string(),
        operation: Operation::of_code(wanted.operation).ok_or_else(|| invalid("operation"))?,
        permission: Permission::of_code(wanted.permission_type)
            .ok_or_else(|| invalid("permission type"))?,
    };
    changes::check(&rule).map(|()| rule)
}
