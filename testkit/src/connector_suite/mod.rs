// SPDX-License-Identifier: Apache-2.0
//! The conformance suite of [`SourceConnector`] and its readers: every connector runs it, the fake one included.
//!
//! An implementation brings a [`Harness`]: a fresh database with one captured, empty table, ways to write to it, and
//! connectors on it. [`run`] makes a new harness for each clause and panics where a clause does not hold.

#![allow(clippy::unwrap_used, reason = "a suite fails by panicking, as a test does")]

mod chunks;
mod convergence;
mod log;

use std::future::Future;
use std::time::Duration;

use highwater_core::change::LogItem;
use highwater_core::connector::{LogReader, SourceConnector};
use highwater_core::position::RunId;
use highwater_core::schema::{Key, TableName};

/// How long a clause waits for something that must come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One write to the harness' table of an integer key and a text value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SuiteWrite {
    /// Inserts a row that does not exist.
    Insert {
        /// Its key.
        id: u64,
        /// Its value.
        value: u64,
    },
    /// Updates a row that exists.
    Update {
        /// Its key.
        id: u64,
        /// Its new value.
        value: u64,
    },
    /// Deletes a row that exists.
    Delete {
        /// Its key.
        id: u64,
    },
}

/// A database with one captured table, and connectors on it.
pub trait Harness: Send + Sync {
    /// The connector under test.
    type Connector: SourceConnector;

    /// A connector on the database, as one more process with the same settings would have it.
    fn connector(&self) -> impl Future<Output = Self::Connector> + Send;
    /// The captured table's name.
    fn table(&self) -> TableName;
    /// The key of a row.
    fn key(&self, id: u64) -> Key;
    /// Does the writes in one transaction and waits until it is committed.
    fn write(&self, writes: Vec<SuiteWrite>) -> impl Future<Output = ()> + Send;
}

/// The log of a connector under test.
pub(crate) type LogOf<H> = <<H as Harness>::Connector as SourceConnector>::Log;
/// Its positions.
pub(crate) type PositionOf<H> = <<H as Harness>::Connector as SourceConnector>::Position;

/// Runs every clause, each on a new harness.
pub async fn run<H: Harness, F: Future<Output = H>>(factory: impl Fn() -> F) {
    log::preflight_finds_nothing_wrong_and_discovery_names_the_table_with_its_key(&factory().await).await;
    log::a_transaction_comes_once_between_its_begin_and_commit(&factory().await).await;
    log::an_idle_log_says_how_far_it_is(&factory().await).await;
    log::a_log_opened_again_delivers_what_came_after_and_nothing_before(&factory().await).await;
    log::what_was_acknowledged_is_enough_to_go_on_from(&factory().await).await;
    log::a_call_that_is_dropped_loses_nothing(&factory().await).await;
    log::a_mark_stands_behind_what_was_committed_before_it(&factory().await).await;
    log::marks_of_another_run_are_passed_over(&factory().await).await;
    chunks::pages_cover_every_row_once_and_in_an_order_of_their_own(&factory().await).await;
    chunks::bounds_are_exclusive_at_the_start_and_inclusive_at_the_end(&factory().await).await;
    chunks::keys_without_a_row_give_nothing(&factory().await).await;
    chunks::a_chunk_and_the_log_have_one_shape_and_equal_keys(&factory().await).await;
    chunks::splits_cut_the_table_without_a_gap(&factory().await).await;
    chunks::a_missing_table_is_an_error_that_names_it(&factory().await).await;
    convergence::a_copy_under_writes_ends_in_the_tables_state(&factory().await).await;
}

pub(crate) const RUN: RunId = RunId(7);

/// Reads the log until `enough` of what was collected.
pub(crate) async fn collect<L: LogReader>(
    log: &mut L,
    items: &mut Vec<LogItem<L::Position>>,
    what: &str,
    enough: impl Fn(&[LogItem<L::Position>]) -> bool,
) {
    let reading = async {
        while !enough(items) {
            let before = items.len();
            log.next(items).await.unwrap();
            assert!(items.len() > before, "`next` returned without an item");
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, reading).await.is_ok(),
        "the log did not deliver {what} in {PATIENCE:?}"
    );
}

/// Number of changes among the items.
pub(crate) fn changes<P>(items: &[LogItem<P>]) -> usize {
    items.iter().filter(|item| matches!(item, LogItem::Change(_))).count()
}

/// Rows 1 to `count`, in one transaction.
pub(crate) async fn fill<H: Harness>(harness: &H, count: u64) {
    harness
        .write(
            (1..=count)
                .map(|id| SuiteWrite::Insert { id, value: id * 10 })
                .collect(),
        )
        .await;
}
