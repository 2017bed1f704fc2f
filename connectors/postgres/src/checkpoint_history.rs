// SPDX-License-Identifier: Apache-2.0
//! Asks a server for its history and holds a checkpoint against it, before the log is opened.

use crate::catalog_row::{CatalogRow, only_row};
use crate::lineage::{History, PgLineage, judge, other_birth};
use crate::position::PgPosition;
use crate::protocol::Lsn;
use crate::replication_connection::ReplicationConnection;
use crate::server_choice::Server;
use highwater_core::position::ResumePoint;
use highwater_core::{Error, ErrorKind, Result};

/// Checks that `from` is a point of the server's history, and returns what checkpoints of a log that is opened now say of
/// theirs.
///
/// # Errors
/// [`ErrorKind::PositionLost`] if it is not.
pub(crate) async fn verify(
    server: &mut Server,
    replication: &mut ReplicationConnection,
    from: Option<&ResumePoint<PgPosition>>,
) -> Result<PgLineage> {
    let history = read(server, replication).await?;
    let known = match from {
        Some(from) => PgLineage::decode(&from.lineage)?,
        None => None,
    };
    let begin = history.begin_of(history.timeline).unwrap_or(Lsn::ZERO);
    let births_count = match from {
        Some(from) => judge(known.as_ref(), &history, from.position.0)?,
        None => false,
    };
    let mut birth = read_birth(server, history.timeline, begin).await?;
    if let (Some(from), Some(known)) = (from, known.as_ref().filter(|_| births_count)) {
        let here = match (known.timeline, known.begin) == (history.timeline, begin) {
            true => birth.clone(),
            false => read_birth(server, known.timeline, known.begin).await?,
        };
        if !here.is_empty() && here != known.birth {
            return Err(other_birth(known, from.position.0));
        }
    }
    // Before a slot is made: what comes after the snapshot of a slot is not in the snapshot.
    let partitions_unseen_since = match &known {
        Some(known) => known.partitions_unseen_since,
        None => server.queries.oldest_transaction().await?,
    };
    if birth.is_empty()
        && let Some(known) = known
        && (known.timeline, known.begin) == (history.timeline, begin)
    {
        birth = known.birth;
    }
    Ok(PgLineage {
        system: history.system,
        timeline: history.timeline,
        begin,
        birth,
        process_start_us: history.process_start_us,
        partitions_unseen_since,
    })
}

async fn read(server: &mut Server, replication: &mut ReplicationConnection) -> Result<History> {
    let what = "reading when the server was started";
    let sql = "SELECT (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint";
    let started = only_row(server.queries.query(sql, &[], what).await?, what)?;
    let identity = replication.identify_system().await?;
    let unreadable = |what: String| Error::new(ErrorKind::CorruptMessage, what);
    let ancestors = match identity.timeline {
        0 | 1 => Vec::new(),
        timeline => {
            let file = replication.timeline_history(timeline).await?;
            let what = || unreadable(format!("the history of timeline {timeline} cannot be read"));
            History::ancestors(&file).ok_or_else(what)?
        }
    };
    let system = identity.system_id.parse();
    Ok(History {
        system: system.map_err(|_| unreadable("the server's system identifier is no number".into()))?,
        timeline: identity.timeline,
        ancestors,
        end: identity.position,
        in_recovery: server.in_recovery,
        process_start_us: started.column(0)?,
    })
}

/// The first bytes of a timeline's log; empty for the first timeline, and where they were recycled or are not there yet.
async fn read_birth(server: &Server, timeline: u32, begin: Lsn) -> Result<Vec<u8>> {
    if !begin.is_valid() {
        return Ok(Vec::new());
    }
    let connection = ReplicationConnection::open(&server.settings).await?;
    let count = PgLineage::birth_bytes(begin);
    let bytes = connection.first_bytes(timeline, begin, count).await?;
    Ok(bytes.unwrap_or_default())
}
