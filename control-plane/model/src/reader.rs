// SPDX-License-Identifier: Apache-2.0
//! serde over a [`Document`]: errors get the path and line of the part they are about.

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::forward_to_deserialize_any;

use crate::document::{Document, Entry, Node, Scalar, ScalarValue};
use crate::error::SpecError;

pub(crate) struct Reader<'a> {
    document: &'a Document,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(document: &'a Document) -> Self {
        Reader { document }
    }

    fn scalar(&self) -> Option<&'a Scalar> {
        match &self.document.node {
            Node::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// Hands a scalar to the visitor. Nothing that came out of a secret may enter a message.
    fn visit_scalar<V: Visitor<'a>>(
        scalar: &'a Scalar,
        value: ScalarValue<'a>,
        visitor: V,
    ) -> Result<V::Value, SpecError> {
        match value {
            ScalarValue::Null => visitor.visit_unit(),
            ScalarValue::Boolean(value) => visitor.visit_bool(value),
            ScalarValue::Unsigned(value) => visitor.visit_u64(value),
            ScalarValue::Signed(value) => visitor.visit_i64(value),
            ScalarValue::Float(value) => visitor.visit_f64(value),
            ScalarValue::Text(text) => visitor.visit_str(text),
        }
        .map_err(|error: SpecError| {
            if scalar.secret {
                SpecError::new("what the reference stands for is not valid here")
            } else {
                error
            }
        })
    }

    fn is_null(&self) -> bool {
        match &self.document.node {
            Node::Null => true,
            Node::Scalar(scalar) => matches!(scalar.value(), ScalarValue::Null),
            _ => false,
        }
    }
}

macro_rules! number {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SpecError> {
            match self.scalar() {
                // A port may come from the environment, which knows texts only.
                Some(scalar) if scalar.secret => Reader::visit_scalar(scalar, scalar.plain_value(), visitor)
                    .map_err(|error| error.at_line(self.document.line)),
                _ => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = SpecError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SpecError> {
        let line = self.document.line;
        match &self.document.node {
            Node::Null => visitor.visit_unit(),
            Node::Scalar(scalar) => Reader::visit_scalar(scalar, scalar.value(), visitor),
            Node::Sequence(items) => visitor.visit_seq(Items { items, at: 0 }),
            Node::Mapping(entries) => visitor.visit_map(Entries { entries, value: None }),
        }
        .map_err(|error| error.at_line(line))
    }

    number! { deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 deserialize_u8
    deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64 deserialize_bool }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SpecError> {
        match self.scalar() {
            Some(scalar) if !self.is_null() => Reader::visit_scalar(scalar, ScalarValue::Text(&scalar.text), visitor)
                .map_err(|error| error.at_line(self.document.line)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SpecError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SpecError> {
        if self.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    /// A section that is named and left empty (`embedded:`) has every default.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SpecError> {
        let line = self.document.line;
        if self.is_null() {
            return visitor
                .visit_map(Entries {
                    entries: &[],
                    value: None,
                })
                .map_err(|error: SpecError| error.at_line(line));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, SpecError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SpecError> {
        let line = self.document.line;
        match &self.document.node {
            Node::Scalar(scalar) => visitor.visit_enum(Choice {
                name: &scalar.text,
                value: None,
            }),
            Node::Mapping(entries) => match entries.as_slice() {
                [entry] => visitor
                    .visit_enum(Choice {
                        name: &entry.key,
                        value: Some(&entry.value),
                    })
                    .map_err(|error: SpecError| error.at_line(entry.line)),
                _ => Err(SpecError::new(format!(
                    "expected exactly one of {}",
                    variants.join(", ")
                ))),
            },
            _ => Err(SpecError::new(format!("expected one of {}", variants.join(", ")))),
        }
        .map_err(|error| error.at_line(line))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SpecError> {
        self.deserialize_str(visitor)
    }

    forward_to_deserialize_any! { char bytes byte_buf unit unit_struct seq tuple tuple_struct map ignored_any }
}

struct Items<'a> {
    items: &'a [Document],
    at: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = SpecError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, SpecError> {
        let Some(item) = self.items.get(self.at) else {
            return Ok(None);
        };
        let at = self.at;
        self.at += 1;
        seed.deserialize(Reader::new(item))
            .map(Some)
            .map_err(|error| error.at_line(item.line).within(&format!("[{at}]")))
    }
}

struct Entries<'a> {
    entries: &'a [Entry],
    value: Option<&'a Entry>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = SpecError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, SpecError> {
        let Some((entry, rest)) = self.entries.split_first() else {
            return Ok(None);
        };
        self.entries = rest;
        self.value = Some(entry);
        seed.deserialize(serde::de::value::StrDeserializer::new(&entry.key))
            .map(Some)
            .map_err(|error: SpecError| error.at_line(entry.line))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, SpecError> {
        let entry = self
            .value
            .take()
            .ok_or_else(|| SpecError::custom("a value was asked for before its name"))?;
        seed.deserialize(Reader::new(&entry.value))
            .map_err(|error| error.at_line(entry.line).within(&entry.key))
    }
}

/// A choice: a bare name, or a name with settings.
struct Choice<'a> {
    name: &'a str,
    value: Option<&'a Document>,
}

impl<'de> EnumAccess<'de> for Choice<'de> {
    type Error = SpecError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), SpecError> {
        let name = seed.deserialize(serde::de::value::StrDeserializer::<SpecError>::new(self.name))?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'de> {
    type Error = SpecError;

    fn unit_variant(self) -> Result<(), SpecError> {
        match self.value {
            Some(value)
                if !Reader::new(value).is_null() && !matches!(&value.node, Node::Mapping(e) if e.is_empty()) =>
            {
                Err(SpecError::new(format!("\"{}\" takes no settings", self.name)).at_line(value.line))
            }
            _ => Ok(()),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, SpecError> {
        let Some(value) = self.value else {
            // `transport: embedded` means `transport: { embedded: {} }`.
            return seed.deserialize(Nothing).map_err(|error| error.within(self.name));
        };
        seed.deserialize(Reader::new(value))
            .map_err(|error| error.at_line(value.line).within(self.name))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _visitor: V) -> Result<V::Value, SpecError> {
        Err(SpecError::new(format!("\"{}\" cannot be written in a file", self.name)))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SpecError> {
        match self.value {
            Some(value) => Reader::new(value)
                .deserialize_struct("", fields, visitor)
                .map_err(|error| error.within(self.name)),
            None => visitor
                .visit_map(Entries {
                    entries: &[],
                    value: None,
                })
                .map_err(|error: SpecError| error.within(self.name)),
        }
    }
}

/// A reader of the empty mapping that borrows from nothing.
struct Nothing;

impl<'de> Deserializer<'de> for Nothing {
    type Error = SpecError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SpecError> {
        visitor.visit_map(Entries {
            entries: &[],
            value: None,
        })
    }

    forward_to_deserialize_any! { bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
    option unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any }
}
