// SPDX-License-Identifier: Apache-2.0
//! highwater-transport: see the crate documentation in ARCHITECTURE.md.
