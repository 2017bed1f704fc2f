// SPDX-License-Identifier: Apache-2.0
//! Names of topics and of the schemas that belong to them.

use highwater_core::schema::TableName;

/// The topic of a table: `<prefix>.<schema>.<table>`, every character that Kafka does not allow replaced by `_`. That of a
/// source's messages, which have no schema: `<prefix>.message`.
pub fn topic_name(prefix: &str, table: &TableName) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    format!("{prefix}.{table}")
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect()
}

/// The registry subjects of a topic's keys and values (`TopicNameStrategy`).
pub fn subjects(topic: &str) -> (String, String) {
    (format!("{topic}-key"), format!("{topic}-value"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_core::schema::MESSAGES;

    #[test]
    fn characters_that_kafka_does_not_allow_become_underscores() {
        let topic = topic_name("shop", &TableName::new("sales eu", "orders/größe"));
        assert_eq!(topic, "shop.sales_eu.orders_gr__e");
        assert_eq!(topic_name("shop", &TableName::new("", MESSAGES)), "shop.message");
        assert_eq!(subjects("t"), ("t-key".to_owned(), "t-value".to_owned()));
    }
}
