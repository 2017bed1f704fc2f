// SPDX-License-Identifier: Apache-2.0
use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::gtid::{Gtid, GtidSet, Interval, NUMBER_MAX, SourceUuid, Tag, TransactionSource};

const ONE: &str = "711266a4-e8fb-11f1-98d5-02fc00000001";
const TWO: &str = "711266a4-e8fb-11f1-98d5-02fc00000002";

fn set(text: &str) -> GtidSet {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// What each transaction of the model is: one of four sources, and a number.
type Model = BTreeSet<(usize, u64)>;

fn source(place: usize) -> TransactionSource {
    let (uuid, tag) = [(ONE, ""), (ONE, "tag"), (TWO, ""), (TWO, "other_tag")][place];
    TransactionSource {
        uuid: SourceUuid::parse(uuid).unwrap(),
        tag: Tag::parse(tag).unwrap(),
    }
}

fn ranges() -> impl Strategy<Value = Vec<(usize, u64, u64)>> {
    prop::collection::vec((0usize..4, 1u64..40, 0u64..8), 0..14)
}

fn model(ranges: &[(usize, u64, u64)]) -> Model {
    let numbers = |&(source, first, more): &(usize, u64, u64)| (first..=first + more).map(move |n| (source, n));
    ranges.iter().flat_map(numbers).collect()
}

fn made(ranges: &[(usize, u64, u64)]) -> GtidSet {
    let mut set = GtidSet::default();
    for &(place, first, more) in ranges {
        set.insert(&source(place), Interval::new(first, first + more).unwrap());
    }
    set
}

/// The transactions of a set, one by one; fails when its intervals are not ascending and apart.
fn members(set: &GtidSet) -> Model {
    let mut members = Model::new();
    for (found, intervals) in set.iter() {
        let place = (0..4).find(|&place| source(place) == *found).unwrap();
        let mut before = 0;
        assert!(!intervals.is_empty());
        for interval in intervals.iter() {
            assert!(before == 0 || interval.first() > before + 1, "{set}");
            before = interval.last();
            members.extend((interval.first()..=interval.last()).map(|number| (place, number)));
        }
    }
    members
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_algebra_is_that_of_sets(left in ranges(), right in ranges()) {
        let (left_model, right_model) = (model(&left), model(&right));
        let (left, right) = (made(&left), made(&right));
        prop_assert_eq!(members(&left), left_model.clone());
        prop_assert_eq!(left.count(), left_model.len() as u128);
        prop_assert_eq!(left.is_empty(), left_model.is_empty());

        let difference = left.subtract(&right);
        prop_assert_eq!(members(&difference), &left_model - &right_model);
        prop_assert_eq!(left.is_subset_of(&right), left_model.is_subset(&right_model));
        prop_assert!(difference.is_subset_of(&left));

        let mut union = left.clone();
        union.union(&right);
        prop_assert_eq!(members(&union), &left_model | &right_model);
        prop_assert!(left.is_subset_of(&union) && right.is_subset_of(&union));
        for place in 0..4 {
            for number in 1..50 {
                let gtid = Gtid { source: source(place), number };
                prop_assert_eq!(left.contains(&gtid), left_model.contains(&(place, number)));
            }
        }
    }

    #[test]
    fn text_and_bytes_are_read_back(ranges in ranges()) {
        let made = made(&ranges);
        prop_assert_eq!(&set(&made.to_string()), &made);
        prop_assert_eq!(&GtidSet::decode(&made.encode()).unwrap(), &made);
    }

    #[test]
    fn bytes_that_are_cut_are_refused(ranges in ranges(), cut in any::<prop::sample::Index>()) {
        let bytes = made(&ranges).encode();
        let cut = cut.index(bytes.len());
        prop_assert!(GtidSet::decode(&bytes[..cut]).is_err());
        prop_assert!(GtidSet::decode(&[&bytes[..], b"x"].concat()).is_err());
    }

    #[test]
    fn no_bytes_and_no_text_panic(bytes in prop::collection::vec(any::<u8>(), 0..90), text in "[0-9a-f:, -]{0,60}") {
        let _ = GtidSet::decode(&bytes);
        let _ = GtidSet::decode(&[&[1, 1, 0, 0, 0, 0, 0, 1], &bytes[..]].concat());
        let _ = text.parse::<GtidSet>();
        let _ = format!("{ONE}:{text}").parse::<GtidSet>();
    }
}

#[test]
fn the_notation_is_that_of_the_server() {
    let text = format!(" {ONE}:1-5:7 : Tag : 1-3:tag2:4,\n{TWO}:2 ");
    assert_eq!(set(&text).to_string(), format!("{ONE}:1-5:7:tag:1-3:tag2:4,{TWO}:2"));
    assert_eq!(set("").to_string(), "");
    assert_eq!(set(&format!("{ONE}:1-3:2-9:10")).to_string(), format!("{ONE}:1-10"));
    let last = format!("{ONE}:{NUMBER_MAX}");
    assert_eq!(set(&last).to_string(), last);
    let gtid: Gtid = format!("{TWO}:tag:9").parse().unwrap();
    assert_eq!(gtid.to_string(), format!("{TWO}:tag:9"));
    assert!(format!("{TWO}:9-10").parse::<Gtid>().is_err());
}

#[test]
fn what_is_no_set_is_refused_with_its_place() {
    for (wrong, offset) in [
        ("x".to_owned(), 0),
        (ONE.to_owned(), 0),
        (format!("{ONE}:"), 37),
        (format!("{ONE}:1,"), 39),
        (format!("{ONE}:0"), 37),
        (format!("{ONE}:5-4"), 37),
        (format!("{ONE}:1-2-3"), 37),
        (format!("{ONE}:1-"), 39),
        (format!("{ONE}:tag"), 37),
        (format!("{ONE}:tag:other:1"), 41),
        (format!("{ONE}:1:ta g:1"), 39),
        (format!("{ONE}:{}", u64::MAX), 37),
    ] {
        let error = wrong.parse::<GtidSet>().expect_err(&wrong);
        assert_eq!(error.offset, offset, "{wrong}: {error}");
    }
}

#[test]
fn the_bytes_are_those_of_the_server() {
    let plain = set(&format!("{ONE}:1-5")).encode();
    assert_eq!(plain.len(), 48);
    assert_eq!(plain[..8], [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(plain[40..], [6, 0, 0, 0, 0, 0, 0, 0]);
    let tagged = set(&format!("{ONE}:1:tagx:1")).encode();
    assert_eq!(tagged[..8], [1, 2, 0, 0, 0, 0, 0, 1]);
    assert_eq!(tagged[24], 0);
    assert_eq!(tagged[49 + 16..][..5], *b"\x08tagx");
    let mut future = plain;
    future[7] = 2;
    assert_eq!(GtidSet::decode(&future).unwrap_err().what, "a form that is not known");
}
