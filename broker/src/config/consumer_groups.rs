//! What is set for all groups of the consumer protocol (KIP-848): `group.consumer.*`, besides what
//! a single group may say otherwise (`group`).

use super::values::Reader;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerGroupSettings {
    pub members_max: usize,
    /// `uniform`, `range`; the default one first.
    pub assignors: Vec<String>,
    /// A classic group may become one of the consumer protocol while it has members.
    pub upgrade: bool,
    /// And the other way round.
    pub downgrade: bool,
}

pub(super) fn resolve(reader: &Reader<'_>) -> ConsumerGroupSettings {
    let policy = reader.text("group.consumer.migration.policy").to_lowercase();
    ConsumerGroupSettings {
        members_max: reader.number("group.consumer.max.size"),
        assignors: assignors(reader),
        upgrade: matches!(policy.as_str(), "bidirectional" | "upgrade"),
        downgrade: matches!(policy.as_str(), "bidirectional" | "downgrade"),
    }
}

/// By name, or by the class name that a file for an Apache Kafka may have.
fn assignors(reader: &Reader<'_>) -> Vec<String> {
    const KEY: &str = "group.consumer.assignors";
    let mut names: Vec<String> = Vec::new();
    let text = reader.text(KEY);
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let class = word.rsplit('.').next().unwrap_or(word);
        let name = match class {
            "uniform" | "UniformAssignor" => "uniform",
            "range" | "RangeAssignor" => "range",
            _ => {
                let what = format!("{word:?} is not an assignor of this broker");
                reader.problem(reader.origin(KEY), KEY, what, "name uniform, range or both");
                continue;
            }
        };
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    if names.is_empty() {
        let what = "names no assignor".to_owned();
        reader.problem(reader.origin(KEY), KEY, what, "name uniform, range or both");
    }
    names
}
