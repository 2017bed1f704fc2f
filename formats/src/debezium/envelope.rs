// SPDX-License-Identifier: Apache-2.0
//! Writes one envelope by a plan.

use highwater_core::change::{Capture, Change, Op};
use highwater_core::image::RowImage;
use highwater_core::source_block::SourceBlock;
use highwater_core::value::ValueWriter;

use super::plan::{Fail, Plan, op_index};
use super::repeated::{Repeated, SourceParts};
use super::slot::{Notation, SlotRow, SlotWriter};
use super::stored_key::StoredKey;

/// The rows that an envelope shows.
#[derive(Clone, Copy, Default)]
pub(crate) struct Images<'a> {
    pub(crate) before: Option<&'a RowImage>,
    pub(crate) after: Option<&'a RowImage>,
    /// Where columns come from that `after` leaves out.
    pub(crate) fill: Option<&'a RowImage>,
    /// The key of the row before, where nothing else is known of it.
    pub(crate) stored: Option<&'a StoredKey<'a>>,
}

/// A change on its way into a record.
pub(crate) struct Envelope<'a, P> {
    pub(crate) plan: &'a Plan,
    /// Which plan it is among the encoder's.
    pub(crate) plan_at: usize,
    pub(crate) source: &'a dyn SourceBlock<P>,
    pub(crate) change: &'a Change<P>,
    /// When it is written, microseconds since 1970.
    pub(crate) now_us: i64,
}

impl<P> Envelope<'_, P> {
    /// Appends the record's value. The answer is always that there is a value.
    pub(crate) fn write<N: Notation>(
        &self,
        op: Op,
        images: Images<'_>,
        repeated: &mut Repeated,
        out: &mut Vec<u8>,
    ) -> Result<bool, Fail> {
        let (plan, parts) = (self.plan, &self.plan.envelope);
        let mut writer = N::Writer::new(out);
        writer.raw(&parts.open);
        match (images.before, images.stored) {
            (Some(before), _) => plan.row.write_before(before, &mut writer)?,
            (None, Some(key)) => plan.row.write_stored::<N, _>(key, &mut writer),
            (None, None) => writer.raw(&parts.no_image),
        }
        writer.raw(&parts.between);
        match images.after {
            Some(after) => plan.row.write_after(after, images.fill, &mut writer)?,
            None => writer.raw(&parts.no_image),
        }
        drop(writer);
        self.source_block::<N>(repeated, out)?;
        if let Some(op) = parts.ops.get(op_index(op)) {
            out.extend_from_slice(op);
        }
        if repeated.present.begin(self.plan_at, self.now_us) {
            let mut writer = N::Writer::new(&mut repeated.present.bytes);
            let (ms, us, ns) = times(self.now_us);
            for (slot, time) in [(&parts.ts_ms, ms), (&parts.ts_us, us), (&parts.ts_ns, ns)] {
                writer.open(slot);
                writer.long(time);
            }
            writer.raw(&parts.close);
        }
        out.extend_from_slice(&repeated.present.bytes);
        Ok(true)
    }

    /// Appends the record's value for a message. The answer is always that there is a value.
    pub(crate) fn write_message<N: Notation>(
        &self,
        message: &RowImage,
        repeated: &mut Repeated,
        out: &mut Vec<u8>,
    ) -> Result<bool, Fail> {
        let parts = &self.plan.envelope;
        let mut writer = N::Writer::new(out);
        writer.raw(&parts.open);
        writer.open(&parts.ts_ms);
        writer.long(times(self.now_us).0);
        drop(writer);
        self.source_block::<N>(repeated, out)?;
        let mut writer = N::Writer::new(out);
        writer.raw(&parts.between);
        self.plan.row.write_after(message, None, &mut writer)?;
        writer.raw(&parts.close);
        Ok(true)
    }

    fn source_block<N: Notation>(&self, repeated: &mut Repeated, out: &mut Vec<u8>) -> Result<(), Fail> {
        let parts = &self.plan.envelope;
        self.source_parts::<N>(&mut repeated.source);
        out.extend_from_slice(&repeated.source.head);
        let sequence = &mut repeated.sequence;
        sequence.clear();
        let mut writer = N::Writer::new(out);
        writer.open(&parts.sequence);
        if self.source.sequence(self.change, sequence) {
            writer.string(sequence);
        } else {
            writer.null();
        }
        drop(writer);
        out.extend_from_slice(&repeated.source.times);
        let mut row = SlotRow::new(N::Writer::new(out), &parts.source_fields);
        self.source.write(self.change, &mut row);
        if row.finish() { Ok(()) } else { Err(Fail::Source) }
    }

    fn source_parts<N: Notation>(&self, source: &mut SourceParts) {
        let parts = &self.plan.envelope;
        let database = self.source.database(self.change);
        let from_log = self.change.capture == Capture::Log;
        if !source.begin(self.plan_at, self.change.source_time_us, from_log, database) {
            return;
        }
        let (ms, us, ns) = times(self.change.source_time_us);
        let mut writer = N::Writer::new(&mut source.head);
        writer.raw(&parts.source);
        writer.open(&parts.source_ts_ms);
        writer.long(ms);
        writer.raw(if from_log {
            &parts.snapshot_log
        } else {
            &parts.snapshot_read
        });
        writer.open(&parts.db);
        writer.string(database);
        drop(writer);
        let mut writer = N::Writer::new(&mut source.times);
        for (slot, time) in [(&parts.source_ts_us, us), (&parts.source_ts_ns, ns)] {
            writer.open(slot);
            writer.long(time);
        }
    }
}

/// Milliseconds, microseconds and nanoseconds of a time in microseconds.
fn times(us: i64) -> (i64, i64, i64) {
    (us.div_euclid(1_000), us, us.saturating_mul(1_000))
}
