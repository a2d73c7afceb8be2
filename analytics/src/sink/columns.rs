//! From records to columns.
//!
//! Every row has `partition`, `offset`, `timestamp` (µs, UTC) and `key`; then one nullable
//! column per JSON field, nested objects flattened with dots. A field's type is that of its first
//! values and only ever widens: int64 → double → text, bool → text. A field called like one of the
//! fixed columns gets the prefix `value_`. An array of objects becomes one row each, numbered in
//! the column `row`. What is not JSON of these shapes is kept whole, as text, in the column
//! `value`.

use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use odradek_broker::client::StoredRecord;
use serde_json::Value;

use crate::row::{Row, Rows};

/// Objects nested deeper are kept as JSON text.
const DEPTH_MAX: usize = 8;
/// A record that would need more columns than this is kept whole in `value`.
const COLUMNS_MAX: usize = 1_000;
const FIXED: [&str; 6] = ["partition", "offset", "timestamp", "key", "row", "value"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int,
    Double,
    Text,
}

impl Kind {
    /// `None` for null, which any type can hold.
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Null => None,
            Value::Bool(_) => Some(Self::Bool),
            Value::Number(n) if n.is_i64() => Some(Self::Int),
            Value::Number(_) => Some(Self::Double),
            _ => Some(Self::Text),
        }
    }

    fn join(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Int, Self::Double) | (Self::Double, Self::Int) => Self::Double,
            _ => Self::Text,
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Text => DataType::Utf8,
        }
    }
}

/// One row to be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FlatRow {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<String>,
    pub row: Option<i64>,
    pub fields: Vec<(String, Value)>,
    pub value: Option<String>,
}

/// The columns of a file, beyond the four that every file has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    fields: Vec<(String, Kind)>,
    has_row: bool,
    has_value: bool,
}

pub(crate) fn flatten(record: &StoredRecord) -> Vec<FlatRow> {
    let blank = FlatRow {
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        key: record.key.as_deref().map(text_of_bytes),
        row: None,
        fields: Vec::new(),
        value: None,
    };
    let one = |row: &Row| {
        let mut fields = Vec::new();
        flatten_into(&mut fields, "", row, 0);
        (fields.len() <= COLUMNS_MAX).then_some(fields)
    };
    let whole = || {
        let value = record.value.as_deref().map(text_of_bytes);
        vec![FlatRow { value, ..blank.clone() }]
    };
    match Rows::parse(record.value.as_deref()) {
        Rows::One(row) => {
            one(&row).map_or_else(whole, |fields| vec![FlatRow { fields, ..blank.clone() }])
        }
        // Every offset has at least one row, so that the files show each.
        Rows::Many(rows) if rows.is_empty() => whole(),
        Rows::Many(rows) => {
            let rows: Option<Vec<FlatRow>> = (0_i64..)
                .zip(&rows)
                .map(|(index, row)| {
                    let fields = one(row)?;
                    Some(FlatRow { row: Some(index), fields, ..blank.clone() })
                })
                .collect();
            rows.unwrap_or_else(whole)
        }
        Rows::Unreadable => whole(),
    }
}

fn flatten_into(fields: &mut Vec<(String, Value)>, prefix: &str, row: &Row, depth: usize) {
    for (name, value) in row {
        let name = format!("{prefix}{name}");
        match value {
            Value::Object(inner) if depth < DEPTH_MAX => {
                flatten_into(fields, &format!("{name}."), inner, depth + 1);
            }
            _ => {
                let fixed = FIXED.contains(&name.as_str());
                let name = if fixed { format!("value_{name}") } else { name };
                fields.push((name, value.clone()));
            }
        }
    }
}

/// Text as it is; other bytes as `\x` and hexadecimal digits.
fn text_of_bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}")),
    }
}

impl Columns {
    /// The columns that hold both these and the rows.
    pub(crate) fn widened(&self, rows: &[FlatRow]) -> Self {
        let mut wide = self.clone();
        // Records of a topic mostly have the same fields in the same order, so the place where a
        // field was found last is tried first.
        let mut places: Vec<usize> = Vec::new();
        for row in rows {
            wide.has_row |= row.row.is_some();
            wide.has_value |= row.value.is_some();
            places.resize(places.len().max(row.fields.len()), 0);
            for ((name, value), place) in row.fields.iter().zip(&mut places) {
                let Some(kind) = Kind::of(value) else { continue };
                match wide.fields.get_mut(*place).filter(|(known, _)| known == name) {
                    Some((_, known)) => *known = known.join(kind),
                    None => *place = wide.add(name, kind),
                }
            }
        }
        wide
    }

