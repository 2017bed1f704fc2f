// SPDX-License-Identifier: Apache-2.0
//! What a user chooses about the form of values.

use super::pg_type::PgType;
use crate::settings::matches_glob;
use highwater_core::schema::TableName;
use serde::Deserialize;

/// The form of values, where there is more than one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValueForms {
    /// What `numeric` columns become.
    pub numeric: NumericForm,
    /// What is carried as the server's own text, whatever it is: types (`interval`, `integer[]`, `public.mood`) and columns
    /// (`public.orders.tags`). `*` stands for any text and `?` for one character.
    pub as_text: Vec<String>,
}

/// What `numeric` columns become.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NumericForm {
    /// Decimals. NaN and infinities stop their table.
    #[default]
    Precise,
    /// Text, NaN and infinities included.
    String,
    /// The nearest number in double precision, NaN and infinities included.
    Double,
}

impl ValueForms {
    /// Whether `as_text` names this type.
    pub fn as_text(&self, of: &PgType) -> bool {
        if self.as_text.is_empty() {
            return false;
        }
        let qualified = format!("{}.{}", of.schema, of.name);
        self.names(&[&of.sql_name, &of.name, &qualified])
    }

    /// Whether `as_text` names this column.
    pub fn column_as_text(&self, table: &TableName, column: &str) -> bool {
        !self.as_text.is_empty() && self.names(&[&format!("{table}.{column}")])
    }

    fn names(&self, names: &[&str]) -> bool {
        let any = |pattern: &String| names.iter().any(|name| matches_glob(pattern, name));
        self.as_text.iter().any(any)
    }
}
