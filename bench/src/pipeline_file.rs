// SPDX-License-Identifier: Apache-2.0
//! The pipeline file of a case: the defaults of the product wherever the case does not say otherwise.

use highwater_testbed::Postgres;
use highwater_testbed::postgres::SUPERUSER;

use crate::dataset::Table;

/// The topic prefix, and the name, of a case's pipeline.
pub(crate) fn topic(case: &str, table: Table) -> String {
    format!("{case}.{}", table.name())
}

/// The pipeline file of a case. `slot` names the slot and the publication; `brokers` is None where events go nowhere.
pub(crate) fn text(case: &str, server: &Postgres, table: Table, snapshot: bool, brokers: Option<&str>) -> String {
    let transport = match brokers {
        Some(brokers) => {
            format!("{{ kafka: {{ brokers: [\"{brokers}\"], compression: lz4 }} }}")
        }
        None => "discard".to_owned(),
    };
    let mode = if snapshot { "initial" } else { "never" };
    format!(
        "version: 1\n\
         name: {case}\n\
         source:\n  \
           connector: postgres\n  \
           settings:\n    \
             host: {host}\n    \
             port: {port}\n    \
             user: {SUPERUSER}\n    \
             database: postgres\n    \
             slot: {{ name: {case} }}\n    \
             publication: {{ name: {case} }}\n    \
             tables: {{ include: [\"{table}\"] }}\n\
         transport: {transport}\n\
         snapshot: {{ mode: {mode} }}\n",
        host = server.host(),
        port = server.port(),
        table = table.name(),
    )
}
