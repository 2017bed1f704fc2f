// SPDX-License-Identifier: Apache-2.0
//! The conformance suite of [`Transport`]: every implementation runs every clause.
//!
//! An implementation brings a [`Subject`]; [`transport_suite!`](crate::transport_suite!) makes one test of each clause, or
//! [`run_all`] runs them one after the other against one server. A clause that does not hold panics and says what it saw.

#![allow(clippy::unwrap_used, reason = "a suite fails by panicking, as a test does")]

mod batches;
mod commits;
mod groups;
mod keeping;
mod partitions;
mod reading;
mod writers;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use highwater_core::transport::Transport;

/// An implementation under test.
#[async_trait]
pub trait Subject: Send + Sync {
    /// A handle on the transport; a second call gives one on the same content.
    async fn open(&self) -> Arc<dyn Transport>;

    /// Closes `transport` as the end of its process would, without an orderly shutdown where that is possible, and opens it
    /// again. No other handle is open.
    async fn reopen(&self, transport: Arc<dyn Transport>) -> Arc<dyn Transport>;

    /// Compacts the compacted topics as far as the implementation can be told to; returns whether it did, and so whether
    /// replaced records must be gone.
    async fn compact(&self, transport: &Arc<dyn Transport>, topic: &str) -> bool;

    /// Lets records older than the topic's retention leave; returns whether some must have left.
    async fn expire(&self, transport: &Arc<dyn Transport>, topic: &str) -> bool;
}

/// A clause's test.
pub type Clause = for<'a> fn(&'a dyn Subject) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A name that nothing else has used: transports may be shared between clauses and runs.
fn unique(stem: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("suite.{stem}.{}-{number}", std::process::id())
}

macro_rules! clauses {
    ($($module:ident :: $name:ident,)*) => {
        /// Every clause by its name.
        pub const CLAUSES: &[(&str, Clause)] = &[$((stringify!($name), $name),)*];
        $(
            #[doc = concat!("Clause `", stringify!($name), "`.")]
            pub fn $name(subject: &dyn Subject) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
                Box::pin($module::$name(subject))
            }
        )*
        /// Makes one test of each clause, run against what the expression, which may await, makes: a [`Subject`].
        #[macro_export]
        macro_rules! transport_suite {
            ($subject:expr) => {
                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $name() {
                        let subject = $subject;
                        $crate::transport_suite::$name(&subject).await;
                    }
                )*
            };
        }
    };
}

clauses! {
    partitions::clause_1_a_key_goes_to_javas_partition_and_keyless_records_keep_their_order,
    partitions::clause_2_offsets_ascend_and_a_reader_resumes_at_any_of_them,
    commits::clause_3_topics_checkpoint_and_group_offsets_commit_together,
    commits::clause_3_an_aborted_transaction_leaves_nothing,
    commits::clause_3_a_dropped_transaction_leaves_nothing,
    commits::clause_4_an_open_transaction_is_not_read,
    writers::clause_5_opening_a_writer_fences_the_earlier_one,
    writers::clause_5_a_zombie_that_commits_late_leaves_nothing,
    writers::clause_5_writers_of_different_ids_do_not_disturb_each_other,
    groups::clause_6_offsets_of_a_group_are_read_back_by_it,
    keeping::clause_7_compaction_keeps_the_last_record_of_each_key,
    keeping::clause_8_retention_takes_records_from_the_old_end_only,
    keeping::clause_9_what_was_committed_survives_the_end_of_the_process,
    writers::a_checkpoint_comes_back_as_it_was_put,
    writers::a_checkpoint_of_an_aborted_transaction_is_not_kept,
    reading::keys_values_tombstones_headers_and_timestamps_come_back,
    reading::a_reader_waits_for_the_next_commit_and_not_longer,
    reading::a_poll_that_is_dropped_loses_nothing,
    reading::the_end_is_reached_behind_commits_and_aborts,
    reading::a_latest_reader_sees_only_what_comes,
    reading::an_offset_that_is_not_held_is_an_error,
    reading::topics_lists_what_was_made_and_keeps_what_exists,
    reading::a_missing_topic_is_named,
    batches::a_large_transaction_arrives_whole_and_in_order,
    batches::many_small_transactions_arrive_in_order,
}

/// Runs every clause in turn and prints each name and, at the end, their number, which it returns.
pub async fn run_all(subject: &dyn Subject) -> usize {
    for (name, clause) in CLAUSES {
        let begun = tokio::time::Instant::now();
        clause(subject).await;
        println!("transport clause: {name} ({} ms)", begun.elapsed().as_millis());
    }
    println!("{} transport clauses hold", CLAUSES.len());
    CLAUSES.len()
}
