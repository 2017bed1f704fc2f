// SPDX-License-Identifier: Apache-2.0
//! Golden bytes, as a Postgres 15 server sends them, and property tests of the pgoutput decoder.

use super::*;
use bytes::Bytes;
use highwater_core::image::{CellRef, RowImage};
use proptest::prelude::*;

const BEGIN: &[u8] = b"B\0\0\0\x16\xB3\x74\xD8\x48\0\x02\x9F\x00\x11\x22\x33\x44\0\0\x02\xF5";
const COMMIT: &[u8] = b"C\0\0\0\0\0\x01\x50\x00\x10\0\0\0\0\x01\x50\x00\x40\0\x02\x9F\0\0\0\0\x01";
const RELATION: &[u8] = b"R\0\0\x40\x01public\0movies\0d\0\x02\x01id\0\0\0\0\x17\xFF\xFF\xFF\xFF\
    \0title\0\0\0\x04\x13\0\0\0\x0E";
const INSERT: &[u8] = b"I\0\0\x40\x01N\0\x03b\0\0\0\x04\0\0\0\x07nb\0\0\0\x02hi";
const UPDATE_PLAIN: &[u8] = b"U\0\0\x40\x01N\0\x02b\0\0\0\x04\0\0\0\x07u";
const UPDATE_KEY: &[u8] = b"U\0\0\x40\x01K\0\x02b\0\0\0\x04\0\0\0\x07nN\0\x02b\0\0\0\x04\0\0\0\x08t\0\0\0\x01x";
const UPDATE_FULL: &[u8] = b"U\0\0\x40\x01O\0\x01b\0\0\0\x01aN\0\x01b\0\0\0\x01b";
const DELETE: &[u8] = b"D\0\0\x40\x01K\0\x01b\0\0\0\x04\0\0\0\x07";
const TRUNCATE: &[u8] = b"T\0\0\0\x02\x03\0\0\x40\x01\0\0\x40\x02";
const MESSAGE: &[u8] = b"M\x01\0\0\0\0\x01\x50\x00\x10highwater\0\0\0\0\x03abc";
const TYPE: &[u8] = b"Y\0\0\x40\x09public\0mood\0";
const ORIGIN: &[u8] = b"O\0\0\0\0\x01\x50\x00\x10upstream\0";

const ALL: [&[u8]; 12] = [
    BEGIN,
    COMMIT,
    RELATION,
    INSERT,
    UPDATE_PLAIN,
    UPDATE_KEY,
    UPDATE_FULL,
    DELETE,
    TRUNCATE,
    MESSAGE,
    TYPE,
    ORIGIN,
];

fn row(payload: &'static [u8], tuple: Tuple) -> RowImage {
    RowImage::new(Bytes::from_static(payload), tuple.cells)
}

#[test]
fn reads_the_ends_of_a_transaction() {
    let PgOutput::Begin(begin) = decode(BEGIN).unwrap() else {
        panic!("not a begin")
    };
    assert_eq!(
        begin,
        Begin {
            final_lsn: Lsn(0x16_B374_D848),
            commit_time_us: 0x0002_9F00_1122_3344,
            xid: 757
        }
    );
    let PgOutput::Commit(commit) = decode(COMMIT).unwrap() else {
        panic!("not a commit")
    };
    assert_eq!((commit.commit_lsn, commit.end_lsn), (Lsn(0x150_0010), Lsn(0x150_0040)));
}

#[test]
fn reads_a_relation_with_its_identity() {
    let PgOutput::Relation(relation) = decode(RELATION).unwrap() else {
        panic!("not a relation")
    };
    assert_eq!(
        (relation.schema.as_str(), relation.name.as_str(), relation.oid),
        ("public", "movies", 0x4001)
    );
    assert_eq!(relation.replica_identity, ReplicaIdentity::Default);
    let id = RelationColumn {
        identity: true,
        name: "id".into(),
        type_oid: 23,
        type_modifier: -1,
    };
    let title = RelationColumn {
        identity: false,
        name: "title".into(),
        type_oid: 1043,
        type_modifier: 14,
    };
    assert_eq!(relation.columns, [id, title]);
}

