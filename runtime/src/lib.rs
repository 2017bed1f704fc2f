// SPDX-License-Identifier: Apache-2.0
//! highwater-runtime: see the crate documentation in ARCHITECTURE.md.
