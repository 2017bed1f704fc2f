// SPDX-License-Identifier: Apache-2.0
//! highwater-integration-tests: see the crate documentation in ARCHITECTURE.md.