#[test]
fn null_unchanged_binary_and_text_are_told_apart() {
    let PgOutput::Insert { relation: 0x4001, new } = decode(INSERT).unwrap() else {
        panic!("not an insert")
    };
    let image = row(INSERT, new);
    let cells: Vec<_> = image.iter().collect();
    assert_eq!(
        cells,
        [CellRef::Value(&[0, 0, 0, 7]), CellRef::Null, CellRef::Value(b"hi")]
    );

    let PgOutput::Update { old: None, new, .. } = decode(UPDATE_PLAIN).unwrap() else {
        panic!("not an update")
    };
    assert_eq!(row(UPDATE_PLAIN, new).cell(1), CellRef::Unchanged);

    let PgOutput::Update {
        old: Some(old), new, ..
    } = decode(UPDATE_KEY).unwrap()
    else {
        panic!("not an update")
    };
    assert!(!old.whole);
    assert_eq!(row(UPDATE_KEY, old.tuple).cell(0), CellRef::Value(&[0, 0, 0, 7]));
    assert_eq!(new.text_columns, [1]);
    assert_eq!(row(UPDATE_KEY, new).cell(0), CellRef::Value(&[0, 0, 0, 8]));
}

#[test]
fn the_whole_old_row_is_told_from_the_old_key() {
    let PgOutput::Update { old: Some(old), .. } = decode(UPDATE_FULL).unwrap() else {
        panic!("not an update")
    };
    assert!(old.whole);
    let PgOutput::Delete { old, .. } = decode(DELETE).unwrap() else {
        panic!("not a delete")
    };
    assert!(!old.whole);
    assert_eq!(row(DELETE, old.tuple).cell(0), CellRef::Value(&[0, 0, 0, 7]));
}

#[test]
fn reads_truncates_types_origins_and_messages() {
    assert_eq!(
        decode(TRUNCATE).unwrap(),
        PgOutput::Truncate {
            cascade: true,
            restart_identity: true,
            relations: vec![0x4001, 0x4002]
        }
    );
    assert_eq!(
        decode(TYPE).unwrap(),
        PgOutput::Type {
            oid: 0x4009,
            schema: "public",
            name: "mood"
        }
    );
    assert_eq!(
        decode(ORIGIN).unwrap(),
        PgOutput::Origin {
            commit_lsn: Lsn(0x150_0010),
            name: "upstream"
        }
    );
    let PgOutput::Message(message) = decode(MESSAGE).unwrap() else {
        panic!("not a message")
    };
    assert!(message.transactional);
    assert_eq!((message.prefix, message.content), ("highwater", b"abc".as_slice()));
}

#[test]
fn every_message_cut_short_or_lengthened_is_malformed() {
    for golden in ALL {
        for length in 0..golden.len() {
            assert!(
                decode(&golden[..length]).is_err(),
                "{} cut at {length}",
                char::from(golden[0])
            );
        }
        let longer = [golden, &[0]].concat();
        assert!(decode(&longer).is_err(), "{} lengthened", char::from(golden[0]));
    }
}

#[test]
fn an_unknown_message_is_named_instead_of_skipped() {
    let error = decode(b"Z").unwrap_err();
    assert!(matches!(error, ProtocolError::Unsupported { tag: b'Z', .. }), "{error}");
    assert!(error.to_string().contains("unknown message"));
}

#[test]
fn a_false_count_does_not_allocate() {
    assert!(decode(b"I\0\0\x40\x01N\xFF\xFF").is_err());
    assert!(decode(b"T\x7F\xFF\xFF\xFF\0").is_err());
}

proptest! {
    #[test]
    fn never_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        crate::fuzzing::pgoutput(&bytes);
    }

    #[test]
    fn never_panics_on_damaged_messages(which in 0..ALL.len(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = ALL[which].to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        crate::fuzzing::pgoutput(&bytes);
    }

    #[test]
    fn cells_hold_exactly_what_was_encoded(
        columns in prop::collection::vec(
            prop_oneof![
                Just(None),
                prop::collection::vec(any::<u8>(), 0..20).prop_map(Some)
            ], 0..30),
    ) {
        let mut payload = b"I\0\0\0\x01N".to_vec();
        payload.extend_from_slice(&(columns.len() as u16).to_be_bytes());
        for column in &columns {
            match column {
                None => payload.push(b'n'),
                Some(value) => {
                    payload.push(b'b');
                    payload.extend_from_slice(&(value.len() as u32).to_be_bytes());
                    payload.extend_from_slice(value);
                }
            }
        }
        let PgOutput::Insert { new, .. } = decode(&payload)? else { panic!("not an insert") };
        let image = RowImage::new(Bytes::from(payload.clone()), new.cells);
        prop_assert_eq!(image, RowImage::from_values(&columns));
    }
}
