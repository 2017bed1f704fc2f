// SPDX-License-Identifier: Apache-2.0
//! highwater-testkit: see the crate documentation in ARCHITECTURE.md.

pub mod transport_suite;
