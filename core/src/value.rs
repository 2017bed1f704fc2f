// SPDX-License-Identifier: Apache-2.0
//! What a column's bytes mean, and how they are read: a [`ColumnDecoder`] from the connector writes into a
//! [`ValueWriter`] from a format. No value tree lies between them.

use std::sync::Arc;

use crate::image::CELL_BYTES_MAX;

/// Resolution of a time of day or a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeUnit {
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

/// The meaning of a column's decoded value. Which [`ValueWriter`] method its decoder calls stands beside each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ValueType {
    /// [`ValueWriter::boolean`].
    Boolean,
    /// [`ValueWriter::int`], 16-bit range.
    Int16,
    /// [`ValueWriter::int`].
    Int32,
    /// [`ValueWriter::long`].
    Int64,
    /// [`ValueWriter::float`].
    Float32,
    /// [`ValueWriter::double`].
    Float64,
    /// [`ValueWriter::string`].
    String,
    /// [`ValueWriter::bytes`].
    Bytes,
    /// [`ValueWriter::decimal`] with this very scale.
    Decimal {
        /// Total digits.
        precision: u32,
        /// Digits after the point.
        scale: u32,
    },
    /// [`ValueWriter::variable_scale_decimal`].
    VariableScaleDecimal,
    /// Days since 1970-01-01: [`ValueWriter::int`].
    Date,
    /// Time of day since midnight: [`ValueWriter::int`] for milliseconds, else [`ValueWriter::long`].
    Time(TimeUnit),
    /// Since 1970-01-01 00:00 without a zone: [`ValueWriter::long`].
    Timestamp(TimeUnit),
    /// Time of day with offset, ISO 8601 in GMT (`10:15:30Z`): [`ValueWriter::string`].
    ZonedTime,
    /// A moment, ISO 8601 in GMT (`2026-01-02T03:04:05.123456Z`): [`ValueWriter::string`].
    ZonedTimestamp,
    /// A duration in microseconds (months as 30.4375 days): [`ValueWriter::long`].
    MicroDuration,
    /// Canonical text of a UUID: [`ValueWriter::string`].
    Uuid,
    /// JSON text: [`ValueWriter::string`].
    Json,
    /// XML text: [`ValueWriter::string`].
    Xml,
    /// A label out of `allowed`: [`ValueWriter::string`].
    Enum {
        /// The labels in sort order.
        allowed: Arc<[String]>,
    },
    /// A bit string, least significant byte first: [`ValueWriter::bytes`].
    Bits {
        /// Number of bits; `None` when it varies.
        length: Option<u32>,
    },
    /// Lexemes with their places, as the database writes them: [`ValueWriter::string`].
    Tsvector,
    /// A path of labels, dots between them: [`ValueWriter::string`].
    Ltree,
    /// Values of one type, any of which may be NULL: [`ValueWriter::begin`] with their number, each after
    /// [`ValueWriter::next`], then [`ValueWriter::end`].
    List {
        /// The type of each.
        items: Arc<ValueType>,
    },
    /// Fields of a composite type, any of which may be NULL: [`ValueWriter::begin`] with their number, each after
    /// [`ValueWriter::next`], then [`ValueWriter::end`].
    Record(Arc<RecordType>),
    /// A point of a plane. Like a record of x and y ([`ValueWriter::double`]), the same as well-known binary
    /// ([`ValueWriter::bytes`]), and the reference system or NULL ([`ValueWriter::int`]).
    Point,
    /// A shape of a plane. Like a record of well-known binary ([`ValueWriter::bytes`]), with its extension for
    /// reference systems where there is one, and the reference system or NULL ([`ValueWriter::int`]).
    Geometry,
    /// A shape of the globe, like [`ValueType::Geometry`].
    Geography,
    /// Single-precision numbers: like a list, each by [`ValueWriter::float`].
    FloatVector,
    /// Double-precision numbers: like a list, each by [`ValueWriter::double`].
    DoubleVector,
    /// A vector of which most numbers are 0. Like a record of its dimensions ([`ValueWriter::int`], 16-bit range) and
    /// of the others: [`ValueWriter::begin`] with how many there are, each as its place from 1 ([`ValueWriter::int`],
    /// 16-bit range) and its value ([`ValueWriter::double`]), both after [`ValueWriter::next`], then
    /// [`ValueWriter::end`].
    SparseDoubleVector,
}

/// A composite type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RecordType {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its fields in order.
    pub fields: Vec<RecordField>,
}

/// A field of a [`RecordType`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RecordField {
    /// Its name, unquoted.
    pub name: String,
    /// What its values mean.
    pub value_type: ValueType,
}

/// Receives one decoded value: by one call for a simple one, for one that holds others by [`ValueWriter::begin`], the
/// others each after [`ValueWriter::next`], and [`ValueWriter::end`].
pub trait ValueWriter {
    /// SQL NULL, inside of a value that holds others.
    fn null(&mut self);
    /// A truth value.
    fn boolean(&mut self, value: bool);
    /// An integer of up to 32 bits.
    fn int(&mut self, value: i32);
    /// An integer of up to 64 bits.
    fn long(&mut self, value: i64);
    /// A single-precision number.
    fn float(&mut self, value: f32);
    /// A double-precision number.
    fn double(&mut self, value: f64);
    /// Text.
    fn string(&mut self, value: &str);
    /// Octets.
    fn bytes(&mut self, value: &[u8]);
    /// A decimal of the column's scale: `unscaled` as shortest big-endian two's complement (never empty).
    fn decimal(&mut self, unscaled: &[u8]);
    /// A decimal with its own scale.
    fn variable_scale_decimal(&mut self, scale: i32, unscaled: &[u8]);
    /// A value that holds `length` others begins.
    fn begin(&mut self, length: usize);
    /// The next call writes the next of the others.
    fn next(&mut self);
    /// The value that began last is complete.
    fn end(&mut self);
}

/// Why a value cannot be carried. The caller adds table and column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueError {
    /// What is wrong with it, without the value itself: `numeric NaN has no decimal form`.
    pub reason: &'static str,
}

impl ValueError {
    /// A reason, lower case, without the value.
    pub const fn new(reason: &'static str) -> Self {
        ValueError { reason }
    }
}

/// Reads one column's database bytes. Supplied by the connector, one per column.
///
/// Guarantees: (1) exactly one value on success; on failure none, or a part of one that holds others, which the caller
/// throws away; (2) never panics on foreign bytes; (3) the same bytes always give the same calls. Not promised: that two
/// byte strings of one value are equal.
pub trait ColumnDecoder: Send + Sync + std::fmt::Debug {
    /// Decodes `bytes` (at most [`CELL_BYTES_MAX`] long) into `out`.
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError>;
}

const _: () = assert!(CELL_BYTES_MAX > 1 << 30);
