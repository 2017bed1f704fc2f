// SPDX-License-Identifier: Apache-2.0
//! What an operator sees: logs, metrics, status.

pub mod logging;
pub mod metrics;
pub mod status;
