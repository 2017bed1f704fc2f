// SPDX-License-Identifier: Apache-2.0
//! What frames transactions: GTIDs of both servers, XA, statements that are logged as such.

use highwater_mysql::gtid::{GtidSet, MariadbGtid, MariadbPosition};
use highwater_mysql::protocol::event_type;
use highwater_mysql::protocol::gtid_event::GtidEvent;
use highwater_mysql::protocol::mariadb_gtid_event::{AlterStep, MariadbGtidEvent, XaStep};
use highwater_mysql::protocol::{Event, Flavor};

use crate::sample::{FILES, events, flavor, opened};

const STATEMENTS: [&str; 3] = [
    "mysql-9.7-statements",
    "mariadb-10.11-statements",
    "mariadb-11.8-statements",
];
const SERVER: &str = "711266a4-e8fb-11f1-98d5-02fc00000001";

fn starts(name: &str) -> Vec<GtidEvent> {
    let start = |event| match event {
        Event::Gtid(start) => Some(start),
        _ => None,
    };
    opened(name).into_iter().filter_map(start).collect()
}

fn mariadb_starts(name: &str) -> Vec<MariadbGtidEvent> {
    let start = |event| match event {
        Event::MariadbGtid(start) => Some(start),
        _ => None,
    };
    opened(name).into_iter().filter_map(start).collect()
}

fn previous(name: &str) -> GtidSet {
    let previous = opened(name).into_iter().find_map(|event| match event {
        Event::PreviousGtids(set) => Some(set),
        _ => None,
    });
    previous.expect("a file begins with the transactions before it")
}

#[test]
fn tagged_transactions_have_numbers_of_their_own() {
    let names: Vec<String> = starts("mysql-9.7-tags")
        .iter()
        .map(|start| start.gtid.as_ref().unwrap().to_string())
        .collect();
    let expected = [":tagx:1", ":other_tag:1", ":14"].map(|end| format!("{SERVER}{end}"));
    assert_eq!(names, expected);
}

#[test]
fn a_file_says_which_transactions_came_before() {
    assert_eq!(previous("mysql-9.7-types").to_string(), format!("{SERVER}:1"));
    let tagged = previous("mysql-9.7-xa");
    assert_eq!(tagged.to_string(), format!("{SERVER}:1-14:other_tag:1:tagx:1"));
    // What the server wrote is what it is sent back in COM_BINLOG_DUMP_GTID.
    let xa = events("mysql-9.7-xa");
    let placed = xa
        .iter()
        .find(|placed| placed.header.code == event_type::PREVIOUS_GTIDS)
        .unwrap();
    let bytes = crate::sample::file_bytes("mysql-9.7-xa");
    let start = placed.position as usize;
    let body = &bytes[start + 19..start + placed.header.length as usize - 4];
    assert_eq!(tagged.encode(), body);
    // The file's own follow without a gap.
    let mut all = tagged;
    for start in starts("mysql-9.7-xa") {
        let gtid = start.gtid.unwrap();
        assert!(!all.contains(&gtid));
        let one: GtidSet = gtid.to_string().parse().unwrap();
        all.union(&one);
    }
    assert_eq!(all.to_string(), format!("{SERVER}:1-20:other_tag:1:tagx:1"));
}

#[test]
fn transactions_know_their_length_and_their_server() {
    for name in FILES.into_iter().filter(|name| name.starts_with("mysql")) {
        let placed = events(name);
        for (index, event) in placed.iter().enumerate() {
            let Event::Gtid(start) = &event.event else {
                continue;
            };
            // Its own bytes and those of all events up to the next start of one.
            let ends = |code| {
                matches!(
                    code,
                    event_type::GTID | event_type::GTID_TAGGED | event_type::ANONYMOUS_GTID | event_type::ROTATE
                )
            };
            let rest = placed[index + 1..].iter().take_while(|next| !ends(next.header.code));
            let bytes: u64 = rest.map(|next| u64::from(next.header.length)).sum();
            assert_eq!(start.length, Some(u64::from(event.header.length) + bytes), "{name}");
            let version = if name.starts_with("mysql-9.7") { 90_704 } else { 80_015 };
            assert_eq!(start.server_version, Some(version), "{name}");
            assert_eq!(start.original_server_version, Some(version), "{name}");
            assert_eq!(start.original_commit_micros, start.commit_micros, "{name}");
            let seconds = start.commit_micros.unwrap() / 1_000_000;
            assert!(seconds.abs_diff(u64::from(event.header.timestamp)) < 10, "{name}");
        }
    }
}

