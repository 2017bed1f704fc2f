// SPDX-License-Identifier: Apache-2.0
//! The errors that every transport words alike.

#[cfg(feature = "kafka")]
use highwater_core::Class;
use highwater_core::transport::{TopicSpec, WriterId};
use highwater_core::{Error, ErrorKind, Result, Scope};

/// The longest topic name, in bytes: Kafka's limit.
const TOPIC_NAME_BYTES_MAX: usize = 249;

/// A newer writer with the same id is open.
pub(crate) fn fenced(id: &WriterId) -> Error {
    Error::new(ErrorKind::Fenced, format!("a newer writer \"{}\" took over", id.0))
        .with_fix("let the newer one work; if there should be only one, stop the other process that runs this task")
}

/// A topic that was named does not exist.
pub(crate) fn topic_not_found(topic: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("topic \"{topic}\" does not exist"))
        .with_scope(Scope::Table)
        .with_fix("create it, or correct its name")
}

/// A topic has no such partition.
pub(crate) fn partition_not_found(topic: &str, partition: u32) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("topic \"{topic}\" as it was opened has no partition {partition}"),
    )
    .with_scope(Scope::Table)
    .with_fix("open the reader again")
}

/// What a reader needs next is not held (any more).
pub(crate) fn offset_not_held(topic: &str, partition: u32, offset: u64, held: std::ops::Range<u64>) -> Error {
    Error::new(ErrorKind::PositionLost, format!("topic \"{topic}\" does not hold what is to be read next"))
        .with("partition", partition)
        .with("offset", offset)
        .with("held_from", held.start)
        .with("held_to", held.end)
        .with_fix("rebuild what this reader feeds from a new snapshot, or seek to an offset that is held; raise the topic's retention")
}

#[cfg(feature = "kafka")]
/// The writer met an error that leaves its transaction's fate or its state open.
pub(crate) fn writer_is_done(id: &WriterId) -> Error {
    Error::new(
        ErrorKind::Unreachable,
        format!("writer \"{}\" ended with an earlier error", id.0),
    )
    .with_class(Class::Retryable)
    .with_fix("open it again and go on from its checkpoint")
}

/// Refuses topics that not every transport could hold, so that a pipeline can move between them.
pub(crate) fn check_topic(spec: &TopicSpec) -> Result<()> {
    let name = spec.name.as_str();
    let refused = |why: &str, fix: &str| {
        Err(Error::new(ErrorKind::Configuration, format!("topic \"{name}\" {why}"))
            .with_scope(Scope::Table)
            .with_fix(fix))
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name == "." || name == ".." || !name.bytes().all(allowed) {
        return refused(
            "has a name that Kafka does not allow",
            "use letters, digits, \".\", \"_\" and \"-\" only",
        );
    }
    if name.len() > TOPIC_NAME_BYTES_MAX {
        return refused("has a name of more than 249 bytes", "shorten it");
    }
    if spec.partitions == 0 || i32::try_from(spec.partitions).is_err() {
        return refused("cannot have that many partitions", "set partitions to 1 or more");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use highwater_core::transport::Cleanup;

    use super::*;

    fn spec(name: &str, partitions: u32) -> TopicSpec {
        TopicSpec {
            name: name.to_owned(),
            partitions,
            cleanup: Cleanup::Delete,
            retention: None,
        }
    }

    #[test]
    fn topics_that_kafka_would_refuse_are_refused_everywhere() {
        let long = "x".repeat(250);
        for (name, partitions) in [("", 1), ("..", 1), ("a b", 1), ("a/b", 1), (long.as_str(), 1), ("a", 0)] {
            let refused = check_topic(&spec(name, partitions)).expect_err("must be refused");
            assert_eq!(refused.kind(), ErrorKind::Configuration);
        }
        assert!(check_topic(&spec("prefix.public.movies_2-x", 3)).is_ok());
    }
}
