//! `odradek acl`: who may do what, on the running server, in the words of kafka-acls.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::remote::{Remote, RemoteArgs, encoded};
use super::{Complaint, Done, block_on};
use crate::operations::acls::Acl;

/// Add, list and remove access rules (ACLs) of the running server
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    odradek acl add --allow-principal User:alice --producer --topic stocks\n  \
    odradek acl add --allow-principal User:bob --consumer --topic stocks --group readers\n  \
    odradek acl add --allow-principal User:bob --operation READ --topic sensors. --prefixed\n  \
    odradek acl list --principal User:bob\n  \
    odradek acl remove --allow-principal User:bob --operation READ --topic sensors. --prefixed\n  \
    odradek acl remove --topic stocks               (every rule of that topic)\n\n\
    Rules count only with authorizer.class.name in server.properties; users in super.users may do\n\
    everything without one. A rule that denies wins over any that allows.")]
pub struct AclCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show the rules, all or those of a resource or principal
    List {
        #[command(flatten)]
        resources: Resources,
        /// Only the rules of this principal
        #[arg(long, value_name = "User:NAME")]
        principal: Vec<String>,
        /// The server's JSON as it is
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Add rules: each principal, for each operation, on each resource
    Add {
        #[command(flatten)]
        wanted: Wanted,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Remove exactly the rules that `add` would add; without a principal, all of the resource
    Remove {
        #[command(flatten)]
        wanted: Wanted,
        #[command(flatten)]
        remote: RemoteArgs,
    },
}

#[derive(Args, Debug, Clone, Default)]
struct Resources {
    /// A topic; * is every topic
    #[arg(long, value_name = "NAME")]
    topic: Vec<String>,
    /// A consumer group; * is every group
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    /// A transactional id
    #[arg(long, value_name = "ID")]
    transactional_id: Vec<String>,
    /// The cluster itself: users, rules, configurations, the server's state
    #[arg(long)]
    cluster: bool,
    /// The names are beginnings of names, short for --resource-pattern-type prefixed
    #[arg(long, conflicts_with = "resource_pattern_type")]
    prefixed: bool,
    /// How names are compared. To list: any unless named; to add or remove: literal
    #[arg(long, value_name = "TYPE")]
    resource_pattern_type: Option<Pattern>,
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Pattern {
    Literal,
    Prefixed,
    /// Rules of exactly this name, literal and prefixed ones
    Any,
    /// Every rule that would apply to a resource of this name
    Match,
}

#[derive(Args, Debug, Clone, Default)]
struct Wanted {
    #[command(flatten)]
    resources: Resources,
    /// Who may; User:* is everybody
    #[arg(long, value_name = "User:NAME")]
    allow_principal: Vec<String>,
    /// Who may not
    #[arg(long, value_name = "User:NAME")]
    deny_principal: Vec<String>,
    /// From which address [default: any]
    #[arg(long, value_name = "ADDRESS", requires = "allow_principal")]
    allow_host: Vec<String>,
    /// From which address not [default: any]
    #[arg(long, value_name = "ADDRESS", requires = "deny_principal")]
    deny_host: Vec<String>,
    /// READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, ... [default: ALL]
    #[arg(long, value_name = "OPERATION")]
    operation: Vec<String>,
    /// What a producer needs: WRITE, DESCRIBE and CREATE on the topic
    #[arg(long, conflicts_with = "operation")]
    producer: bool,
    /// What a consumer needs: READ and DESCRIBE on the topic, READ on the group
    #[arg(long, conflicts_with = "operation")]
    consumer: bool,
}

impl AclCommand {
    pub fn run(self) -> Done {
        block_on(async {
            match self.verb {
                Verb::List { resources, principal, json, remote } => {
                    list(&resources, &principal, json, &mut remote.open()?).await
                }
                Verb::Add { wanted, remote } => add(&wanted, &mut remote.open()?).await,
                Verb::Remove { wanted, remote } => remove(&wanted, &mut remote.open()?).await,
            }
        })
    }
}

async fn list(
    resources: &Resources,
    principals: &[String],
    json: bool,
    remote: &mut Remote,
) -> Done {
    let mut acls = Vec::new();
    for query in queries(resources, principals) {
        let path = format!("/api/v1/acls?{query}");
        let answer = remote.json("GET", &path, None).await?;
        for acl in answer["acls"].as_array().into_iter().flatten() {
            if !acls.contains(acl) {
                acls.push(acl.clone());
            }
        }
    }
    if json {
        println!("{}", json!({ "acls": acls }));
    } else {
        print_table(&acls);
    }
    Ok(())
}

async fn add(wanted: &Wanted, remote: &mut Remote) -> Done {
    let acls = rules(wanted)?;
    if acls.is_empty() {
        let text = "say who: --allow-principal User:NAME or --deny-principal User:NAME";
        return Err(Complaint::wrong_input(text));
    }
    let answer = remote.json("POST", "/api/v1/acls", Some(&json!({ "acls": acls }))).await?;
    print_table(answer["acls"].as_array().map_or(&[], Vec::as_slice));
    Ok(())
}

async fn remove(wanted: &Wanted, remote: &mut Remote) -> Done {
    let acls = rules(wanted)?;
    let queries: Vec<String> = if acls.is_empty() {
        if !wanted.operation.is_empty() || wanted.producer || wanted.consumer {
            let text = "say whose rules: --allow-principal or --deny-principal; without an \
                        operation all rules of the resource are removed";
            return Err(Complaint::wrong_input(text));
        }
        let literal = Resources {
            resource_pattern_type: Some(wanted.resources.pattern().unwrap_or(Pattern::Literal)),
            prefixed: false,
            ..wanted.resources.clone()
        };
        queries(&literal, &[])
    } else {
        acls.iter().map(exactly).collect()
    };
    let mut removed = Vec::new();
    for query in queries {
        let answer = remote.json("DELETE", &format!("/api/v1/acls?{query}"), None).await?;
        removed.extend(answer["acls"].as_array().into_iter().flatten().cloned());
    }
    if removed.is_empty() {
        return Err(Complaint::failed("there is no such rule; `odradek acl list` shows them"));
    }
    print_table(&removed);
    println!("removed {}", removed.len());
    Ok(())
}

impl Resources {
    fn pattern(&self) -> Option<Pattern> {
        if self.prefixed { Some(Pattern::Prefixed) } else { self.resource_pattern_type }
    }

    /// Kind and name of each.
    fn named(&self) -> Vec<(&'static str, String)> {
        let of = |kind, names: &[String]| {
            let names = names.iter().map(move |name| (kind, name.trim().to_owned()));
            names.collect::<Vec<_>>()
        };
        let mut all = of("TOPIC", &self.topic);
        all.extend(of("GROUP", &self.group));
        all.extend(of("TRANSACTIONAL_ID", &self.transactional_id));
        all.extend(self.cluster.then(|| ("CLUSTER", "kafka-cluster".to_owned())));
        all
    }
}

/// The rules asked for, as kafka-acls makes them; none without a principal.
fn rules(wanted: &Wanted) -> Result<Vec<Acl>, Complaint> {
    let resources = wanted.resources.named();
    if resources.is_empty() {
        let text = "say on what: --topic NAME, --group NAME, --transactional-id ID or --cluster";
        return Err(Complaint::wrong_input(text));
    }
    let pattern = match wanted.resources.pattern() {
        None | Some(Pattern::Literal) => "LITERAL",
        Some(Pattern::Prefixed) => "PREFIXED",
        Some(Pattern::Any | Pattern::Match) if who(wanted).is_empty() => return Ok(Vec::new()),
        Some(Pattern::Any | Pattern::Match) => {
            let text = "a rule is literal or prefixed; any and match only find rules";
            return Err(Complaint::wrong_input(text));
        }
    };
    let mut acls: Vec<Acl> = Vec::new();
    for (kind, name) in resources {
        let operations = operations(wanted, kind);
        if operations.is_empty() {
            let what = kind.to_ascii_lowercase().replace('_', "-");
            let text = format!("--{what} does not belong to what --producer or --consumer needs");
            return Err(Complaint::wrong_input(text));
        }
        for (principal, host, permission) in who(wanted) {
            acls.extend(operations.iter().map(|operation| Acl {
                resource_type: kind.to_owned(),
                resource_name: name.clone(),
                // The cluster has one name, which is no beginning of others.
                pattern_type: if kind == "CLUSTER" { "LITERAL" } else { pattern }.to_owned(),
                principal: principal.clone(),
                host: host.clone(),
                operation: operation.clone(),
                permission: permission.to_owned(),
            }));
        }
    }
    Ok(acls)
}

/// What is allowed or denied on such a resource.
fn operations(wanted: &Wanted, kind: &str) -> Vec<String> {
    if !wanted.producer && !wanted.consumer {
        return match wanted.operation.as_slice() {
            [] => vec!["ALL".to_owned()],
            some => some.to_vec(),
        };
    }
    let produced: &[&str] = match kind {
        "TOPIC" => &["WRITE", "DESCRIBE", "CREATE"],
        "TRANSACTIONAL_ID" => &["WRITE", "DESCRIBE"],
        "CLUSTER" => &["IDEMPOTENT_WRITE"],
        _ => &[],
    };
    let consumed: &[&str] = match kind {
        "TOPIC" => &["READ", "DESCRIBE"],
        "GROUP" => &["READ"],
        _ => &[],
    };
    let mut all: Vec<String> = Vec::new();
    for (asked, some) in [(wanted.producer, produced), (wanted.consumer, consumed)] {
        for operation in some.iter().filter(|_| asked) {
            if !all.iter().any(|known| known == operation) {
                all.push((*operation).to_owned());
            }
        }
    }
    all
}

/// Principal, host and permission of each.
fn who(wanted: &Wanted) -> Vec<(String, String, &'static str)> {
    let mut all = Vec::new();
    for (principals, hosts, permission) in [
        (&wanted.allow_principal, &wanted.allow_host, "ALLOW"),
        (&wanted.deny_principal, &wanted.deny_host, "DENY"),
    ] {
        let any = ["*".to_owned()];
        let hosts = if hosts.is_empty() { any.as_slice() } else { hosts.as_slice() };
        for principal in principals {
            let each = hosts.iter().map(|host| (principal.clone(), host.clone(), permission));
            all.extend(each);
        }
    }
    all
}

/// One query for each resource and principal; one for everything if none is named.
fn queries(resources: &Resources, principals: &[String]) -> Vec<String> {
    let pattern = resources.pattern().map(|pattern| match pattern {
        Pattern::Literal => "LITERAL",
        Pattern::Prefixed => "PREFIXED",
        Pattern::Any => "ANY",
        Pattern::Match => "MATCH",
    });
    let named: Vec<Vec<(&str, String)>> = match resources.named() {
        all if all.is_empty() => vec![Vec::new()],
        all => all
            .into_iter()
            .map(|(kind, name)| vec![("resource_type", kind.to_owned()), ("resource_name", name)])
            .collect(),
    };
    let mut queries = Vec::new();
    for mut fields in named {
        fields.extend(pattern.map(|pattern| ("pattern_type", pattern.to_owned())));
        if principals.is_empty() {
            queries.push(query(&fields));
        }
        for principal in principals {
            let mut fields = fields.clone();
            fields.push(("principal", principal.clone()));
            queries.push(query(&fields));
        }
    }
    queries
}

/// The query that means this rule and no other.
fn exactly(acl: &Acl) -> String {
    query(&[
        ("resource_type", acl.resource_type.clone()),
        ("resource_name", acl.resource_name.clone()),
        ("pattern_type", acl.pattern_type.clone()),
        ("principal", acl.principal.clone()),
        ("host", acl.host.clone()),
        ("operation", acl.operation.clone()),
        ("permission", acl.permission.clone()),
    ])
}

fn query(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    fields.join("&")
}

fn print_table(acls: &[Value]) {
    let row = |columns: [&str; 7]| {
        let [principal, permission, operation, kind, name, pattern, host] = columns;
        println!(
            "{principal:<20} {permission:<10} {operation:<16} {kind:<16} {name:<24} {pattern:<8} \
             {host}"
        );
    };
    row(["PRINCIPAL", "PERMISSION", "OPERATION", "RESOURCE", "NAME", "PATTERN", "HOST"]);
    for acl in acls {
        let text = |field: &str| acl[field].as_str().unwrap_or("?");
        row([
            text("principal"),
            text("permission"),
            text("operation"),
            text("resource_type"),
            text("resource_name"),
            text("pattern_type"),
            text("host"),
        ]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(acls: &[Acl]) -> Vec<String> {
        let line = |acl: &Acl| format!("{} {} {}", acl.operation, acl.resource_type, acl.principal);
        acls.iter().map(line).collect()
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    /// What Kafka's AclCommand documents for `--producer` and `--consumer`.
    #[test]
    fn the_shorthands_are_those_of_kafka_acls() {
        let resources = Resources {
            topic: texts(&["stocks"]),
            group: texts(&["readers"]),
            ..Resources::default()
        };
        let mut wanted = Wanted {
            resources,
            allow_principal: texts(&["User:bob"]),
            consumer: true,
            ..Wanted::default()
        };
        assert_eq!(
            said(&rules(&wanted).expect("valid")),
            ["READ TOPIC User:bob", "DESCRIBE TOPIC User:bob", "READ GROUP User:bob"]
        );
        (wanted.producer, wanted.consumer) = (true, false);
        assert!(rules(&wanted).is_err(), "a producer has no group");
        wanted.resources.group.clear();
        assert_eq!(
            said(&rules(&wanted).expect("valid")),
            ["WRITE TOPIC User:bob", "DESCRIBE TOPIC User:bob", "CREATE TOPIC User:bob"]
        );
    }

    #[test]
    fn each_principal_gets_each_operation_on_each_resource_from_each_host() {
        let wanted = Wanted {
            resources: Resources { topic: texts(&["a", "b"]), ..Resources::default() },
            allow_principal: texts(&["User:x", "User:y"]),
            allow_host: texts(&["10.0.0.1", "10.0.0.2"]),
            operation: texts(&["READ", "WRITE"]),
            deny_principal: texts(&["User:z"]),
            ..Wanted::default()
        };
        let acls = rules(&wanted).expect("valid");
        // Two topics times two operations times (two users times two hosts, and one denied).
        assert_eq!(acls.len(), 2 * 2 * (2 * 2 + 1));
        let denied = acls.iter().filter(|acl| acl.permission == "DENY");
        assert!(denied.clone().all(|acl| acl.principal == "User:z" && acl.host == "*"));
        assert_eq!(denied.count(), 4);
    }

    #[test]
    fn a_rule_without_resource_is_refused_and_a_name_is_encoded() {
        assert!(rules(&Wanted::default()).is_err());
        let resources =
            Resources { topic: texts(&["a b"]), prefixed: true, ..Resources::default() };
        assert_eq!(
            queries(&resources, &texts(&["User:x"])),
            ["resource_type=TOPIC&resource_name=a%20b&pattern_type=PREFIXED&principal=User%3Ax"]
        );
        assert_eq!(queries(&Resources::default(), &[]), [""]);
    }
}
