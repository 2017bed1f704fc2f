// SPDX-License-Identifier: Apache-2.0
//! Avro's binary encoding back into JSON values.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use highwater_core::{Error, ErrorKind, Scope};
use serde_json::{Map, Value};

use super::parsed::{AvroSchema, Field, Named, Node, Shape};
use crate::decimal::write_decimal;

/// How deep data may nest: a schema that refers to itself lets foreign bytes choose.
const DEPTH_MAX: usize = 128;
/// Debezium's struct of a decimal with its own scale, shown as the number it is.
const VARIABLE_SCALE_DECIMAL: &str = "io.debezium.data.VariableScaleDecimal";

/// Why bytes could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Corrupt(&'static str);

impl From<Corrupt> for Error {
    fn from(corrupt: Corrupt) -> Error {
        Error::new(
            ErrorKind::CorruptMessage,
            format!("Avro body does not follow its schema: {}", corrupt.0),
        )
        .with_scope(Scope::Record)
        .with_fix("make sure that the registry is the one the topic was written with")
    }
}

/// Reads one value that takes all of `bytes`. Of a record, the field `without` is passed over.
pub(crate) fn read(schema: &AvroSchema, bytes: &[u8], without: Option<&str>) -> Result<Value, Corrupt> {
    let mut reader = Reader {
        named: &schema.named,
        rest: bytes,
        text: Vec::new(),
        without,
    };
    let value = reader.value(&schema.root, 0)?;
    if reader.rest.is_empty() {
        Ok(value)
    } else {
        Err(Corrupt("bytes are left over"))
    }
}

struct Reader<'a> {
    named: &'a [Named],
    rest: &'a [u8],
    text: Vec<u8>,
    without: Option<&'a str>,
}

impl<'a> Reader<'a> {
    fn value(&mut self, node: &Node, depth: usize) -> Result<Value, Corrupt> {
        if depth > DEPTH_MAX {
            return Err(Corrupt("it nests too deep"));
        }
        Ok(match node {
            Node::Null => Value::Null,
            Node::Boolean => match self.take(1)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                _ => return Err(Corrupt("a boolean is neither 0 nor 1")),
            },
            Node::Int => {
                let value = i32::try_from(self.long()?).map_err(|_| Corrupt("an int is out of range"))?;
                value.into()
            }
            Node::Long => self.long()?.into(),
            Node::Float => number(f64::from(f32::from_le_bytes(self.array()?))),
            Node::Double => number(f64::from_le_bytes(self.array()?)),
            Node::Bytes => STANDARD.encode(self.octets()?).into(),
            Node::String => {
                let text = std::str::from_utf8(self.octets()?).map_err(|_| Corrupt("a string is not UTF-8"))?;
                text.into()
            }
            Node::Decimal { scale } => {
                let unscaled = self.octets()?;
                self.decimal(unscaled, *scale)
            }
            Node::Array(items) => self.array_of(items, depth)?,
            Node::Map(values) => self.map_of(values, depth)?,
            Node::Union(branches) => {
                let branch = usize::try_from(self.long()?)
                    .ok()
                    .and_then(|branch| branches.get(branch));
                self.value(branch.ok_or(Corrupt("a union has no such branch"))?, depth + 1)?
            }
            Node::Named(at) => {
                let named = self.named.get(*at).ok_or(Corrupt("a type is not defined"))?;
                self.named(named, depth)?
            }
        })
    }

    fn named(&mut self, named: &'a Named, depth: usize) -> Result<Value, Corrupt> {
        match &named.shape {
            Shape::Record(_) if named.full_name == VARIABLE_SCALE_DECIMAL => {
                let scale = i32::try_from(self.long()?).map_err(|_| Corrupt("a scale is out of range"))?;
                let unscaled = self.octets()?;
                Ok(self.decimal(unscaled, scale))
            }
            Shape::Record(fields) => self.record(fields, depth),
            Shape::Enum { symbols, .. } => {
                let symbol = usize::try_from(self.long()?).ok().and_then(|at| symbols.get(at));
                Ok(symbol.ok_or(Corrupt("an enum has no such symbol"))?.as_str().into())
            }
            Shape::Fixed { size, scale } => {
                let octets = self.take(*size)?;
                Ok(match scale {
                    Some(scale) => self.decimal(octets, *scale),
                    None => STANDARD.encode(octets).into(),
                })
            }
        }
    }

    fn record(&mut self, fields: &'a [Field], depth: usize) -> Result<Value, Corrupt> {
        let mut record = Map::with_capacity(fields.len());
        for field in fields {
            if depth == 0 && self.without == Some(field.name.as_str()) {
                self.skip(&field.node, 1)?;
                continue;
            }
            let value = self.value(&field.node, depth + 1)?;
            record.insert(field.name.clone(), value);
        }
        Ok(Value::Object(record))
    }

    /// Passes over a value. What is rare is read and dropped.
    fn skip(&mut self, node: &Node, depth: usize) -> Result<(), Corrupt> {
        match node {
            Node::Int | Node::Long => self.long().map(drop),
            Node::Bytes | Node::String | Node::Decimal { .. } => self.octets().map(drop),
            Node::Union(branches) => {
                let branch = usize::try_from(self.long()?)
                    .ok()
                    .and_then(|branch| branches.get(branch));
                self.skip(branch.ok_or(Corrupt("a union has no such branch"))?, depth + 1)
            }
            Node::Named(at) if depth <= DEPTH_MAX => match self.named.get(*at).map(|named| &named.shape) {
                Some(Shape::Record(fields)) => fields.iter().try_for_each(|field| self.skip(&field.node, depth + 1)),
                _ => self.value(node, depth).map(drop),
            },
            _ => self.value(node, depth).map(drop),
        }
    }

    fn array_of(&mut self, items: &Node, depth: usize) -> Result<Value, Corrupt> {
        let mut values = Vec::new();
        while let Some(count) = self.block()? {
            for _ in 0..count {
                values.push(self.value(items, depth + 1)?);
            }
        }
        Ok(Value::Array(values))
    }

    fn map_of(&mut self, values: &Node, depth: usize) -> Result<Value, Corrupt> {
        let mut map = Map::new();
        while let Some(count) = self.block()? {
            for _ in 0..count {
                let name = std::str::from_utf8(self.octets()?).map_err(|_| Corrupt("a map's key is not UTF-8"))?;
                let value = self.value(values, depth + 1)?;
                map.insert(name.to_owned(), value);
            }
        }
        Ok(Value::Object(map))
    }

    /// The number of items in the next block of an array or map; `None` at its end.
    fn block(&mut self) -> Result<Option<u64>, Corrupt> {
        let count = self.long()?;
        if count < 0 {
            self.long()?;
        }
        let count = count.unsigned_abs();
        // Items may be empty (nulls), so that only this keeps a few bytes from becoming millions of values.
        if count > self.rest.len() as u64 {
            return Err(Corrupt("a block has more items than bytes are left"));
        }
        Ok((count > 0).then_some(count))
    }

    fn decimal(&mut self, unscaled: &[u8], scale: i32) -> Value {
        self.text.clear();
        write_decimal(unscaled, scale, &mut self.text);
        String::from_utf8_lossy(&self.text).into_owned().into()
    }

    fn octets(&mut self) -> Result<&'a [u8], Corrupt> {
        let length = usize::try_from(self.long()?).map_err(|_| Corrupt("a length is negative"))?;
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Corrupt> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Corrupt("it ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Corrupt("it ends too early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn long(&mut self) -> Result<i64, Corrupt> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (octet, rest) = self.rest.split_first().ok_or(Corrupt("it ends too early"))?;
            self.rest = rest;
            value |= u64::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(Corrupt("a number is longer than ten octets"))
    }
}

