// SPDX-License-Identifier: Apache-2.0
//! The numbers of event types (`Log_event_type`), and their names. MariaDB's own begin at 160.

/// Declares numbers and the names that messages use.
macro_rules! event_types {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        $($(#[$doc])* pub const $name: u8 = $code;)*

        /// The name of a type that is known.
        pub fn name(code: u8) -> Option<&'static str> {
            match code {
                $($code => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

event_types! {
    /// A statement, or the frame of a transaction.
    QUERY = 2;
    /// The server was shut down.
    STOP = 3;
    /// The log goes on in another file.
    ROTATE = 4;
    /// LAST_INSERT_ID or INSERT_ID of the next statement.
    INTVAR = 5;
    /// A part of a file that a statement loads.
    APPEND_BLOCK = 9;
    /// The end of a file that no statement loads.
    DELETE_FILE = 11;
    /// The seeds of RAND() in the next statement.
    RAND = 13;
    /// A variable that the next statement reads.
    USER_VAR = 14;
    /// What the file's events look like.
    FORMAT_DESCRIPTION = 15;
    /// The transaction is committed.
    XID = 16;
    /// The start of a file that a statement loads.
    BEGIN_LOAD_QUERY = 17;
    /// A statement that loads a file.
    EXECUTE_LOAD_QUERY = 18;
    /// A table's shape, ahead of its rows.
    TABLE_MAP = 19;
    /// New rows, first form.
    WRITE_ROWS_V1 = 23;
    /// Changed rows, first form.
    UPDATE_ROWS_V1 = 24;
    /// Removed rows, first form.
    DELETE_ROWS_V1 = 25;
    /// The server could not log what it did.
    INCIDENT = 26;
    /// Nothing happened for a while.
    HEARTBEAT = 27;
    /// What a reader may pass over.
    IGNORABLE = 28;
    /// The statement that the rows come from.
    ROWS_QUERY = 29;
    /// New rows.
    WRITE_ROWS = 30;
    /// Changed rows.
    UPDATE_ROWS = 31;
    /// Removed rows.
    DELETE_ROWS = 32;
    /// A transaction begins.
    GTID = 33;
    /// A transaction without a GTID begins.
    ANONYMOUS_GTID = 34;
    /// The transactions of all earlier files.
    PREVIOUS_GTIDS = 35;
    /// Group replication's own.
    TRANSACTION_CONTEXT = 36;
    /// Group replication's own.
    VIEW_CHANGE = 37;
    /// The XA transaction is prepared.
    XA_PREPARE = 38;
    /// Changed rows, of which JSON documents by their differences.
    PARTIAL_UPDATE_ROWS = 39;
    /// A compressed transaction.
    TRANSACTION_PAYLOAD = 40;
    /// Nothing happened for a while, in files of any size.
    HEARTBEAT_V2 = 41;
    /// A transaction with a tag begins.
    GTID_TAGGED = 42;
    /// MariaDB: the statement that the rows come from.
    ANNOTATE_ROWS = 160;
    /// MariaDB: the oldest file that recovery needs.
    BINLOG_CHECKPOINT = 161;
    /// MariaDB: a transaction begins.
    MARIADB_GTID = 162;
    /// MariaDB: the last transactions of all earlier files.
    MARIADB_GTID_LIST = 163;
    /// MariaDB: the rest of the file is encrypted.
    START_ENCRYPTION = 164;
    /// MariaDB: a compressed statement.
    QUERY_COMPRESSED = 165;
    /// MariaDB: new rows, compressed.
    WRITE_ROWS_COMPRESSED_V1 = 166;
    /// MariaDB: changed rows, compressed.
    UPDATE_ROWS_COMPRESSED_V1 = 167;
    /// MariaDB: removed rows, compressed.
    DELETE_ROWS_COMPRESSED_V1 = 168;
}
