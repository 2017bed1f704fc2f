// SPDX-License-Identifier: Apache-2.0
//! highwater-core: see the crate documentation in ARCHITECTURE.md.
