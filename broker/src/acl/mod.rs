//! Who may do what: Kafka's access rules (ACLs).
//!
//! [`Access`] owns the rules of the running incarnation and answers one question: may this
//! principal, from this address, do this operation on this resource? The answer is Kafka's
//! `StandardAuthorizer`'s:
//! 1. Without `authorizer.class.name` everybody may do everything.
//! 2. A super user may do everything, whatever the rules say.
//! 3. A rule that denies wins over any that allows.
//! 4. Where no rule at all stands for a resource, `allow.everyone.if.no.acl.found` decides.
//! 5. To be allowed to read, write, delete or alter is to be allowed to describe; to be allowed to
//!    alter configurations is to be allowed to describe them. Denials imply nothing.
//!
//! [`Rules`] is pure: no I/O, no clock. A rule is a record `acl:<id>` of the state log, durable
//! before it counts. A decision takes one look-up for the resource's name, one for the wildcard and
//! O(log n) for each nested prefix; nothing here walks over all rules to answer a request, but
//! [`Access::allowed_on_some`], which a producer asks once.

mod access;
pub(crate) mod changes;
mod filter;
#[cfg(test)]
mod properties;
mod rules;

use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use access::Access;
pub(crate) use filter::FilterCodes;
pub use filter::{PatternFilter, RuleFilter};
pub(crate) use rules::Rules;

/// Kafka's only name of the cluster resource.
pub const CLUSTER_NAME: &str = "kafka-cluster";

/// Name of the literal pattern that means every resource of its kind.
pub(crate) const WILDCARD: &str = "*";

/// Kafka's `AclOperation`, with its codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Operation {
    All = 2,
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    ClusterAction = 9,
    DescribeConfigs = 10,
    AlterConfigs = 11,
    IdempotentWrite = 12,
    CreateTokens = 13,
    DescribeTokens = 14,
    TwoPhaseCommit = 15,
}

impl Operation {
    pub const ALL: [Self; 14] = [
        Self::All,
        Self::Read,
        Self::Write,
        Self::Create,
        Self::Delete,
        Self::Alter,
        Self::Describe,
        Self::ClusterAction,
        Self::DescribeConfigs,
        Self::AlterConfigs,
        Self::IdempotentWrite,
        Self::CreateTokens,
        Self::DescribeTokens,
        Self::TwoPhaseCommit,
    ];

    pub const fn code(self) -> i8 {
        self as i8
    }

    pub fn of_code(code: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.code() == code)
    }

    /// As Kafka's tools print it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "All",
            Self::Read => "Read",
            Self::Write => "Write",
            Self::Create => "Create",
            Self::Delete => "Delete",
            Self::Alter => "Alter",
            Self::Describe => "Describe",
            Self::ClusterAction => "ClusterAction",
            Self::DescribeConfigs => "DescribeConfigs",
            Self::AlterConfigs => "AlterConfigs",
            Self::IdempotentWrite => "IdempotentWrite",
            Self::CreateTokens => "CreateTokens",
            Self::DescribeTokens => "DescribeTokens",
            Self::TwoPhaseCommit => "TwoPhaseCommit",
        }
    }

    /// Its place in a field of bits, also that of KIP-430.
    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// Kafka's `ResourceType`, with its codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ResourceKind {
    Topic = 2,
    Group = 3,
    Cluster = 4,
    TransactionalId = 5,
    DelegationToken = 6,
    User = 7,
}

impl ResourceKind {
    pub const ALL: [Self; 6] = [
        Self::Topic,
        Self::Group,
        Self::Cluster,
        Self::TransactionalId,
        Self::DelegationToken,
        Self::User,
    ];

    pub const fn code(self) -> i8 {
        self as i8
    }

    pub fn of_code(code: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// What may be done with such a resource at all, as Kafka's `AclEntry` has it.
    pub const fn operations(self) -> &'static [Operation] {
        use Operation::{
            Alter, AlterConfigs, ClusterAction, Create, CreateTokens, Delete, Describe,
            DescribeConfigs, DescribeTokens, IdempotentWrite, Read, TwoPhaseCommit, Write,
        };
        match self {
            Self::Topic => {
                &[Read, Write, Create, Describe, Delete, Alter, DescribeConfigs, AlterConfigs]
            }
            Self::Group => &[Read, Describe, Delete, DescribeConfigs, AlterConfigs],
            Self::Cluster => &[
                Create,
                ClusterAction,
                DescribeConfigs,
                AlterConfigs,
                IdempotentWrite,
                Alter,
                Describe,
            ],
            Self::TransactionalId => &[Describe, Write, TwoPhaseCommit],
            Self::DelegationToken => &[Describe],
            Self::User => &[CreateTokens, DescribeTokens],
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    Cluster,
    Topic(&'a str),
    Group(&'a str),
    TransactionalId(&'a str),
    User(&'a str),
    DelegationToken(&'a str),
}

impl<'a> Resource<'a> {
    pub(crate) const fn kind(self) -> ResourceKind {
        match self {
            Self::Cluster => ResourceKind::Cluster,
            Self::Topic(_) => ResourceKind::Topic,
            Self::Group(_) => ResourceKind::Group,
            Self::TransactionalId(_) => ResourceKind::TransactionalId,
            Self::User(_) => ResourceKind::User,
            Self::DelegationToken(_) => ResourceKind::DelegationToken,
        }
    }

    pub(crate) const fn name(self) -> &'a str {
        match self {
            Self::Cluster => CLUSTER_NAME,
            Self::Topic(name)
            | Self::Group(name)
            | Self::TransactionalId(name)
            | Self::User(name)
            | Self::DelegationToken(name) => name,
        }
    }
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Cluster => return f.write_str("the cluster"),
            Self::Topic(_) => "topic",
            Self::Group(_) => "group",
            Self::TransactionalId(_) => "transactional id",
            Self::User(_) => "user",
            Self::DelegationToken(_) => "delegation token",
        };
        write!(f, "{kind} {:?}", self.name())
    }
}

/// How a rule's name is compared with a resource's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PatternKind {
    /// The name itself; `*` means every name.
    Literal = 3,
    /// Every name that begins so.
    Prefixed = 4,
}

impl PatternKind {
    pub const fn code(self) -> i8 {
        self as i8
    }

    pub fn of_code(code: i8) -> Option<Self> {
        [Self::Literal, Self::Prefixed].into_iter().find(|kind| kind.code() == code)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Permission {
    Deny = 2,
    Allow = 3,
}

impl Permission {
    pub const fn code(self) -> i8 {
        self as i8
    }

    pub fn of_code(code: i8) -> Option<Self> {
        [Self::Deny, Self::Allow].into_iter().find(|permission| permission.code() == code)
    }
}

/// One access rule; value of an `acl:<id>` record. Ordered by what it stands for, so that the rules
/// of one pattern lie together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    pub kind: ResourceKind,
    pub pattern: PatternKind,
    pub name: String,
    /// `User:alice`, or `User:*` for everybody.
    pub principal: String,
    /// An address, or `*` for any.
    pub host: String,
    pub operation: Operation,
    pub permission: Permission,
}
