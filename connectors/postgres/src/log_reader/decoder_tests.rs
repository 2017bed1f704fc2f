// SPDX-License-Identifier: Apache-2.0
//! Scripted streams through the decoder: order, ordinals, splits, filters, images.

use super::*;
use crate::settings::Settings;
use crate::values::{ValueForms, resolve};
use crate::watermark::MARK_PREFIX;
use highwater_core::image::CellRef;
use highwater_core::position::{Lineage, MarkId};
use highwater_core::schema::{Column, TableId, TableName, TableSchema};
use std::sync::Arc;

pub(super) const MOVIES: u32 = 0x4001;

pub(super) fn selection(include: &[&str]) -> Arc<Selection> {
    let json = serde_json::json!({
        "host": "db", "user": "mover", "database": "catalogue", "tables": {"include": include}
    });
    Arc::new(Selection::new(Arc::new(Settings::from_json(json).unwrap())))
}

pub(super) fn decoder(selection: Arc<Selection>, start: ResumePoint<PgPosition>) -> Decoder {
    with_memory(selection, start, usize::MAX)
}

pub(super) fn with_memory(
    selection: Arc<Selection>,
    start: ResumePoint<PgPosition>,
    memory_bytes_max: usize,
) -> Decoder {
    Decoder::new(
        "hw".into(),
        RunId(7),
        selection,
        XidEpoch::new(1_000),
        start,
        memory_bytes_max,
    )
}

pub(super) fn at(lsn: u64) -> PgPosition {
    PgPosition(Lsn(lsn))
}

/// A stream of CopyData messages.
#[derive(Default, Clone)]
pub(super) struct Stream(Vec<u8>);

impl Stream {
    pub(super) fn frame(mut self, tag: u8, body: &[u8]) -> Self {
        self.0.push(tag);
        self.0.extend_from_slice(&(body.len() as i32 + 4).to_be_bytes());
        self.0.extend_from_slice(body);
        self
    }

    pub(super) fn log(self, lsn: u64, payload: &[u8]) -> Self {
        let mut body = b"w".to_vec();
        body.extend_from_slice(&lsn.to_be_bytes());
        body.extend_from_slice(&lsn.to_be_bytes());
        body.extend_from_slice(&[0; 8]);
        body.extend_from_slice(payload);
        self.frame(b'd', &body)
    }

    pub(super) fn keepalive(self, end: u64, reply: bool) -> Self {
        let mut body = b"k".to_vec();
        body.extend_from_slice(&end.to_be_bytes());
        body.extend_from_slice(&[0; 8]);
        body.push(u8::from(reply));
        self.frame(b'd', &body)
    }

    pub(super) fn begin(self, commit: u64, xid: u32) -> Self {
        let mut payload = b"B".to_vec();
        payload.extend_from_slice(&commit.to_be_bytes());
        payload.extend_from_slice(&5_i64.to_be_bytes());
        payload.extend_from_slice(&xid.to_be_bytes());
        self.log(commit, &payload)
    }

    pub(super) fn commit(self, commit: u64) -> Self {
        let mut payload = b"C\0".to_vec();
        payload.extend_from_slice(&commit.to_be_bytes());
        payload.extend_from_slice(&(commit + 8).to_be_bytes());
        payload.extend_from_slice(&5_i64.to_be_bytes());
        self.log(commit, &payload)
    }

    pub(super) fn relation(self) -> Self {
        let columns = b"\0\x02\x01id\0\0\0\0\x17\xFF\xFF\xFF\xFF\0title\0\0\0\0\x19\xFF\xFF\xFF\xFF";
        let payload = [b"R".as_slice(), &MOVIES.to_be_bytes(), b"public\0movies\0d", columns].concat();
        self.log(0, &payload)
    }

    pub(super) fn insert(self, lsn: u64, id: u32) -> Self {
        let payload = [
            b"I".as_slice(),
            &MOVIES.to_be_bytes(),
            b"N\0\x02",
            &number(id),
            b"b\0\0\0\x02hi",
        ]
        .concat();
        self.log(lsn, &payload)
    }

    pub(super) fn message(self, lsn: u64, content: &str) -> Self {
        let mut payload = b"M\x01".to_vec();
        payload.extend_from_slice(&lsn.to_be_bytes());
        payload.extend_from_slice(MARK_PREFIX.as_bytes());
        payload.push(0);
        payload.extend_from_slice(&(content.len() as u32).to_be_bytes());
        payload.extend_from_slice(content.as_bytes());
        self.log(lsn, &payload)
    }

