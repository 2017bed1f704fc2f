// SPDX-License-Identifier: Apache-2.0
//! highwater-testkit: see the crate documentation in ARCHITECTURE.md.

pub mod model;
pub mod oracle;
pub mod transport_suite;
