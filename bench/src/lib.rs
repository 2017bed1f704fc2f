// SPDX-License-Identifier: Apache-2.0
//! highwater-bench: see the crate documentation in ARCHITECTURE.md.