#[test]
fn a_transaction_without_a_gtid_has_none() {
    let starts = starts("mysql-8.0-anonymous");
    assert!(!starts.is_empty());
    assert!(
        starts
            .iter()
            .all(|start| start.gtid.is_none() && start.length.is_some())
    );
}

#[test]
fn xa_transactions_of_mysql_are_prepared_and_then_decided() {
    let mut steps = Vec::new();
    for event in opened("mysql-9.7-xa") {
        match event {
            Event::XaPrepare(prepare) => {
                let one_phase = if prepare.one_phase { " at once" } else { "" };
                steps.push(format!("prepare {}{one_phase}", prepare.id));
            }
            Event::Query(query) if query.text.starts_with(b"XA ") => {
                steps.push(String::from_utf8(query.text.to_vec()).unwrap());
            }
            _ => {}
        }
    }
    assert_eq!(
        steps,
        [
            "XA START X'6f6e65',X'6272616e6368',7",
            "XA END X'6f6e65',X'6272616e6368',7",
            "prepare X'6f6e65',X'6272616e6368',7",
            "XA COMMIT X'6f6e65',X'6272616e6368',7",
            "XA START X'74776f',X'',1",
            "XA END X'74776f',X'',1",
            "prepare X'74776f',X'',1",
            "XA ROLLBACK X'74776f',X'',1",
            "XA START X'7468726565',X'',1",
            "XA END X'7468726565',X'',1",
            "prepare X'7468726565',X'',1 at once",
        ]
    );
}

#[test]
fn xa_transactions_of_mariadb_are_named_where_they_begin() {
    for name in ["mariadb-10.11-xa", "mariadb-11.8-xa"] {
        let steps: Vec<String> = mariadb_starts(name)
            .into_iter()
            .filter_map(|start| {
                start.xa.map(|step| match step {
                    XaStep::Prepare(id) => format!("prepare {id}"),
                    XaStep::Complete(id) => format!("complete {id}"),
                })
            })
            .collect();
        assert_eq!(
            steps,
            [
                "prepare X'6f6e65',X'6272616e6368',7",
                "complete X'6f6e65',X'6272616e6368',7",
                "prepare X'74776f',X'',1",
                "complete X'74776f',X'',1",
            ],
            "{name}"
        );
    }
}

#[test]
fn an_alter_in_two_parts_names_its_start() {
    for name in ["mariadb-10.11-xa", "mariadb-11.8-xa"] {
        let starts = mariadb_starts(name);
        let altering: Vec<_> = starts
            .iter()
            .filter_map(|start| Some((start.gtid, start.alter?)))
            .collect();
        let [(first, AlterStep::Start), (second, AlterStep::Commit(of))] = altering[..] else {
            panic!("{name}: {altering:?}");
        };
        assert_eq!(of, first.sequence, "{name}");
        assert_eq!(second.sequence, first.sequence + 1, "{name}");
    }
}

#[test]
fn domains_are_counted_apart_and_the_next_file_begins_with_the_last_of_each() {
    for name in ["mariadb-10.11-xa", "mariadb-11.8-xa"] {
        let starts = mariadb_starts(name);
        let other = starts.iter().find(|start| start.gtid.domain == 5).unwrap();
        assert!(!other.standalone && other.transactional, "{name}");
        assert_eq!(other.gtid.sequence, 1);
        let ddl = starts.first().unwrap();
        assert!(ddl.standalone && ddl.ddl && ddl.xa.is_none(), "{name}");
        let after: MariadbPosition = starts.iter().map(|start| start.gtid).collect();
        let next = name.replace("-xa", "-statements");
        let list = opened(&next).into_iter().find_map(|event| match event {
            Event::MariadbGtidList(list) => Some(list),
            _ => None,
        });
        let listed: MariadbPosition = list.unwrap().into_iter().collect();
        assert_eq!(listed, after, "{name}");
    }
}

