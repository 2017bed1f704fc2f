// SPDX-License-Identifier: Apache-2.0
//! highwater-testbed: see the crate documentation in ARCHITECTURE.md.
