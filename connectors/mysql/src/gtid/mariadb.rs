// SPDX-License-Identifier: Apache-2.0
//! MariaDB's GTIDs, `domain-server-sequence`, and positions, `0-1-5,2-3-7`: the last transaction of each domain.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::GtidError;
use super::walk::Part;

/// The name of one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MariadbGtid {
    /// The domain: transactions of one are in order, those of two are not.
    pub domain: u32,
    /// The server that wrote it first.
    pub server: u32,
    /// Its number in the domain.
    pub sequence: u64,
}

impl MariadbGtid {
    fn read(part: Part<'_>) -> Result<Self, GtidError> {
        let mut numbers = part.split('-');
        let mut next = || numbers.next().unwrap_or_else(|| Part::whole(""));
        let gtid = Self {
            domain: next().number("no domain").map_err(|error| part.malformed(error.what))?,
            server: next().number("no server").map_err(|error| part.malformed(error.what))?,
            sequence: next()
                .number("no sequence")
                .map_err(|error| part.malformed(error.what))?,
        };
        match numbers.next() {
            None => Ok(gtid),
            Some(more) => Err(more.malformed("more than domain, server and sequence")),
        }
    }
}

impl FromStr for MariadbGtid {
    type Err = GtidError;

    fn from_str(text: &str) -> Result<Self, GtidError> {
        Self::read(Part::whole(text))
    }
}

impl fmt::Display for MariadbGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.sequence)
    }
}

/// The last transaction of each domain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MariadbPosition(BTreeMap<u32, MariadbGtid>);

impl MariadbPosition {
    /// Whether no domain has a transaction.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The last transaction of each domain, in the order of domains.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = MariadbGtid> + '_ {
        self.0.values().copied()
    }

    /// The last transaction of `domain`.
    pub fn last_of(&self, domain: u32) -> Option<MariadbGtid> {
        self.0.get(&domain).copied()
    }

    /// Takes the next transaction of a log, which is the last one of its domain from now on.
    pub fn advance(&mut self, gtid: MariadbGtid) {
        self.0.insert(gtid.domain, gtid);
    }

    /// Whether the transaction is at or before the position: the numbers of a domain ascend (`gtid_strict_mode`).
    pub fn covers(&self, gtid: MariadbGtid) -> bool {
        self.last_of(gtid.domain)
            .is_some_and(|last| gtid.sequence <= last.sequence)
    }

    /// Whether every transaction that `other` covers is covered here.
    pub fn covers_all(&self, other: &Self) -> bool {
        other.iter().all(|gtid| self.covers(gtid))
    }
}

impl FromIterator<MariadbGtid> for MariadbPosition {
    /// The position behind transactions that a log has in this order. A GTID_LIST is such: it has the last transaction of
    /// each server of a domain, and of these the domain's last one at the end.
    fn from_iter<I: IntoIterator<Item = MariadbGtid>>(gtids: I) -> Self {
        let mut position = Self::default();
        for gtid in gtids {
            position.advance(gtid);
        }
        position
    }
}

impl FromStr for MariadbPosition {
    type Err = GtidError;

    fn from_str(text: &str) -> Result<Self, GtidError> {
        let mut position = Self::default();
        let whole = Part::whole(text);
        if whole.text.is_empty() {
            return Ok(position);
        }
        for part in whole.split(',') {
            let gtid = MariadbGtid::read(part)?;
            if position.last_of(gtid.domain).is_some() {
                return Err(part.malformed("a domain that was named before"));
            }
            position.advance(gtid);
        }
        Ok(position)
    }
}

impl fmt::Display for MariadbPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, gtid) in self.iter().enumerate() {
            let separator = if place == 0 { "" } else { "," };
            write!(f, "{separator}{gtid}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn position(text: &str) -> MariadbPosition {
        text.parse().unwrap()
    }

    #[test]
    fn a_position_is_the_last_transaction_of_each_domain() {
        let mut at = position("2-3-7, 0-1-5");
        assert_eq!(at.to_string(), "0-1-5,2-3-7");
        assert!(at.covers("0-9-5".parse().unwrap()) && !at.covers("0-1-6".parse().unwrap()));
        assert!(!at.covers("1-1-1".parse().unwrap()), "a domain that is not in it");
        let before = at.clone();
        at.advance("0-4-6".parse().unwrap());
        assert_eq!(at.to_string(), "0-4-6,2-3-7");
        assert!(at.covers_all(&before) && !before.covers_all(&at));
        assert!(before.covers_all(&position("")) && !position("").covers_all(&before));
    }

    #[test]
    fn what_is_no_position_is_refused_with_its_place() {
        for (wrong, offset) in [
            ("0-1", 0),
            ("0-1-5,", 6),
            ("0-1-5-6", 6),
            ("0-1-5,0-2-6", 6),
            ("0-1-5, 4294967296-1-1", 7),
            ("0-1--5", 0),
            ("0-+1-5", 0),
        ] {
            let error = wrong.parse::<MariadbPosition>().expect_err(wrong);
            assert_eq!(error.offset, offset, "{wrong}: {error}");
        }
    }

    proptest! {
        #[test]
        fn text_is_read_back(gtids in prop::collection::vec((0u32..4, any::<u32>(), any::<u64>()), 0..9)) {
            let made: MariadbPosition = gtids
                .iter()
                .map(|&(domain, server, sequence)| MariadbGtid { domain, server, sequence })
                .collect();
            prop_assert_eq!(position(&made.to_string()), made);
        }

        #[test]
        fn no_text_panics(text in "[0-9, -]{0,30}") {
            let _ = text.parse::<MariadbPosition>();
        }
    }
}
