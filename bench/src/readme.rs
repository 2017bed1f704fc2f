// SPDX-License-Identifier: Apache-2.0
//! Puts tables into a Markdown file, each between two comments that stay.

use std::path::Path;

use crate::failure::{Failure, Result};

/// Replaces what stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`, for each name and text.
pub(crate) fn fill(path: &Path, tables: &[(&str, String)]) -> Result<()> {
    let failed = |doing: &str, error| Failure::during(format!("cannot {doing} {}", path.display()), error);
    let mut text = std::fs::read_to_string(path).map_err(|error| failed("read", error))?;
    for (name, table) in tables {
        text = filled(&text, name, table)
            .ok_or_else(|| Failure::new(format!("{} has no <!-- {name}:begin --> and end", path.display())))?;
    }
    std::fs::write(path, text).map_err(|error| failed("write", error))
}

fn filled(text: &str, name: &str, table: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name}:begin -->"), format!("<!-- {name}:end -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{table}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let text = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n";
        let expected = "a\n<!-- x:begin -->\nnew\n<!-- x:end -->\nb\n";
        assert_eq!(filled(text, "x", "new\n").as_deref(), Some(expected));
    }

    #[test]
    fn a_file_without_the_marks_is_left_alone() {
        assert_eq!(filled("<!-- x:begin -->", "x", "new\n"), None);
        assert_eq!(filled("a <!-- x:end --> <!-- x:begin -->", "x", "new\n"), None);
    }
}
