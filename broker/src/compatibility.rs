//! The compatibility page: what of Kafka's protocol is served, and every field that is deliberately
//! left out. Made from the one table of APIs, so it cannot say more than the broker does.

use std::fmt::Write as _;

use crate::dispatch::{APIS, PRODUCE_LISTED_FROM};

/// APIs that a client of Apache Kafka 4.3 can be shown and that are not served here, with why. What
/// nodes of a cluster say to each other is not among them.
const NOT_SERVED: &[(i16, &str, &str)] = &[
    (38, "CreateDelegationToken", "there are no delegation tokens"),
    (39, "RenewDelegationToken", "there are no delegation tokens"),
    (40, "ExpireDelegationToken", "there are no delegation tokens"),
    (41, "DescribeDelegationToken", "there are no delegation tokens"),
    (57, "UpdateFeatures", "features are those of the program and are not switched"),
    (64, "UnregisterBroker", "the one broker cannot leave itself"),
    (80, "AddRaftVoter", "there is no quorum"),
    (81, "RemoveRaftVoter", "there is no quorum"),
    (88, "StreamsGroupHeartbeat", "groups of Kafka Streams use the classic protocol"),
    (89, "StreamsGroupDescribe", "groups of Kafka Streams use the classic protocol"),
];

/// Markdown.
pub fn page() -> String {
    let mut text = String::from(
        "# What of Kafka's protocol is served\n\n\
         Made from the table of APIs in `broker/src/dispatch.rs`; `kafka-broker-api-versions` \
         shows the same of a running broker.\n\n\
         | key | API | versions | left out, and why |\n\
         | ---: | --- | --- | --- |\n",
    );
    for api in APIS {
        let (key, name) = (api.key, api.name);
        let left_out = match api.left_out {
            [] => "nothing".to_owned(),
            some => some.join("; "),
        };
        let _ = writeln!(text, "| {key} | {name} | {}–{} | {left_out} |", api.oldest, api.newest);
    }
    let _ = write!(
        text,
        "\nProduce is listed from version {PRODUCE_LISTED_FROM}, as Kafka lists it, because \
         librdkafka switches compression off when it does not see version 0.\n\n\
         ## Not served\n\n| key | API | why |\n| ---: | --- | --- |\n"
    );
    for (key, name, why) in NOT_SERVED {
        let _ = writeln!(text, "| {key} | {name} | {why} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_a_row_for_each_api_and_every_reason_is_a_clause() {
        let page = page();
        for api in APIS {
            assert!(page.contains(&format!("| {} | {} |", api.key, api.name)), "{}", api.name);
            for reason in api.left_out {
                assert!(page.contains(reason), "{reason}");
                assert!(!reason.contains(['|', '\n']) && !reason.ends_with('.'), "{reason}");
            }
        }
    }

    #[test]
    fn what_is_served_is_not_said_to_be_missing() {
        for (key, name, _) in NOT_SERVED {
            assert!(!APIS.iter().any(|api| api.key == *key), "{name} is served");
        }
    }

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/COMPATIBILITY.md");

    /// `UPDATE_COMPATIBILITY=1 cargo test` writes it anew.
    #[test]
    fn the_page_in_the_repository_is_this_one() {
        if std::env::var_os("UPDATE_COMPATIBILITY").is_some() {
            std::fs::write(FILE, page()).unwrap();
        }
        let written = std::fs::read_to_string(FILE).unwrap();
        let how = "write it anew with UPDATE_COMPATIBILITY=1 cargo test -p odradek-broker compat";
        assert!(written == page(), "COMPATIBILITY.md does not fit the table; {how}");
    }

    #[test]
    fn the_table_is_in_the_order_of_its_keys() {
        let out_of_order = APIS.windows(2).find(|pair| pair[0].key >= pair[1].key);
        assert!(out_of_order.is_none(), "{}", out_of_order.map_or("", |pair| pair[1].name));
    }
}
