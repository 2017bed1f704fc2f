// SPDX-License-Identifier: Apache-2.0
//! highwater-postgres: see the crate documentation in ARCHITECTURE.md.
