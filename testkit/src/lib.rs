// SPDX-License-Identifier: Apache-2.0
//! What proves that an implementation keeps its contract: a model database and the fake source over it, the convergence
//! oracle, faults to wrap around any connector, and one conformance suite per trait that every implementation runs, the
//! fakes included.

pub mod connector_suite;
pub mod fake;
pub mod fault;
pub mod memory_spill;
pub mod model;
pub mod oracle;
pub mod sink_suite;
pub mod spill_suite;
pub mod transport_suite;
