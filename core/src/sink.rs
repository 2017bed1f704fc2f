// SPDX-License-Identifier: Apache-2.0
//! A sink lands records in a destination together with the offsets it consumed.

use std::future::Future;

use crate::error::Result;
use crate::transport::{Offsets, Record};

/// A destination for one task's partitions.
///
/// Guarantees: (1) `open` gives the offsets that the destination itself holds, committed with the data they cover;
/// (2) what `commit` returned is durable, and a replay of records below it changes nothing; (3) records of one key take
/// effect in the order they were written.
/// Not promised: that anything is visible before `commit`.
pub trait Sink: Send {
    /// Opens the task and reads its durable offsets; `None`: nothing was ever committed.
    fn open(&mut self, task: &str) -> impl Future<Output = Result<Option<Offsets>>> + Send;
    /// Takes records whose consumption moves the task to `offsets`.
    fn write(&mut self, batch: &[Record], offsets: &Offsets) -> impl Future<Output = Result<()>> + Send;
    /// Makes everything written durable and returns the offsets that hold from now on.
    fn commit(&mut self) -> impl Future<Output = Result<Offsets>> + Send;
}
