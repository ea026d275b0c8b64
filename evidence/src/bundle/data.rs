//! Readings and events as Parquet that costs a customer little: no statistics, dictionaries only where values repeat, differences
//! where they grow. It knows the two tables' shapes, not where their rows come from.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Array, FixedSizeBinaryBuilder, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::error::ArrowError;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use shared_types::{Digest, IdentityHash, Instant, Month, Quantity, write_canonical_string};

use super::input::{BundleEvent, BundleInput, BundleReading};
use crate::leaf::LeafInput;
use crate::salt::commitment;

/// Rows of a row group: small enough to say where a file is damaged.
const ROW_GROUP_ROWS: usize = 1 << 14;

/// Why a table could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// Arrow refused the columns.
    #[error("could not build the columns of the {table} table")]
    Columns {
        /// The table.
        table: &'static str,
        /// Why.
        #[source]
        source: ArrowError,
    },
    /// The encoder refused.
    #[error("could not encode the {table} table")]
    Encode {
        /// The table.
        table: &'static str,
        /// Why.
        #[source]
        source: ParquetError,
    },
}

/// Both tables, and the hashes of the leaves of each log.
pub(super) struct Data {
    pub(super) readings: Vec<u8>,
    pub(super) events: Vec<u8>,
    pub(super) logs: Vec<(Month, Vec<Digest>)>,
}

pub(super) fn encode(input: &BundleInput) -> Result<Data, EncodeError> {
    let commitments: Vec<Digest> = input.events.iter().map(|event| commitment(&event.salt, &source_strings(event))).collect();
    let mut text = String::with_capacity(512);
    let mut logs = Vec::with_capacity(input.logs.len());
    for log in &input.logs {
        let mut hashes = Vec::with_capacity(log.readings.len());
        for (log_seq, reading) in (0..).zip(&log.readings) {
            // The caller has checked that the event is there.
            let (Some(event), Some(commitment)) = (input.events.get(reading.event), commitments.get(reading.event)) else { continue };
            let (start_at, end_at) = reading.times(event);
            let leaf = LeafInput {
                log_seq,
                meter: reading.meter.clone(),
                unit: reading.unit.clone(),
                quantity: reading.quantity,
                start_at,
                end_at,
                registry_version: reading.registry_version,
                commitment: *commitment,
            };
            text.clear();
            leaf.write(&mut text);
            hashes.push(crate::tree::leaf_hash(text.as_bytes()));
        }
        logs.push((log.month, hashes));
    }
    let columns = |table| move |source| EncodeError::Columns { table, source };
    let readings = readings(input, &logs).map_err(columns("readings"))?;
    let events = events(&input.events).map_err(columns("events"))?;
    Ok(Data { readings: parquet("readings", &readings)?, events: parquet("events", &events)?, logs })
}

/// Canonical JSON of what the source supplied: the text behind the commitment.
fn source_strings(event: &BundleEvent) -> String {
    let mut out = String::with_capacity(256);
    out.push('{');
    if let Some(data) = &event.data {
        out.push_str("\"data\":");
        out.push_str(data);
    }
    let members = [
        ("id", Some(event.id.as_str())),
        ("project", event.project.as_ref().map(|project| project.as_str())),
        ("source", Some(event.source.as_str())),
        ("subject", event.subject.as_deref()),
        ("type", Some(event.event_type.as_str())),
    ];
    for (name, text) in members.into_iter().filter_map(|(name, text)| text.map(|text| (name, text))) {
        if out.len() > 1 {
            out.push(',');
        }
        write_canonical_string(name, &mut out);
        out.push(':');
        write_canonical_string(text, &mut out);
    }
    out.push('}');
    out
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn batch(columns: Vec<(&str, ArrayRef, bool)>) -> Result<RecordBatch, ArrowError> {
    let fields: Vec<Field> = columns.iter().map(|(name, column, null)| Field::new(*name, column.data_type().clone(), *null)).collect();
    let columns = columns.into_iter().map(|(_, column, _)| column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn digests(values: impl ExactSizeIterator<Item = [u8; 32]>) -> Result<ArrayRef, ArrowError> {
    let mut builder = FixedSizeBinaryBuilder::with_capacity(values.len(), 32);
    for value in values {
        builder.append_value(value)?;
    }
    Ok(Arc::new(builder.finish()))
}

fn readings(input: &BundleInput, logs: &[(Month, Vec<Digest>)]) -> Result<RecordBatch, ArrowError> {
    let rows: Vec<(Month, usize, &BundleReading)> =
        input.logs.iter().flat_map(|log| log.readings.iter().enumerate().map(|(log_seq, reading)| (log.month, log_seq, reading))).collect();
    let text = |of: fn(&BundleReading) -> &str| -> ArrayRef {
        Arc::new(rows.iter().map(|(_, _, reading)| Some(of(reading))).collect::<StringArray>())
    };
    let quantities = Decimal128Array::from_iter_values(rows.iter().map(|(_, _, reading)| reading.quantity.units()));
    let scale = i8::try_from(Quantity::SCALE).unwrap_or(i8::MAX);
    let instants = |of: fn(&BundleReading) -> Option<Instant>| -> ArrayRef {
        Arc::new(rows.iter().map(|(_, _, reading)| of(reading).map(Instant::micros)).collect::<TimestampMicrosecondArray>())
    };
    let check = |hash: &Digest| {
        let [first, second, ..] = hash.0;
        i32::from(u16::from_be_bytes([first, second]))
    };
    batch(vec![
        ("month", Arc::new(Int32Array::from_iter_values(rows.iter().map(|(month, _, _)| month.number()))), false),
        ("log_seq", Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, log_seq, _)| count(*log_seq)))), false),
        ("event", Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, _, reading)| count(reading.event)))), false),
        ("meter", text(|reading| reading.meter.as_str()), false),
        ("unit", text(|reading| reading.unit.as_str()), false),
        ("quantity", Arc::new(quantities.with_precision_and_scale(38, scale)?), false),
        ("start_at", instants(|reading| reading.piece.map(|(start, _)| start)), true),
        ("end_at", instants(|reading| reading.piece.and_then(|(_, end)| end)), true),
        ("registry_version", digests(rows.iter().map(|(_, _, reading)| reading.registry_version.0))?, false),
        ("contract", text(|reading| reading.contract.as_str()), false),
        ("sku", text(|reading| reading.sku.as_str()), false),
        ("price_id", text(|reading| reading.price.as_str()), false),
        ("leaf_check", Arc::new(Int32Array::from_iter_values(logs.iter().flat_map(|(_, hashes)| hashes).map(check))), false),
    ])
}

