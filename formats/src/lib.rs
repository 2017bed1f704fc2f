// SPDX-License-Identifier: Apache-2.0
//! highwater-formats: see the crate documentation in ARCHITECTURE.md.
