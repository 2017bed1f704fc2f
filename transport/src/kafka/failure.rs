// SPDX-License-Identifier: Apache-2.0
//! What librdkafka's error codes mean to us.

use highwater_core::transport::WriterId;
use highwater_core::{Class, Error, ErrorKind, Scope};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::settings::KafkaSettings;
use crate::failure::{fenced, topic_not_found};

/// A failed call, as librdkafka tells it.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) code: Code,
    /// librdkafka's words: codes, names and addresses, never content.
    pub(super) text: String,
    /// The client is of no more use.
    pub(super) is_fatal: bool,
    /// The transaction must be aborted; the client goes on.
    pub(super) requires_abort: bool,
    /// The same call may be made again.
    pub(super) is_retriable: bool,
}

impl Failure {
    pub(super) fn of_code(code: Code) -> Self {
        Failure {
            code,
            text: code.to_string(),
            is_fatal: false,
            requires_abort: false,
            is_retriable: false,
        }
    }

    pub(super) fn is_fenced(&self) -> bool {
        matches!(
            self.code,
            Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch
        )
    }
}

/// The error of something that failed while `doing` it, such as "commit a transaction".
pub(super) fn error(failure: &Failure, doing: &str, settings: &KafkaSettings) -> Error {
    let servers = &settings.bootstrap_servers;
    let made =
        |kind, message: String, fix: String| Error::new(kind, message).with("cause", &failure.text).with_fix(fix);
    match failure.code {
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism | Code::IllegalSASLState => made(
            ErrorKind::Authentication,
            format!("kafka at \"{servers}\" refused our credentials"),
            "correct the transport settings under \"sasl\", or make the user on the brokers".to_owned(),
        ),
        Code::SSL => made(
            ErrorKind::Authentication,
            format!("kafka at \"{servers}\" and we cannot agree on TLS"),
            "check the transport settings under \"tls\": the authority that signed the brokers' certificates, their names, our own certificate"
                .to_owned(),
        ),
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => made(
            ErrorKind::Privilege,
            format!("kafka at \"{servers}\" does not allow us to {doing}"),
            "add ACLs for our user: read, write, create and describe on our topics, read on our groups, write and describe on transactional ids that begin with the client id"
                .to_owned(),
        ),
        Code::InvalidTransactionTimeout => made(
            ErrorKind::Configuration,
            "transport setting \"transaction_timeout_ms\" is above what the brokers allow".to_owned(),
            "lower it, or raise \"transaction.max.timeout.ms\" of the brokers".to_owned(),
        ),
        Code::InvalidReplicationFactor => made(
            ErrorKind::Configuration,
            format!("could not {doing}: the cluster cannot hold that many replicas"),
            "lower the transport setting \"replication_factor\", or add brokers".to_owned(),
        ),
        Code::PolicyViolation | Code::InvalidConfig | Code::InvalidPartitions => made(
            ErrorKind::Unsuitable,
            format!("could not {doing}: the cluster's policy forbids it"),
            "make the topic by hand as the policy wants it".to_owned(),
        ),
        _ => made(
            ErrorKind::Unreachable,
            format!("could not {doing} on kafka at \"{servers}\""),
            "check that the brokers run and can be reached; the work then goes on from the last checkpoint".to_owned(),
        )
        .with_class(Class::Retryable),
    }
}

/// The error of a writer's failed call.
pub(super) fn writer_error(failure: &Failure, doing: &str, id: &WriterId, settings: &KafkaSettings) -> Error {
    if failure.is_fenced() {
        fenced(id)
    } else {
        error(failure, doing, settings)
    }
}

/// The error of records for `topic` that could not be delivered.
pub(super) fn delivery_error(failure: &Failure, topic: &str, settings: &KafkaSettings) -> Error {
    match failure.code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            Error::new(ErrorKind::LimitReached, format!("a record for topic \"{topic}\" is too large"))
                .with_scope(Scope::Table)
                .with("record_bytes_max", settings.record_bytes_max)
                .with_fix(format!(
                    "raise the transport setting \"record_bytes_max\" and \"max.message.bytes\" of topic \"{topic}\", or leave the large column out"
                ))
        }
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => topic_not_found(topic),
        _ => error(failure, &format!("write to topic \"{topic}\""), settings),
    }
}
