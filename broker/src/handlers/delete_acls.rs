//! DeleteAcls (31), versions 1 to 3.
//!
//! - Needs Alter on the cluster. Without an authorizer every filter is SECURITY_DISABLED.
//! - What the filters mean goes together, durably before the reply, which names each rule. A filter
//!   that means nothing is a success. One with an unknown code closes the connection, as in Kafka.
//! - v1 (KIP-290): prefixed patterns and MATCH; v2: flexible; v3: the resource type `User`.
//!
//! Left out: nothing.

use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_acls_response::{
    DeleteAclsFilterResult, DeleteAclsMatchingAcl,
};
use kafka_protocol::messages::{DeleteAclsRequest, DeleteAclsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::acl::changes;
use crate::acl::{FilterCodes, Operation, Rule, RuleFilter};
use crate::dispatch::Close;
use crate::handlers::{Context, authorised};

pub(crate) async fn handle(
    context: &Context,
    request: DeleteAclsRequest,
) -> Result<DeleteAclsResponse, Close> {
    let filters: Option<Vec<RuleFilter>> = request.filters.into_iter().map(filter).collect();
    let filters = filters.ok_or_else(|| Close::because("DeleteAcls has an unknown code"))?;
    let deleted = match authorised::rules(context, Operation::Alter) {
        Ok(()) => changes::delete(&context.core, &filters).await,
        Err(refused) => Err(refused),
    };
    let results = match deleted {
        Ok(deleted) => deleted
            .into_iter()
            .map(|rules| {
                let rules = rules.into_iter().map(shown).collect();
                DeleteAclsFilterResult::default().with_error_message(None).with_matching_acls(rules)
            })
            .collect(),
        Err((error, why)) => {
            let result = DeleteAclsFilterResult::default()
                .with_error_code(error.code())
                .with_error_message(Some(StrBytes::from_string(why)));
            vec![result; filters.len()]
        }
    };
    Ok(DeleteAclsResponse::default().with_filter_results(results))
}

fn filter(wanted: DeleteAclsFilter) -> Option<RuleFilter> {
    let text = |text: Option<StrBytes>| text.map(|text| text.to_string());
    RuleFilter::parse(FilterCodes {
        kind: wanted.resource_type_filter,
        pattern: wanted.pattern_type_filter,
        name: text(wanted.resource_name_filter),
        principal: text(wanted.principal_filter),
        host: text(wanted.host_filter),
        operation: wanted.operation,
        permission: wanted.permission_type,
    })
}

fn shown(rule: Rule) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl::default()
        .with_error_message(None)
        .with_resource_type(rule.kind.code())
        .with_resource_name(StrBytes::from_string(rule.name))
        .with_pattern_type(rule.pattern.code())
        .with_principal(StrBytes::from_string(rule.principal))
        .with_host(StrBytes::from_string(rule.host))
        .with_operation(rule.operation.code())
        .with_permission_type(rule.permission.code())
}
