// SPDX-License-Identifier: Apache-2.0
//! Whether one schema can read what another wrote: Avro's schema resolution.
//!
//! As registries do it, logical types are not compared: each message is read with the schema it names, so a decimal whose
//! scale changed is still read with the scale it was written with.

use std::collections::HashSet;

use super::parsed::{AvroSchema, Field, Named, Node, Shape};

/// Every reason why `reader` cannot read what `writer` wrote; none: it can.
pub(crate) fn obstacles(reader: &AvroSchema, writer: &AvroSchema) -> Vec<String> {
    let mut comparison = Comparison {
        reader,
        writer,
        compared: HashSet::new(),
        obstacles: Vec::new(),
    };
    comparison.node(&reader.root, &writer.root, "");
    comparison.obstacles
}

struct Comparison<'a> {
    reader: &'a AvroSchema,
    writer: &'a AvroSchema,
    /// Pairs of named types that were compared or are being compared: types may refer to themselves.
    compared: HashSet<(usize, usize)>,
    obstacles: Vec<String>,
}

impl<'a> Comparison<'a> {
    fn node(&mut self, reader: &'a Node, writer: &'a Node, path: &str) {
        match (reader, writer) {
            (_, Node::Union(branches)) => {
                for branch in branches {
                    self.node(reader, branch, path);
                }
            }
            (Node::Union(branches), _) => {
                if !branches.iter().any(|branch| self.fits(branch, writer)) {
                    self.no_branch(branches, writer, path);
                }
            }
            (Node::Array(reader), Node::Array(writer)) => self.node(reader, writer, &format!("{path}/items")),
            (Node::Map(reader), Node::Map(writer)) => self.node(reader, writer, &format!("{path}/values")),
            (Node::Named(reader), Node::Named(writer)) => self.named(*reader, *writer, path),
            _ if promotes(writer, reader) => {}
            _ => {
                let (old, new) = (describe(self.writer, writer), describe(self.reader, reader));
                self.obstacle(path, format!("{old} was written, which {new} cannot read"));
            }
        }
    }

    /// Names what keeps the branch of the same name from reading it, where there is one.
    fn no_branch(&mut self, branches: &'a [Node], writer: &'a Node, path: &str) {
        let kind = describe(self.writer, writer);
        match branches.iter().find(|branch| describe(self.reader, branch) == kind) {
            Some(namesake) => self.node(namesake, writer, path),
            None => self.obstacle(
                path,
                format!("{kind} was written, and no branch of the new union reads it"),
            ),
        }
    }

    /// Whether a branch reads it, without keeping the reasons.
    fn fits(&mut self, reader: &'a Node, writer: &'a Node) -> bool {
        let mut trial = Comparison {
            reader: self.reader,
            writer: self.writer,
            compared: self.compared.clone(),
            obstacles: Vec::new(),
        };
        trial.node(reader, writer, "");
        trial.obstacles.is_empty()
    }

    fn named(&mut self, reader_at: usize, writer_at: usize, path: &str) {
        if !self.compared.insert((reader_at, writer_at)) {
            return;
        }
        let (Some(reader), Some(writer)) = (self.reader.named.get(reader_at), self.writer.named.get(writer_at)) else {
            return;
        };
        if reader.full_name != writer.full_name && !reader.aliases.contains(&writer.full_name) {
            let message = format!(
                "{:?} was written, and the new schema expects {:?}",
                writer.full_name, reader.full_name
            );
            return self.obstacle(path, message);
        }
        match (&reader.shape, &writer.shape) {
            (Shape::Record(fields), Shape::Record(written)) => self.record(reader, fields, written, path),
            (Shape::Enum { symbols, default }, Shape::Enum { symbols: written, .. }) => {
                let unknown: Vec<&str> = written
                    .iter()
                    .filter(|symbol| !symbols.contains(symbol))
                    .map(String::as_str)
                    .collect();
                if !default && !unknown.is_empty() {
                    self.obstacle(path, format!("the new enum lacks the symbols {}", unknown.join(", ")));
                }
            }
            (Shape::Fixed { size, .. }, Shape::Fixed { size: written, .. }) if size == written => {}
            _ => self.obstacle(
                path,
                format!("{:?} became another kind of type or size", reader.full_name),
            ),
        }
    }

