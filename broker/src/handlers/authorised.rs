//! What handlers share about access: authorised operations as bits (KIP-430), one for each code of
//! Kafka's `AclOperation`, and the errors of denials.

use kafka_protocol::ResponseError;

use crate::acl::changes::Refusal;
use crate::acl::{Operation, Resource};
use crate::handlers::Context;

impl Context {
    /// What the caller may do with the resource.
    pub(crate) fn authorised_operations(&self, resource: Resource<'_>) -> i32 {
        self.core.access.operations(&self.principal, resource)
    }

    /// What the caller may do with the cluster; nothing that is told to who may not describe it.
    pub(crate) fn cluster_operations(&self) -> i32 {
        match self.allowed(Operation::Describe, Resource::Cluster) {
            true => self.authorised_operations(Resource::Cluster),
            false => 0,
        }
    }

    /// Whether the caller may create this topic: a right on the cluster is enough.
    pub(crate) fn may_create(&self, topic: &str) -> bool {
        self.may_see(Operation::Create, Resource::Cluster)
            || self.allowed(Operation::Create, Resource::Topic(topic))
    }

    /// As [`Self::allowed`] for the cluster, with the error that Kafka answers.
    pub(crate) fn allowed_on_cluster(&self, operation: Operation) -> Result<(), ResponseError> {
        match self.allowed(operation, Resource::Cluster) {
            true => Ok(()),
            false => Err(ResponseError::ClusterAuthorizationFailed),
        }
    }
}

/// Whether the caller may work on access rules, and whether there are any here.
pub(crate) fn rules(context: &Context, operation: Operation) -> Result<(), Refusal> {
    let denied = |error| (error, "Cluster authorization failed.".to_owned());
    context.allowed_on_cluster(operation).map_err(denied)?;
    if !context.core.access.enabled() {
        let why = "No Authorizer is configured: set authorizer.class.name";
        return Err((ResponseError::SecurityDisabled, why.to_owned()));
    }
    Ok(())
}