#[test]
fn rows_that_replicas_leave_out_are_marked() {
    let marked = |name| {
        let placed = events(name);
        placed
            .iter()
            .filter(|placed| placed.header.is_skipped_by_replicas())
            .count()
    };
    assert_eq!(
        marked("mariadb-11.8-xa"),
        5,
        "GTID, ANNOTATE_ROWS, TABLE_MAP, rows, XID"
    );
    assert_eq!(marked("mariadb-11.8-types"), 0);
}

#[test]
fn statements_come_with_what_they_ran_with() {
    for name in STATEMENTS {
        let events = opened(name);
        let variables: Vec<(&str, bool)> = events
            .iter()
            .filter_map(|event| match event {
                Event::UserVariable(variable) => Some((variable.name.as_str(), variable.is_null)),
                _ => None,
            })
            .collect();
        let first = [
            ("text", false),
            ("number", false),
            ("real", false),
            ("none", true),
            ("decimal", false),
        ];
        assert_eq!(variables[..5], first, "{name}");
        assert!(events.iter().any(|event| matches!(event, Event::Rand(_, _))), "{name}");
        assert!(
            events
                .iter()
                .any(|event| matches!(event, Event::Intvar { kind: 2, value: 1 })),
            "{name}"
        );
    }
}

#[test]
fn a_statement_has_its_database_and_its_character_set() {
    for name in STATEMENTS {
        let events = opened(name);
        let insert = events.iter().find_map(|event| match event {
            Event::Query(query) if query.text.starts_with(b"INSERT") => Some(query),
            _ => None,
        });
        let insert = insert.unwrap();
        assert_eq!(insert.database, "s", "{name}");
        let utf8mb4: &[u16] = match flavor(name) {
            Flavor::MySql { .. } => &[255],
            Flavor::MariaDb => &[45, 2304],
        };
        assert!(
            insert.client_charset.is_some_and(|charset| utf8mb4.contains(&charset)),
            "{name}"
        );
    }
}

#[test]
fn the_statement_of_rows_is_read_in_both_forms() {
    for (name, text) in [
        (
            "mysql-9.7-images",
            &b"INSERT INTO imaged VALUES (1, 10, 'b', 'full')"[..],
        ),
        ("mariadb-11.8-xa", b"INSERT INTO ledger VALUES (1,'kept')"),
    ] {
        let first = opened(name).into_iter().find_map(|event| match event {
            Event::RowsQuery(text) => Some(text),
            _ => None,
        });
        assert_eq!(first.unwrap()[..], *text, "{name}");
    }
}

#[test]
fn a_compressed_statement_of_mariadb_is_inflated() {
    for name in ["mariadb-10.11-compressed", "mariadb-11.8-compressed"] {
        let placed = events(name);
        let compressed = placed
            .iter()
            .find(|placed| placed.header.code == event_type::QUERY_COMPRESSED)
            .unwrap();
        let Event::Query(query) = &compressed.event else {
            panic!("{name}: a statement");
        };
        let text = "CREATE TABLE wide (id INT PRIMARY KEY, body TEXT, \
                    padding_to_make_this_statement_longer_than_the_limit INT)";
        assert_eq!(query.text[..], *text.as_bytes(), "{name}");
        assert_eq!(query.database, "s", "{name}");
    }
}

#[test]
fn a_list_of_gtids_ends_with_the_last_of_each_domain() {
    let gtid = |server, sequence| MariadbGtid {
        domain: 1,
        server,
        sequence,
    };
    let position: MariadbPosition = [gtid(7, 3), gtid(8, 9)].into_iter().collect();
    assert_eq!(position.to_string(), "1-8-9");
}
