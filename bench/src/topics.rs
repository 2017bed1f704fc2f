// SPDX-License-Identifier: Apache-2.0
//! The topics of a case.

use serde::{Deserialize, Serialize};

/// A topic by its name, or with `*` at the end all that begin so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Topics(pub(crate) String);

impl Topics {
    /// Whether a topic is one of them.
    pub(crate) fn has(&self, topic: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(begin) => topic.starts_with(begin),
            None => topic == self.0,
        }
    }

    /// The only topic, where they are one.
    pub(crate) fn only(&self) -> Option<&str> {
        (!self.0.ends_with('*')).then_some(self.0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_topic_and_a_star_stands_for_the_rest_of_a_name() {
        let one = Topics("case.bench.items".to_owned());
        assert!(one.has("case.bench.items") && !one.has("case.bench.items2"));
        assert_eq!(one.only(), Some("case.bench.items"));
        let many = Topics("case.bench_many.*".to_owned());
        assert!(many.has("case.bench_many.t1") && !many.has("case.bench.items"));
        assert_eq!(many.only(), None);
    }
}