    pub(super) fn append(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    pub(super) fn batch(self) -> FrameBatch {
        FrameBatch::over(self.0.into())
    }
}

pub(super) fn number(value: u32) -> Vec<u8> {
    [b"b\0\0\0\x04".as_slice(), &value.to_be_bytes()].concat()
}

pub(super) fn captured(relation: &Relation) -> CapturedRelation {
    let columns = relation.columns.iter().map(|column| {
        let of = crate::values::PgType::built_in(column.type_oid);
        let carried = resolve(&of, -1, &ValueForms::default()).unwrap();
        Column {
            name: column.name.clone(),
            database_type: String::new(),
            value_type: carried.value_type,
            nullable: true,
            decoder: carried.decoder,
        }
    });
    let name = TableName::new(relation.schema.clone(), relation.name.clone());
    let schema = TableSchema::new(TableId(u64::from(relation.oid)), name, columns.collect(), vec![0]);
    CapturedRelation::new(relation, Arc::new(schema), Box::default())
}

pub(super) fn step(
    decoder: &mut Decoder,
    batch: &mut FrameBatch,
    items: &mut Items,
    max: usize,
) -> Result<Step, DecodeFailure> {
    decoder.run(batch, items, max, |_| Error::bug("the server's error"))
}

/// Runs a stream to its end, answering for the catalogue and for the disk.
pub(super) fn run(decoder: &mut Decoder, stream: Stream) -> Result<Items, DecodeFailure> {
    run_with(decoder, stream, &mut Disk::default())
}

/// Files by transaction.
pub(super) type Disk = std::collections::HashMap<u32, Vec<u8>>;

pub(super) fn run_with(decoder: &mut Decoder, stream: Stream, disk: &mut Disk) -> Result<Items, DecodeFailure> {
    let (mut batch, mut items) = (stream.batch(), Vec::new());
    loop {
        let mut found = step(decoder, &mut batch, &mut items, usize::MAX)?;
        if found == Step::ReplayDue {
            found = replay(decoder, disk, &mut items)?;
        }
        for xid in decoder.take_dropped() {
            disk.remove(&xid);
        }
        match found {
            Step::RelationUnknown => adopt(decoder),
            Step::SpillDue => {
                let (xid, chunk) = decoder.take_spill().unwrap();
                disk.entry(xid).or_default().extend_from_slice(&chunk);
            }
            Step::ReplayDue => {}
            Step::Drained => return Ok(items),
            Step::Full => unreachable!("no limit was set"),
        }
    }
}

fn adopt(decoder: &mut Decoder) {
    let captured = captured(decoder.announced().unwrap());
    decoder.adopt(captured);
}

/// Replays what is on the disk and then what is not, as the reader does.
fn replay(decoder: &mut Decoder, disk: &mut Disk, items: &mut Items) -> Result<Step, DecodeFailure> {
    let file = disk.remove(&decoder.replaying().unwrap()).unwrap_or_default();
    for frames in [file, decoder.take_replay_tail()] {
        let mut batch = FrameBatch::over(frames.into());
        while decoder.replay(&mut batch, items, usize::MAX)? == Step::RelationUnknown {
            adopt(decoder);
        }
    }
    decoder.end_replay(items).map(|()| Step::ReplayDue)
}

/// What came, in a few letters each.
pub(super) fn outline(items: &Items) -> Vec<String> {
    let one = |item: &LogItem<PgPosition>| match item {
        LogItem::Begin { transaction, commit } => format!("begin {transaction} {commit}"),
        LogItem::Change(change) => format!("{:?} #{} at {}", change.op, change.ordinal, change.position),
        LogItem::Commit { position, .. } => format!("commit {position}"),
        LogItem::Schema(schema) => format!("schema {}", schema.name),
        LogItem::Watermark { mark, position } => format!("mark {} at {position}", mark.0),
        LogItem::Progress(position) => format!("progress {position}"),
    };
    items.iter().map(one).collect()
}

#[test]
fn a_transaction_comes_in_order_with_ordinals_and_times() {
    let mut decoder = decoder(selection(&["public.*"]), ResumePoint::at(at(1)));
    let stream = Stream::default()
        .begin(0x50, 999)
        .relation()
        .insert(0x20, 1)
        .insert(0x28, 2)
        .commit(0x50);
    let items = run(&mut decoder, stream).unwrap();
    assert_eq!(
        outline(&items),
        [
            "begin 999 0/50",
            "Create #1 at 0/20",
            "Create #2 at 0/28",
            "commit 0/58"
        ]
    );
    assert_eq!(decoder.delivered(), at(0x58));
    let LogItem::Change(change) = &items[1] else {
        panic!("not a change")
    };
    assert_eq!(change.source_time_us, 946_684_800_000_005);
    assert_eq!(change.after.as_ref().unwrap().cell(1), CellRef::Value(b"hi"));
    assert_eq!((change.commit, change.transaction), (at(0x50), TransactionId(999)));
}

#[test]
fn the_transaction_that_a_checkpoint_split_goes_on_behind_it() {
    let inside = |ordinal, change| ResumePoint {
        position: at(1),
        inside: Some(InsideTransaction {
            transaction: TransactionId(999),
            change: at(change),
            ordinal,
        }),
        lineage: Lineage::default(),
    };
    let stream = || {
        Stream::default()
            .begin(0x50, 999)
            .relation()
            .insert(0x20, 1)
            .insert(0x20, 2)
            .insert(0x28, 3)
            .commit(0x50)
    };
    let mut reader = decoder(selection(&["public.*"]), inside(2, 0x20));
    let items = run(&mut reader, stream()).unwrap();
    assert_eq!(outline(&items), ["begin 999 0/50", "Create #3 at 0/28", "commit 0/58"]);

    // Another position at the ordinal, fewer changes than were delivered, another transaction: history is not the same.
    let other = || {
        Stream::default()
            .begin(0x50, 998)
            .relation()
            .insert(0x20, 1)
            .commit(0x50)
    };
    for (start, stream) in [
        (inside(2, 0x28), stream()),
        (inside(9, 0x20), stream()),
        (inside(2, 0x20), other()),
    ] {
        let mut reader = decoder(selection(&["public.*"]), start);
        let Err(DecodeFailure::Core(error)) = run(&mut reader, stream) else {
            panic!("accepted")
        };
        assert_eq!(error.kind(), ErrorKind::PositionLost);
    }
}

#[test]
fn changes_are_counted_before_the_filter() {
    let mut decoder = decoder(selection(&["public.other"]), ResumePoint::at(at(1)));
    let stream = Stream::default()
        .begin(0x50, 999)
        .relation()
        .insert(0x20, 1)
        .commit(0x50);
    assert_eq!(
        outline(&run(&mut decoder, stream).unwrap()),
        ["begin 999 0/50", "commit 0/58"]
    );
}

#[test]
fn a_table_added_while_the_log_runs_is_captured_from_its_next_row_on() {
    let selection = selection(&["public.other"]);
    let mut decoder = decoder(selection.clone(), ResumePoint::at(at(1)));
    run(
        &mut decoder,
        Stream::default()
            .begin(0x50, 999)
            .relation()
            .insert(0x20, 1)
            .commit(0x50),
    )
    .unwrap();
    selection.add(&[TableName::new("public", "movies")]);
    let items = run(
        &mut decoder,
        Stream::default().begin(0x90, 1_000).insert(0x60, 2).commit(0x90),
    )
    .unwrap();
    assert_eq!(outline(&items), ["begin 1000 0/90", "Create #1 at 0/60", "commit 0/98"]);
}

#[test]
fn own_marks_come_and_foreign_ones_are_counted() {
    let mut decoder = decoder(selection(&["public.*"]), ResumePoint::at(at(1)));
    let (ours, theirs) = (format!("1 hw {} 3", RunId(7)), format!("1 hw {} 3", RunId(8)));
    let stream = Stream::default()
        .begin(0x50, 999)
        .message(0x20, &theirs)
        .message(0x28, &ours)
        .commit(0x50);
    let items = run(&mut decoder, stream).unwrap();
    assert_eq!(outline(&items), ["begin 999 0/50", "mark 3 at 0/28", "commit 0/58"]);
    assert!(matches!(items[1], LogItem::Watermark { mark: MarkId(3), .. }));
    assert_eq!(decoder.foreign_marks(), 1);
}

#[test]
fn progress_comes_between_transactions_only_and_is_folded() {
    let mut decoder = decoder(selection(&["public.*"]), ResumePoint::at(at(1)));
    let stream = Stream::default()
        .keepalive(0x10, false)
        .keepalive(0x18, true)
        .begin(0x50, 999)
        .keepalive(0x20, false)
        .commit(0x50);
    let items = run(&mut decoder, stream).unwrap();
    assert_eq!(outline(&items), ["progress 0/18", "begin 999 0/50", "commit 0/58"]);
    assert!(decoder.take_reply_requested());
    assert!(!decoder.take_reply_requested());
    let items = run(&mut decoder, Stream::default().keepalive(0x20, false)).unwrap();
    assert_eq!(outline(&items), ["progress 0/58"], "progress never goes back");
}

#[test]
fn a_full_list_stops_and_goes_on_without_loss() {
    let mut decoder = decoder(selection(&["public.*"]), ResumePoint::at(at(1)));
    let stream = Stream::default().begin(0x50, 999).insert_relation_once();
    let (mut batch, mut items) = (stream.commit(0x50).batch(), Vec::new());
    let mut steps = 0;
    loop {
        let length_max = items.len() + 1;
        match step(&mut decoder, &mut batch, &mut items, length_max).unwrap() {
            Step::Drained => break,
            Step::Full => steps += 1,
            Step::RelationUnknown => adopt(&mut decoder),
            Step::SpillDue | Step::ReplayDue => unreachable!("nothing is held"),
        }
    }
    assert!(steps >= 2);
    assert_eq!(
        outline(&items),
        [
            "begin 999 0/50",
            "Create #1 at 0/20",
            "Create #2 at 0/28",
            "commit 0/58"
        ]
    );
}

impl Stream {
    fn insert_relation_once(self) -> Self {
        self.relation().insert(0x20, 1).insert(0x28, 2)
    }
}

#[test]
fn an_old_key_leaves_the_other_columns_absent_and_a_whole_row_completes_the_new_one() {
    let oid = MOVIES.to_be_bytes();
    let key = [
        b"U".as_slice(),
        &oid,
        b"K\0\x02",
        &number(1),
        b"nN\0\x02",
        &number(2),
        b"u",
    ]
    .concat();
    let full = [
        b"U".as_slice(),
        &oid,
        b"O\0\x02",
        &number(1),
        b"b\0\0\0\x03lonN\0\x02",
        &number(1),
        b"u",
    ]
    .concat();
    let delete = [b"D".as_slice(), &oid, b"K\0\x02", &number(1), b"n"].concat();
    let mut decoder = decoder(selection(&["public.*"]), ResumePoint::at(at(1)));
    let stream = Stream::default()
        .begin(0x50, 999)
        .relation()
        .log(0x20, &key)
        .log(0x28, &full)
        .log(0x30, &delete)
        .commit(0x50);
    let items = run(&mut decoder, stream).unwrap();
    let change = |index: usize| {
        let LogItem::Change(change) = &items[index] else {
            panic!("not a change")
        };
        change
    };
    let moved = change(1);
    assert_eq!(moved.before.as_ref().unwrap().cell(1), CellRef::Absent);
    assert!(moved.old_key().is_some() && moved.is_partial());
    let completed = change(2);
    assert_eq!(completed.after.as_ref().unwrap().cell(1), CellRef::Value(b"lon"));
    assert!(completed.old_key().is_none() && !completed.is_partial());
    let gone = change(3);
    assert_eq!(gone.before.as_ref().unwrap().cell(1), CellRef::Absent);
    assert!(gone.key().is_some() && gone.after.is_none());
}

#[test]
fn a_truncation_is_one_change_a_table() {
    let payload = [b"T\0\0\0\x01\0".as_slice(), &MOVIES.to_be_bytes()].concat();
    let mut decoder = decoder(selection(&["public.*"]), ResumePoint::at(at(1)));
    let stream = Stream::default()
        .begin(0x50, 999)
        .relation()
        .log(0x20, &payload)
        .commit(0x50);
    assert_eq!(outline(&run(&mut decoder, stream).unwrap())[1], "Truncate #1 at 0/20");
}

#[test]
fn what_has_no_place_in_a_stream_is_an_error() {
    let fails = |stream: Stream| run(&mut decoder(selection(&["public.*"]), ResumePoint::at(at(1))), stream).is_err();
    assert!(fails(Stream::default().insert(0x20, 1)), "a row outside a transaction");
    assert!(
        fails(Stream::default().begin(0x50, 999).insert(0x20, 1)),
        "a row of an unknown relation"
    );
    assert!(
        fails(Stream::default().begin(0x50, 999).begin(0x58, 1_000)),
        "a transaction inside another"
    );
    assert!(fails(Stream::default().commit(0x50)), "a commit without a beginning");
    assert!(
        fails(Stream::default().frame(b'E', b"SERROR\0\0")),
        "the server's error"
    );
    assert!(fails(Stream::default().frame(b'c', b"")), "the end of the stream");
    assert!(fails(Stream::default().frame(b'T', b"")), "a stranger");
    let text = [
        b"I".as_slice(),
        &MOVIES.to_be_bytes(),
        b"N\0\x02",
        &number(1),
        b"t\0\0\0\x02hi",
    ]
    .concat();
    assert!(
        fails(Stream::default().begin(0x50, 999).relation().log(0x20, &text)),
        "a value as text"
    );
    let short = [b"I".as_slice(), &MOVIES.to_be_bytes(), b"N\0\x01", &number(1)].concat();
    assert!(
        fails(Stream::default().begin(0x50, 999).relation().log(0x20, &short)),
        "too few columns"
    );
}
