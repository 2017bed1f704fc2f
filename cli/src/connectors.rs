// SPDX-License-Identifier: Apache-2.0
//! The databases that this program captures. Adding one is one line.

use std::sync::Arc;

use highwater_postgres::connector::PostgresConnector;
use highwater_runtime::{Connector, connector};

/// Every connector, by its name in pipeline files.
pub fn connectors() -> Vec<Arc<dyn Connector>> {
    vec![connector("postgres", PostgresConnector::new)]
}
