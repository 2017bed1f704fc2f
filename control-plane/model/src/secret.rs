// SPDX-License-Identifier: Apache-2.0
//! References to secrets: `${env:NAME}` and `${file:path}`, alone or inside a longer text; `$${` stands for `${`.

use std::path::Path;

use crate::document::{Document, Entry, Node, Scalar};
use crate::error::SpecError;

/// Bytes that a secret's file may have.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Where references are looked up; tests bring their own.
pub trait Environment {
    /// The variable's value, if it is set.
    fn variable(&self, name: &str) -> Option<String>;
    /// The file's text.
    ///
    /// # Errors
    /// What the system says when the file cannot be read.
    fn file(&self, path: &Path) -> std::io::Result<String>;
}

/// The process's own environment and file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &Path) -> std::io::Result<String> {
        std::fs::read_to_string(path)
    }
}

pub(crate) fn resolve(document: &Document, environment: &dyn Environment) -> Result<Document, SpecError> {
    let node = node_of(document, environment).map_err(|error| error.at_line(document.line))?;
    Ok(Document {
        line: document.line,
        node,
    })
}

fn node_of(document: &Document, environment: &dyn Environment) -> Result<Node, SpecError> {
    Ok(match &document.node {
        Node::Null => Node::Null,
        Node::Scalar(scalar) => Node::Scalar(scalar_of(scalar, environment)?),
        Node::Sequence(items) => Node::Sequence(
            items
                .iter()
                .enumerate()
                .map(|(at, item)| resolve(item, environment).map_err(|error| error.within(&format!("[{at}]"))))
                .collect::<Result<_, _>>()?,
        ),
        Node::Mapping(entries) => Node::Mapping(
            entries
                .iter()
                .map(|entry| {
                    let value = resolve(&entry.value, environment).map_err(|error| error.within(&entry.key))?;
                    Ok(Entry {
                        key: entry.key.clone(),
                        line: entry.line,
                        value,
                    })
                })
                .collect::<Result<_, SpecError>>()?,
        ),
    })
}

fn scalar_of(scalar: &Scalar, environment: &dyn Environment) -> Result<Scalar, SpecError> {
    let mut text = String::new();
    let mut secret = scalar.secret;
    let mut rest = scalar.text.as_str();
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        if let Some(kept) = before.strip_suffix('$') {
            text.push_str(kept);
            text.push_str("${");
            rest = &reference[2..];
            continue;
        }
        text.push_str(before);
        let Some((inner, after)) = reference[2..].split_once('}') else {
            return Err(SpecError::new("a reference \"${\" is not closed by \"}\""));
        };
        text.push_str(&look_up(inner, environment)?);
        secret = true;
        rest = after;
    }
    text.push_str(rest);
    Ok(Scalar {
        text,
        plain: scalar.plain,
        secret,
    })
}

fn look_up(reference: &str, environment: &dyn Environment) -> Result<String, SpecError> {
    match reference.split_once(':') {
        Some(("env", name)) => environment.variable(name).ok_or_else(|| {
            SpecError::new(format!("environment variable \"{name}\" is not set"))
                .with_suggestion(format!("set it: export {name}=…"))
        }),
        Some(("file", path)) => {
            let text = environment
                .file(Path::new(path))
                .map_err(|error| SpecError::new(format!("cannot read file \"{path}\": {error}")))?;
            if text.len() > FILE_BYTES_MAX {
                return Err(SpecError::new(format!(
                    "file \"{path}\" is larger than {FILE_BYTES_MAX} bytes"
                )));
            }
            Ok(text.trim_end_matches(['\n', '\r']).to_owned())
        }
        _ => {
            Err(SpecError::new("a reference is of an unknown form")
                .with_suggestion("write ${env:NAME} or ${file:path}"))
        }
    }
}
