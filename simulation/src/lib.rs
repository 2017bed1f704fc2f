// SPDX-License-Identifier: Apache-2.0
//! highwater-simulation: see the crate documentation in ARCHITECTURE.md.
