//! The compatibility page: what of Kafka's protocol is served, and every field that is deliberately
//! left out. Made from the one table of APIs, so it cannot say more than the broker does.

use std::fmt::Write as _;

use crate::dispatch::{APIS, PRODUCE_LISTED_FROM};

/// Markdown.
pub fn page() -> String {
    let mut text = String::from(
        "# What of Kafka's protocol is served\n\n\
         Made from the table of APIs in `broker/src/dispatch.rs`; `kafka-broker-api-versions` shows \
         the same of a running broker.\n\n\
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
         librdkafka switches compression off when it does not see version 0.\n"
    );
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
}
