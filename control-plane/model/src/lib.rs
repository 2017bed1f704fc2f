// SPDX-License-Identifier: Apache-2.0
//! highwater-model: see the crate documentation in ARCHITECTURE.md.
