// SPDX-License-Identifier: Apache-2.0
//! highwater-cli: see the crate documentation in ARCHITECTURE.md.
