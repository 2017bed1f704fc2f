// SPDX-License-Identifier: Apache-2.0
//! Who leads, where two copies of a pipeline run.
//!
//! Clauses, each tested on every implementation (`leases/suite.rs`):
//! 1. *One*: of the copies that wait, one acquires it; the others wait.
//! 2. *Takeover*: when the holder releases it or dies, one that waits acquires it in bounded time.
//! 3. *Told*: a holder that loses it without releasing it is told by [`Lease::lost`].
//!
//! Not promised: that no two copies ever believe to lead at the same moment. That a former leader writes nothing is the
//! transport's promise (fencing), not the lease's.

mod file;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(test)]
mod suite;

use std::time::Duration;

use async_trait::async_trait;
use highwater_core::Result;

pub use file::FileLease;
#[cfg(feature = "kafka")]
pub use kafka::KafkaLease;

/// The right to lead.
#[async_trait]
pub trait Lease: Send {
    /// Waits until this copy leads. Cancel-safe.
    ///
    /// # Errors
    /// When it cannot be known who leads: a folder that cannot be written, a broker that refuses.
    async fn acquire(&mut self) -> Result<()>;
    /// How long [`Lease::acquire`] may take where nobody leads, though a holder may just have died.
    fn free_after(&self) -> Duration {
        Duration::from_secs(2)
    }
    /// Returns when leading has ended without [`Lease::release`]; waits for ever while it lasts. Cancel-safe.
    async fn lost(&mut self);
    /// Lets another copy lead.
    async fn release(&mut self) -> Result<()>;
}

/// The lease of a pipeline that has no second copy: it always leads.
#[derive(Debug, Default)]
pub struct AloneLease;

#[async_trait]
impl Lease for AloneLease {
    async fn acquire(&mut self) -> Result<()> {
        Ok(())
    }

    async fn lost(&mut self) {
        std::future::pending().await
    }

    async fn release(&mut self) -> Result<()> {
        Ok(())
    }
}