/// JSON has no infinity and no NaN: they become text, as Java's converter has them.
fn number(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or_else(
        || {
            if value.is_nan() {
                "NaN".into()
            } else if value > 0.0 {
                "Infinity".into()
            } else {
                "-Infinity".into()
            }
        },
        Value::Number,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn arrays_maps_enums_and_fixed_of_other_producers_are_read_too() {
        let schema = AvroSchema::parse(
            r#"{"type":"record","name":"R","fields":[
                {"name":"a","type":{"type":"array","items":"int"}},
                {"name":"m","type":{"type":"map","values":"boolean"}},
                {"name":"e","type":{"type":"enum","name":"E","symbols":["X","Y"]}},
                {"name":"f","type":{"type":"fixed","name":"F","size":2,"logicalType":"decimal","scale":1}}]}"#,
        );
        let bytes = [4, 2, 3, 0, 2, 2, b'k', 1, 0, 2, 0xff, 0xf6];
        let value = read(&schema.unwrap(), &bytes, None).unwrap();
        assert_eq!(value, json!({"a": [1, -2], "m": {"k": true}, "e": "Y", "f": "-1.0"}));
    }

    #[test]
    fn bytes_left_over_and_bytes_missing_are_corrupt() {
        let schema = AvroSchema::parse("\"string\"").unwrap();
        assert_eq!(read(&schema, &[2, b'a', 0], None), Err(Corrupt("bytes are left over")));
        assert_eq!(read(&schema, &[4, b'a'], None), Err(Corrupt("it ends too early")));
        assert_eq!(read(&schema, &[1], None), Err(Corrupt("a length is negative")));
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
            let schema = AvroSchema::parse(
                r#"{"type":"record","name":"R","fields":[
                    {"name":"n","type":["null","R"]},
                    {"name":"a","type":{"type":"array","items":["null","double","string"]}}]}"#,
            ).unwrap();
            let _ = read(&schema, &bytes, None);
        }
    }
}
