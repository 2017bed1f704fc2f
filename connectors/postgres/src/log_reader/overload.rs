// SPDX-License-Identifier: Apache-2.0
//! Whether the server has enough to do without our copies: what it is asked, and how that compares with the user's limits.

use crate::catalog_row::{CatalogRow, only_row};
use crate::protocol::quoting::quote_identifier;
use crate::query_connection::QueryConnection;
use crate::settings::ThrottleSettings;
use highwater_core::{Error, ErrorKind, Result};

/// Sessions of other programs that work, sessions that wait for a lock, and how late the latest standby shows what is
/// committed here, in milliseconds. Sessions of ours count where they wait for a lock: a copy may be what stands in the way.
const LOAD: &str = "\
    SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity \
             WHERE backend_type = 'client backend' AND state = 'active' \
               AND NOT (usename = current_user AND application_name LIKE 'highwater %')), \
           (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE wait_event_type = 'Lock'), \
           (SELECT pg_catalog.max(pg_catalog.date_part('epoch', replay_lag) * 1000)::int8 \
              FROM pg_catalog.pg_stat_replication WHERE application_name NOT LIKE 'highwater %')";

/// What the server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    active_sessions: i64,
    lock_waits: i64,
    replica_lag_ms: Option<i64>,
}

impl Load {
    pub(super) async fn read(connection: &mut QueryConnection) -> Result<Self> {
        let what = "reading what the server is doing";
        let row = only_row(connection.query(LOAD, &[], what).await?, what)?;
        Ok(Self {
            active_sessions: row.column(0)?,
            lock_waits: row.column(1)?,
            replica_lag_ms: row.column(2)?,
        })
    }

    /// The limits that this is past, in words; `None` if it is past none.
    pub(super) fn past(&self, limits: &ThrottleSettings) -> Option<String> {
        let over = |what: &str, unit: &str, is: Option<i64>, limit: Option<u64>| {
            let (is, limit) = (u64::try_from(is?).ok()?, limit?);
            (is > limit).then(|| format!("{what} {is}{unit} (limit {limit}{unit})"))
        };
        let past: Vec<String> = [
            over(
                "active sessions",
                "",
                Some(self.active_sessions),
                limits.active_sessions_max,
            ),
            over(
                "sessions that wait for a lock",
                "",
                Some(self.lock_waits),
                limits.lock_waits_max,
            ),
            over(
                "lag of a standby",
                " ms",
                self.replica_lag_ms,
                limits.replica_lag_max_ms,
            ),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!past.is_empty()).then(|| past.join(", "))
    }
}

/// Whether the role is shown what other roles' sessions do.
pub(crate) async fn sees_sessions(connection: &mut QueryConnection) -> Result<bool> {
    let what = "reading whether the role sees other sessions";
    let sql = "SELECT pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')";
    only_row(connection.query(sql, &[], what).await?, what)?.flag(0)
}

/// Refuses limits that the role could not see passed: without the privilege other sessions look idle.
pub(crate) async fn check_privilege(
    connection: &mut QueryConnection,
    limits: &ThrottleSettings,
    role: &str,
) -> Result<()> {
    if limits.is_off() || sees_sessions(connection).await? {
        return Ok(());
    }
    let what = format!(
        "role \"{role}\" does not see what other sessions do, so the limits in `throttle` would never be passed"
    );
    let fix = format!("run `{}`, or take `throttle` out", grant_statement(role));
    Err(Error::new(ErrorKind::Unsuitable, what).with_fix(fix))
}

/// The statement that lets the role see it.
pub(crate) fn grant_statement(role: &str) -> String {
    format!("GRANT pg_read_all_stats TO {}", quote_identifier(role))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_that_is_passed_is_named_and_none_else() {
        let limits = |active_sessions_max, lock_waits_max, replica_lag_max_ms| ThrottleSettings {
            active_sessions_max,
            lock_waits_max,
            replica_lag_max_ms,
        };
        let load = Load {
            active_sessions: 20,
            lock_waits: 3,
            replica_lag_ms: Some(1_500),
        };
        assert_eq!(load.past(&limits(None, None, None)), None);
        assert_eq!(load.past(&limits(Some(20), Some(3), Some(1_500))), None);
        assert_eq!(
            load.past(&limits(Some(19), None, None)).as_deref(),
            Some("active sessions 20 (limit 19)")
        );
        assert_eq!(
            load.past(&limits(Some(20), Some(0), Some(1_000))).as_deref(),
            Some("sessions that wait for a lock 3 (limit 0), lag of a standby 1500 ms (limit 1000 ms)")
        );
        let alone = Load {
            replica_lag_ms: None,
            ..load
        };
        assert_eq!(
            alone.past(&limits(None, None, Some(0))),
            None,
            "no standby, or none that is late"
        );
    }
}
