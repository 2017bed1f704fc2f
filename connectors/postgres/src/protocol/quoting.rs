// SPDX-License-Identifier: Apache-2.0
//! Quoting for text commands, which the replication protocol takes instead of parameters.

/// Quotes an identifier for SQL and for replication commands: `a"b` becomes `"a""b"`.
///
/// Names with a zero byte cannot exist on a server; the byte is left out so that it cannot cut a command short.
pub fn quote_identifier(name: &str) -> String {
    quote(name, '"')
}

/// Quotes `schema.name`.
pub fn quote_qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_identifier(schema), quote_identifier(name))
}

/// Quotes a string literal for SQL and for replication commands.
///
/// A text with a backslash takes the `E''` form, which means the same whatever `standard_conforming_strings` says.
pub fn quote_literal(text: &str) -> String {
    if text.contains('\\') {
        format!(" E{}", quote(&text.replace('\\', "\\\\"), '\''))
    } else {
        quote(text, '\'')
    }
}

/// Quotes a literal for a replication command, whose scanner knows no escape but the doubled quote
/// (`src/backend/replication/repl_scanner.l`).
pub fn quote_replication_literal(text: &str) -> String {
    quote(text, '\'')
}

fn quote(text: &str, mark: char) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(mark);
    for character in text.chars().filter(|character| *character != '\0') {
        if character == mark {
            quoted.push(mark);
        }
        quoted.push(character);
    }
    quoted.push(mark);
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_the_quotes_of_identifiers_and_literals() {
        assert_eq!(quote_identifier("plain"), "\"plain\"");
        assert_eq!(quote_identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(quote_qualified("public", "Über\"table"), "\"public\".\"Über\"\"table\"");
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\'b"), " E'a\\\\''b'");
        assert_eq!(quote_replication_literal("a\\'b"), "'a\\''b'");
        assert_eq!(quote_literal("a\0b"), "'ab'");
    }
}
