// SPDX-License-Identifier: Apache-2.0
//! Which checkpoints a server goes on from.

use super::*;
use proptest::prelude::*;

fn known(timeline: u32, begin: u64) -> PgLineage {
    PgLineage {
        system: 7,
        timeline,
        begin: Lsn(begin),
        birth: Vec::new(),
        process_start_us: 1,
        partitions_unseen_since: 0,
    }
}

/// A server on timeline 3, which left 2 at 200 and 1 at 100, and whose log ends at 300.
fn third() -> History {
    History {
        system: 7,
        timeline: 3,
        ancestors: History::ancestors("1\t0/64\tno recovery target specified\n\n# x\n2\t0/C8\tno recovery target\n")
            .unwrap(),
        end: Lsn(300),
        in_recovery: false,
        process_start_us: 2,
    }
}

fn refused(known: &PgLineage, history: &History, position: u64) -> String {
    let error = judge(Some(known), history, Lsn(position)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PositionLost);
    assert!(error.fix().is_some());
    error.to_string()
}

#[test]
fn a_chain_of_promotions_goes_on_up_to_where_each_timeline_was_left() {
    let history = third();
    for (timeline, begin, last) in [(1, 0, 100), (2, 100, 200), (3, 200, 300)] {
        assert!(!judge(Some(&known(timeline, begin)), &history, Lsn(last)).unwrap());
        let text = refused(&known(timeline, begin), &history, last + 1);
        let word = if timeline == 3 { "ends before" } else { "is not in it" };
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn another_cluster_another_branch_and_an_older_server_are_told_by_name() {
    let history = third();
    let other = PgLineage {
        system: 8,
        ..known(1, 0)
    };
    assert!(refused(&other, &history, 50).contains("cluster 8"));
    assert!(refused(&known(2, 90), &history, 150).contains("two standbys were promoted"));
    assert!(refused(&known(4, 250), &history, 260).contains("never was"));
}

#[test]
fn the_same_process_is_the_same_history_whatever_its_timeline_is_now() {
    let mut history = third();
    history.process_start_us = 1;
    assert!(!judge(Some(&known(2, 100)), &history, Lsn(250)).unwrap());
    // But not a process of another cluster, nor one that has lost its log.
    history.end = Lsn(240);
    assert!(refused(&known(2, 100), &history, 250).contains("ends before"));
}

#[test]
fn a_standby_may_have_to_catch_up() {
    let mut history = third();
    history.in_recovery = true;
    assert!(!judge(Some(&known(3, 200)), &history, Lsn(400)).unwrap());
    assert!(refused(&known(2, 100), &history, 250).contains("is not in it"));
}

#[test]
fn a_birth_that_is_known_is_to_be_compared() {
    let born = PgLineage {
        birth: vec![1; 24],
        ..known(3, 200)
    };
    assert!(judge(Some(&born), &third(), Lsn(250)).unwrap());
    assert!(other_birth(&born, Lsn(250)).to_string().contains("at the same place"));
}

#[test]
fn a_checkpoint_without_lineage_is_held_against_the_end_of_the_log_alone() {
    assert!(judge(None, &third(), Lsn(300)).is_ok());
    assert!(judge(None, &third(), Lsn(301)).is_err());
}

#[test]
fn a_timeline_is_known_by_its_first_records_header_wherever_the_page_ends() {
    for (begin, bytes) in [
        (8_192, 64),
        (8_193, 24),
        (16_384 - 24, 24),
        (16_384 - 23, 64),
        (16_384 - 8, 64),
    ] {
        assert_eq!(PgLineage::birth_bytes(Lsn(begin)), bytes, "{begin}");
    }
}

proptest! {
    #[test]
    fn a_lineage_reads_back(system: u64, timeline: u32, begin: u64, start: i64, unseen: u64, birth in prop::collection::vec(any::<u8>(), 0..=64)) {
        let lineage = PgLineage { system, timeline, begin: Lsn(begin), birth, process_start_us: start, partitions_unseen_since: unseen };
        prop_assert_eq!(PgLineage::decode(&lineage.encode()).unwrap(), Some(lineage));
    }

    #[test]
    fn foreign_bytes_are_no_lineage_and_no_panic(bytes: Vec<u8>, text: String) {
        let empty = bytes.is_empty();
        if let Ok(read) = PgLineage::decode(&Lineage(bytes.into())) {
            prop_assert_eq!(read.is_none(), empty);
        }
        let _ = History::ancestors(&text);
    }
}
