// SPDX-License-Identifier: Apache-2.0
//! YAML events to a [`Document`].

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use crate::document::{Document, Entry, Node, Scalar};
use crate::error::SpecError;

/// Levels of nesting that a file may have.
const DEPTH_MAX: usize = 64;

pub(crate) fn read(text: &str) -> Result<Document, SpecError> {
    let mut events = Events {
        parser: Parser::new_from_str(text),
    };
    let mut document = None;
    loop {
        let (event, span) = events.next()?;
        match event {
            Event::StreamEnd => break,
            Event::DocumentStart(_) if document.is_some() => {
                return Err(SpecError::new("a pipeline file holds one document").at_line(line_of(&span)));
            }
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            event => document = Some(events.value(event, &span, 0)?),
        }
    }
    document.ok_or_else(|| SpecError::new("the file is empty"))
}

struct Events<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
}

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), SpecError> {
        match self.parser.next_event() {
            Some(event) => event.map_err(|error| syntax(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn value(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<Document, SpecError> {
        let line = line_of(span);
        if depth > DEPTH_MAX {
            return Err(SpecError::new(format!("nested deeper than {DEPTH_MAX} levels")).at_line(line));
        }
        let node = match event {
            Event::Scalar(text, style, _, tag) => {
                let text_tag = tag.is_some_and(|tag| tag.suffix == "str");
                Node::Scalar(Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain && !text_tag,
                    secret: false,
                })
            }
            Event::SequenceStart(..) => self.sequence(depth)?,
            Event::MappingStart(..) => self.mapping(depth)?,
            Event::Alias(_) => {
                return Err(SpecError::new("aliases (*name) are not supported in a pipeline file").at_line(line));
            }
            _ => return Err(SpecError::new("a value is missing").at_line(line)),
        };
        Ok(Document { line, node })
    }

    fn sequence(&mut self, depth: usize) -> Result<Node, SpecError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Node::Sequence(items)),
                (event, span) => items.push(self.value(event, &span, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Node, SpecError> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (key, line) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Node::Mapping(entries)),
                (Event::Scalar(key, ..), span) => (key.into_owned(), line_of(&span)),
                (_, span) => return Err(SpecError::new("a setting's name must be a text").at_line(line_of(&span))),
            };
            if entries.iter().any(|entry| entry.key == key) {
                return Err(SpecError::new("the setting is given twice").within(&key).at_line(line));
            }
            let (event, span) = self.next()?;
            let value = self
                .value(event, &span, depth + 1)
                .map_err(|error| error.within(&key))?;
            entries.push(Entry { key, line, value });
        }
    }
}

fn line_of(span: &Span) -> u32 {
    u32::try_from(span.start.line()).unwrap_or(u32::MAX)
}

fn syntax(error: &ScanError) -> SpecError {
    let line = u32::try_from(error.marker().line()).unwrap_or(u32::MAX);
    SpecError::new(format!("not valid YAML: {}", error.info())).at_line(line)
}