    /// Adds the field or widens it; where it is.
    fn add(&mut self, name: &str, kind: Kind) -> usize {
        match self.fields.iter().position(|(known, _)| known == name) {
            Some(index) => {
                self.fields[index].1 = self.fields[index].1.join(kind);
                index
            }
            None if self.fields.len() < COLUMNS_MAX => {
                self.fields.push((name.to_owned(), kind));
                self.fields.len() - 1
            }
            // `batch` keeps the row's values of such fields in `value`.
            None => {
                self.has_value = true;
                COLUMNS_MAX
            }
        }
    }

    /// The columns of an existing file.
    pub(crate) fn of_schema(schema: &Schema) -> Self {
        let mut columns = Self::default();
        for field in schema.fields() {
            let kind = match field.data_type() {
                DataType::Boolean => Kind::Bool,
                DataType::Int64 => Kind::Int,
                DataType::Float64 => Kind::Double,
                _ => Kind::Text,
            };
            match field.name().as_str() {
                "row" => columns.has_row = true,
                "value" => columns.has_value = true,
                name if FIXED.contains(&name) => {}
                name => {
                    columns.add(name, kind);
                }
            }
        }
        columns
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let mut fields = vec![
            Field::new("partition", DataType::Int32, false),
            Field::new("offset", DataType::Int64, false),
            Field::new("timestamp", utc, false),
            Field::new("key", DataType::Utf8, true),
        ];
        if self.has_row {
            fields.push(Field::new("row", DataType::Int64, true));
        }
        let own = self.fields.iter().map(|(name, kind)| Field::new(name, kind.data_type(), true));
        fields.extend(own);
        if self.has_value {
            fields.push(Field::new("value", DataType::Utf8, true));
        }
        Arc::new(Schema::new(fields))
    }

    pub(crate) fn batch(
        &self,
        partition: i32,
        rows: &[FlatRow],
    ) -> Result<RecordBatch, ArrowError> {
        let times = rows.iter().map(|row| row.timestamp_ms.saturating_mul(1_000));
        let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
        let mut keys = StringBuilder::new();
        rows.iter().for_each(|row| keys.append_option(row.key.as_deref()));
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|_| partition))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.offset))),
            Arc::new(times),
            Arc::new(keys.finish()),
        ];
        if self.has_row {
            arrays.push(Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.row))));
        }
        let positions = self.positions(rows);
        for (column, (_, kind)) in self.fields.iter().enumerate() {
            let cell = |index: usize| {
                let position = positions[index][column]?;
                Some(&rows[index].fields[position].1)
            };
            arrays.push(array(*kind, (0..rows.len()).map(cell)));
        }
        if self.has_value {
            let mut values = StringBuilder::new();
            rows.iter().for_each(|row| values.append_option(self.leftover(row)));
            arrays.push(Arc::new(values.finish()));
        }
        RecordBatch::try_new(self.schema(), arrays)
    }

    /// Per row and column, where in the row the field is.
    fn positions(&self, rows: &[FlatRow]) -> Vec<Vec<Option<usize>>> {
        let index: std::collections::HashMap<&str, usize> =
            self.fields.iter().enumerate().map(|(i, (name, _))| (name.as_str(), i)).collect();
        rows.iter()
            .map(|row| {
                let mut positions = vec![None; self.fields.len()];
                for (position, (name, _)) in row.fields.iter().enumerate() {
                    if let Some(column) = index.get(name.as_str()) {
                        positions[*column] = Some(position);
                    }
                }
                positions
            })
            .collect()
    }

    /// The raw value, or the fields for which there is no column any more.
    fn leftover(&self, row: &FlatRow) -> Option<String> {
        if row.value.is_some() || self.fields.len() < COLUMNS_MAX {
            return row.value.clone();
        }
        let known = |name: &str| self.fields.iter().any(|(known, _)| known == name);
        let rest: Row = row.fields.iter().filter(|(name, _)| !known(name)).cloned().collect();
        (!rest.is_empty()).then(|| Value::Object(rest).to_string())
    }
}

fn array<'a>(kind: Kind, cells: impl Iterator<Item = Option<&'a Value>>) -> ArrayRef {
    match kind {
        Kind::Bool => {
            let mut builder = BooleanBuilder::new();
            cells.for_each(|cell| builder.append_option(cell.and_then(Value::as_bool)));
            Arc::new(builder.finish())
        }
        Kind::Int => {
            let mut builder = Int64Builder::new();
            cells.for_each(|cell| builder.append_option(cell.and_then(Value::as_i64)));
            Arc::new(builder.finish())
        }
        Kind::Double => {
            let mut builder = Float64Builder::new();
            cells.for_each(|cell| builder.append_option(cell.and_then(Value::as_f64)));
            Arc::new(builder.finish())
        }
        Kind::Text => {
            let mut builder = StringBuilder::new();
            cells.for_each(|cell| {
                builder.append_option(cell.and_then(|value| match value {
                    Value::Null => None,
                    Value::String(text) => Some(text.clone()),
                    other => Some(other.to_string()),
                }));
            });
            Arc::new(builder.finish())
        }
    }
}