    fn record(&mut self, reader: &'a Named, fields: &'a [Field], written: &'a [Field], path: &str) {
        for field in fields {
            let path = format!("{path}/{}", field.name);
            let source = written.iter().find(|candidate| candidate.name == field.name);
            let source = source.or_else(|| written.iter().find(|candidate| field.aliases.contains(&candidate.name)));
            match source {
                Some(source) => self.node(&field.node, &source.node, &path),
                None if field.has_default => {}
                None => self.obstacle(
                    &path,
                    format!(
                        "field {:?} is new in {:?} and has no default",
                        field.name, reader.full_name
                    ),
                ),
            }
        }
    }

    fn obstacle(&mut self, path: &str, reason: String) {
        let path = if path.is_empty() { "/" } else { path };
        self.obstacles.push(format!("{path}: {reason}"));
    }
}

/// Whether a simple type reads another.
fn promotes(writer: &Node, reader: &Node) -> bool {
    use Node::{Boolean, Bytes, Decimal, Double, Float, Int, Long, Null, String};
    matches!(
        (writer, reader),
        (Null, Null)
            | (Boolean, Boolean)
            | (Int, Int | Long | Float | Double)
            | (Long, Long | Float | Double)
            | (Float, Float | Double)
            | (Double, Double)
            | (Bytes | Decimal { .. } | String, Bytes | Decimal { .. } | String)
    )
}

fn describe(schema: &AvroSchema, node: &Node) -> String {
    match node {
        Node::Null => "null",
        Node::Boolean => "boolean",
        Node::Int => "int",
        Node::Long => "long",
        Node::Float => "float",
        Node::Double => "double",
        Node::Bytes | Node::Decimal { .. } => "bytes",
        Node::String => "string",
        Node::Array(_) => "array",
        Node::Map(_) => "map",
        Node::Union(_) => "union",
        Node::Named(at) => schema.named.get(*at).map_or("?", |named| named.full_name.as_str()),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reader: &str, writer: &str) -> Vec<String> {
        obstacles(&AvroSchema::parse(reader).unwrap(), &AvroSchema::parse(writer).unwrap())
    }

    fn record(fields: &str) -> String {
        format!(r#"{{"type":"record","name":"n.Row","fields":[{fields}]}}"#)
    }

    #[test]
    fn a_new_optional_column_a_dropped_column_and_a_wider_type_are_compatible() {
        let old = record(r#"{"name":"a","type":"int"},{"name":"b","type":"string"}"#);
        let new = record(
            r#"{"name":"a","type":["null","long"],"default":null},{"name":"c","type":["null","int"],"default":null}"#,
        );
        assert_eq!(check(&new, &old), Vec::<String>::new());
    }

    #[test]
    fn each_obstacle_names_its_place() {
        let old = record(r#"{"name":"a","type":["null","long"],"default":null},{"name":"b","type":"string"}"#);
        let new = record(r#"{"name":"a","type":"int"},{"name":"b","type":"long"},{"name":"c","type":"int"}"#);
        assert_eq!(
            check(&new, &old),
            [
                "/a: null was written, which int cannot read",
                "/a: long was written, which int cannot read",
                "/b: string was written, which long cannot read",
                "/c: field \"c\" is new in \"n.Row\" and has no default",
            ]
        );
    }

    #[test]
    fn a_type_that_refers_to_itself_is_compared_once() {
        let list = r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"],"default":null}]}"#;
        assert_eq!(check(list, list), Vec::<String>::new());
    }
}
