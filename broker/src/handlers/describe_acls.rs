//! DescribeAcls (29), versions 1 to 3.
//!
//! - Needs Describe on the cluster. Without an authorizer the answer is SECURITY_DISABLED.
//! - The rules that pass the filter, gathered by pattern. A filter with an unknown code closes the
//!   connection, as in Kafka.
//! - v1 (KIP-290): prefixed patterns and MATCH; v2: flexible; v3: the resource type `User`.
//!
//! Left out: nothing.

use kafka_protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use kafka_protocol::messages::{DescribeAclsRequest, DescribeAclsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::acl::{FilterCodes, Operation, Rule, RuleFilter};
use crate::dispatch::Close;
use crate::handlers::{Context, authorised};

pub(crate) async fn handle(
    context: &Context,
    request: DescribeAclsRequest,
) -> Result<DescribeAclsResponse, Close> {
    let response = DescribeAclsResponse::default();
    if let Err((error, why)) = authorised::rules(context, Operation::Describe) {
        let message = Some(StrBytes::from_string(why));
        return Ok(response.with_error_code(error.code()).with_error_message(message));
    }
    let text = |text: Option<StrBytes>| text.map(|text| text.to_string());
    let filter = RuleFilter::parse(FilterCodes {
        kind: request.resource_type_filter,
        pattern: request.pattern_type_filter,
        name: text(request.resource_name_filter),
        principal: text(request.principal_filter),
        host: text(request.host_filter),
        operation: request.operation,
        permission: request.permission_type,
    });
    let filter = filter.ok_or_else(|| Close::because("DescribeAcls has an unknown code"))?;
    let rules = context.core.access.read();
    let mut resources: Vec<DescribeAclsResource> = Vec::new();
    // Rules come in the order of their patterns.
    for (rule, _) in rules.iter().filter(|(rule, _)| filter.matches(rule)) {
        match resources.last_mut().filter(|resource| is_of(rule, resource)) {
            Some(resource) => resource.acls.push(description(rule)),
            None => resources.push(
                DescribeAclsResource::default()
                    .with_resource_type(rule.kind.code())
                    .with_resource_name(StrBytes::from_string(rule.name.clone()))
                    .with_pattern_type(rule.pattern.code())
                    .with_acls(vec![description(rule)]),
            ),
        }
    }
    Ok(response.with_resources(resources))
}

fn is_of(rule: &Rule, resource: &DescribeAclsResource) -> bool {
    resource.resource_type == rule.kind.code()
        && resource.pattern_type == rule.pattern.code()
        && *resource.resource_name == *rule.name
}

fn description(rule: &Rule) -> AclDescription {
    AclDescription::default()
        .with_principal(StrBytes::from_string(rule.principal.clone()))
        .with_host(StrBytes::from_string(rule.host.clone()))
        .with_operation(rule.operation.code())
        .with_permission_type(rule.permission.code())
}
