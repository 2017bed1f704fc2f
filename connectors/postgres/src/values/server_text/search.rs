// SPDX-License-Identifier: Apache-2.0
//! `tsvector` and `tsquery`.

use crate::values::cursor::Cursor;
use std::fmt::Write;

/// How deep the right operands of a query may lie in one another.
const DEPTH_MAX: usize = 1_000;

/// A lexeme in quotes; quotes and backslashes come twice.
fn push_lexeme(lexeme: &str, out: &mut String) {
    out.push('\'');
    for character in lexeme.chars() {
        if matches!(character, '\'' | '\\') {
            out.push(character);
        }
        out.push(character);
    }
    out.push('\'');
}

/// `tsvector`: `'lexeme':1A,2 'other'`.
pub(in crate::values) fn vector(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    for place in 0..cursor.count(3)? {
        if place > 0 {
            out.push(' ');
        }
        push_lexeme(std::str::from_utf8(cursor.zero_ended()?).ok()?, out);
        for entry in 0..cursor.u16()? {
            // Two bits of weight, the rest is the position.
            let position = cursor.u16()?;
            let colon = if entry == 0 { ':' } else { ',' };
            write!(out, "{colon}{}", position & 0x3FFF).ok()?;
            match position >> 14 {
                3 => out.push('A'),
                2 => out.push('B'),
                1 => out.push('C'),
                _ => {}
            }
        }
    }
    Some(())
}

const OPERAND: u8 = 1;
const OPERATOR: u8 = 2;

/// An operator of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Not,
    And,
    Or,
    /// So many words before.
    Phrase(u16),
}

impl Operator {
    /// Binds the tighter, the higher.
    fn priority(self) -> u8 {
        match self {
            Operator::Or => 1,
            Operator::And => 2,
            Operator::Phrase(_) => 3,
            Operator::Not => 4,
        }
    }
}

/// `tsquery`: `'a':*A & !( 'b' | 'c' )`. It comes in Polish notation, the right operand before the left one.
pub(in crate::values) fn query(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    if cursor.count(2)? == 0 {
        return Some(());
    }
    write_node(cursor, 0, false, DEPTH_MAX, out)
}

/// An operator whose left operand, or only one, is being written: what comes behind it.
struct Pending {
    right: Option<(Operator, String)>,
    parentheses: bool,
}

/// Writes an operand or an operator with its operands, in parentheses where the server has them (`infix` in
/// `src/backend/utils/adt/tsquery.c`). Calls itself for right operands only: left ones lie in one another thousands deep.
fn write_node(
    cursor: &mut Cursor<'_>,
    mut outer_priority: u8,
    mut right_of_phrase: bool,
    depth: usize,
    out: &mut String,
) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    let mut pending = Vec::new();
    loop {
        match cursor.u8()? {
            OPERAND => break write_operand(cursor, out)?,
            OPERATOR => {}
            _ => return None,
        }
        let operator = read_operator(cursor)?;
        let priority = operator.priority();
        let phrase = matches!(operator, Operator::Phrase(_));
        let parentheses = priority < outer_priority || (phrase && right_of_phrase);
        if parentheses {
            out.push_str("( ");
        }
        let right = if operator == Operator::Not {
            out.push('!');
            None
        } else {
            let mut right = String::new();
            write_node(cursor, priority, phrase, depth, &mut right)?;
            Some((operator, right))
        };
        pending.push(Pending { right, parentheses });
        (outer_priority, right_of_phrase) = (priority, false);
    }
    for Pending { right, parentheses } in pending.into_iter().rev() {
        if let Some((operator, right)) = right {
            match operator {
                Operator::Or => out.push_str(" | "),
                Operator::Phrase(1) => out.push_str(" <-> "),
                Operator::Phrase(distance) => write!(out, " <{distance}> ").ok()?,
                Operator::And | Operator::Not => out.push_str(" & "),
            }
            out.push_str(&right);
        }
        if parentheses {
            out.push_str(" )");
        }
    }
    Some(())
}

fn read_operator(cursor: &mut Cursor<'_>) -> Option<Operator> {
    Some(match cursor.u8()? {
        1 => Operator::Not,
        2 => Operator::And,
        3 => Operator::Or,
        4 => Operator::Phrase(cursor.u16()?),
        _ => return None,
    })
}

fn write_operand(cursor: &mut Cursor<'_>, out: &mut String) -> Option<()> {
    let (weight, prefix) = (cursor.u8()?, cursor.u8()?);
    push_lexeme(std::str::from_utf8(cursor.zero_ended()?).ok()?, out);
    if weight != 0 || prefix != 0 {
        out.push(':');
    }
    if prefix != 0 {
        out.push('*');
    }
    let letters = [(3, 'A'), (2, 'B'), (1, 'C'), (0, 'D')];
    out.extend(
        letters
            .iter()
            .filter(|(bit, _)| weight >> bit & 1 == 1)
            .map(|(_, letter)| letter),
    );
    Some(())
}
