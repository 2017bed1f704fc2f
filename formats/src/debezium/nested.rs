// SPDX-License-Identifier: Apache-2.0
//! Values that hold others: their shape, compiled, and where a writer is in one.

use std::sync::Arc;

use super::slot::Slot;

/// What a value that holds others is made of.
#[derive(Debug)]
pub(crate) enum Nested {
    /// Any number of values.
    List(Slot),
    /// One value in each slot.
    Record(Box<[Slot]>),
    /// Any number of pairs.
    Entries {
        /// The first of each.
        key: Slot,
        /// The second of each.
        value: Slot,
    },
}

impl Nested {
    /// How many values a value that is begun with `length` holds; `None` where it cannot be so long.
    fn values(&self, length: usize) -> Option<usize> {
        match self {
            Nested::List(_) => Some(length),
            Nested::Record(slots) => (slots.len() == length).then_some(length),
            Nested::Entries { .. } => length.checked_mul(2),
        }
    }

    /// The slot of the value at a place.
    fn slot(&self, place: usize) -> Option<&Slot> {
        match self {
            Nested::List(slot) => Some(slot),
            Nested::Record(slots) => slots.get(place),
            Nested::Entries { key, .. } if place.is_multiple_of(2) => Some(key),
            Nested::Entries { value, .. } => Some(value),
        }
    }
}

/// The values that are begun and not ended, the outermost first.
#[derive(Debug, Default)]
pub(crate) struct Nest {
    levels: Vec<Level>,
    /// The shape of the slot that is open, where it holds values.
    open: Option<Arc<Nested>>,
}

#[derive(Debug)]
struct Level {
    shape: Arc<Nested>,
    place: usize,
    values: usize,
}

impl Nest {
    /// A slot is open whose value holds others.
    pub(crate) fn open(&mut self, slot: &Slot) {
        self.open.clone_from(&slot.nested);
    }

    /// Whether nothing is begun.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// Begins the open slot's value; `None` where it holds no others, or not this many.
    pub(crate) fn begin(&mut self, length: usize) -> Option<&Nested> {
        let shape = self.open.take()?;
        let values = shape.values(length)?;
        let level = Level {
            shape,
            place: 0,
            values,
        };
        self.levels.push(level);
        self.levels.last().map(|level| &*level.shape)
    }

    /// The shape, place and slot of the next value; `None` where there is none left.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<(&Nested, usize, &Slot)> {
        let level = self.levels.last_mut()?;
        if level.place == level.values {
            return None;
        }
        let place = level.place;
        level.place += 1;
        let slot = level.shape.slot(place)?;
        if slot.nested.is_some() {
            self.open.clone_from(&slot.nested);
        }
        Some((&level.shape, place, slot))
    }

    /// Ends what began last: its shape, and how many values it held; `None` where nothing began, or values are missing.
    pub(crate) fn end(&mut self) -> Option<(Arc<Nested>, usize)> {
        let level = self.levels.pop()?;
        (level.place == level.values).then_some((level.shape, level.values))
    }
}