fn events(rows: &[BundleEvent]) -> Result<RecordBatch, ArrowError> {
    fn text<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
        Arc::new(values.collect::<StringArray>())
    }
    let instants = |of: fn(&BundleEvent) -> Option<Instant>| -> ArrayRef {
        Arc::new(rows.iter().map(|event| of(event).map(Instant::micros)).collect::<TimestampMicrosecondArray>())
    };
    batch(vec![
        ("event", Arc::new(Int64Array::from_iter_values((0..rows.len()).map(count))), false),
        ("id", text(rows.iter().map(|event| Some(event.id.as_str()))), false),
        ("type", text(rows.iter().map(|event| Some(event.event_type.as_str()))), false),
        ("source", text(rows.iter().map(|event| Some(event.source.as_str()))), false),
        ("project", text(rows.iter().map(|event| event.project.as_ref().map(|project| project.as_str()))), true),
        ("subject", text(rows.iter().map(|event| event.subject.as_deref())), true),
        ("data", text(rows.iter().map(|event| event.data.as_deref())), true),
        ("start_at", instants(|event| Some(event.start_at)), false),
        ("end_at", instants(|event| event.end_at), true),
        ("tie", Arc::new(ties(rows)), true),
        ("salt", digests(rows.iter().map(|event| event.salt.0))?, false),
    ])
}

/// Each event's place among those of its start, by their identities; none for an event that starts alone.
fn ties(rows: &[BundleEvent]) -> Int32Array {
    let mut starts: BTreeMap<Instant, Vec<(IdentityHash, usize)>> = BTreeMap::new();
    for (row, event) in rows.iter().enumerate() {
        starts.entry(event.start_at).or_default().push((event.identity, row));
    }
    let mut ties = vec![None; rows.len()];
    for mut together in starts.into_values().filter(|together| together.len() > 1) {
        together.sort_unstable();
        for (place, (_, row)) in (0..).zip(together) {
            if let Some(tie) = ties.get_mut(row) {
                *tie = Some(place);
            }
        }
    }
    ties.into_iter().collect()
}

fn parquet(table: &'static str, rows: &RecordBatch) -> Result<Vec<u8>, EncodeError> {
    let failed = |source| EncodeError::Encode { table, source };
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(6).map_err(failed)?))
        .set_created_by("tallystick bundle 1".to_owned())
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_dictionary_enabled(true)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
    for field in rows.schema().fields() {
        let path = ColumnPath::from(field.name().as_str());
        let growing = matches!(field.data_type(), DataType::Int32 | DataType::Int64 | DataType::Timestamp(TimeUnit::Microsecond, _));
        if growing {
            properties = properties.set_column_dictionary_enabled(path.clone(), false);
            properties = properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        } else if ["id", "salt", "data", "subject", "quantity"].contains(&field.name().as_str()) {
            properties = properties.set_column_dictionary_enabled(path, false);
        }
    }
    let options = ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), rows.schema(), options).map_err(failed)?;
    writer.write(rows).map_err(failed)?;
    writer.into_inner().map_err(failed)
}
