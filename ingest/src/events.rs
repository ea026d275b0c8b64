//! The `events` table of a batch: one row for each stream position that says what became of it.
//! It knows the table's shape, not how outcomes are decided ([`crate::batch`]) nor where files lie.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, FixedSizeBinaryBuilder, Int32Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use platform_usage::Reason;
use shared_types::{Digest, IdentityHash, Instant, Position};

/// What became of a stream position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A new event: its readings are in `charges`.
    Accepted,
    /// The same event again.
    Duplicate,
    /// The same identity with other content: visible, never counted.
    Conflict,
    /// Not usable as it is; raw bytes and reason are kept.
    Quarantined,
    /// A control record.
    Control,
}

impl Outcome {
    /// Stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Conflict => "conflict",
            Self::Quarantined => "quarantined",
            Self::Control => "control",
        }
    }
}

/// One row of `events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// Where the record stands.
    pub position: Position,
    /// Identity, where one could be read.
    pub identity: Option<IdentityHash>,
    /// SHA-256 of the canonical attributes, where there is an identity.
    pub content_digest: Option<Digest>,
    /// What became of it.
    pub outcome: Outcome,
    /// The first acceptance, for duplicates and conflicts.
    pub first: Option<Position>,
    /// As far as readable.
    pub organization: Option<String>,
    /// As far as readable.
    pub project: Option<String>,
    /// As far as readable.
    pub source: Option<String>,
    /// As far as readable.
    pub event_id: Option<String>,
    /// As far as readable.
    pub event_type: Option<String>,
    /// As far as readable.
    pub subject: Option<String>,
    /// When the usage began.
    pub start_at: Option<Instant>,
    /// When it ended, for intervals.
    pub end_at: Option<Instant>,
    /// When the record entered the stream.
    pub accepted_at: Instant,
    /// Canonical JSON of the event; accepted events only.
    pub attributes: Option<String>,
    /// How many rows the event has in `charges`; 0 unless accepted, or a control record that had usage rated again.
    pub readings: i32,
    /// Quarantined events: why.
    pub reason: Option<Reason>,
    /// Quarantined events and controls: the words for a person.
    pub detail: Option<String>,
    /// Quarantined and conflicting events: what the source sent.
    pub raw: Option<Vec<u8>>,
    /// Sequenced sources: the lane's epoch.
    pub lane_epoch: Option<i64>,
    /// Sequenced sources: the number in the lane.
    pub lane_sequence: Option<i64>,
}

/// Columns by which the rows of a batch are digested: stream order.
pub const EVENTS_ORDER: &[&str] = &["shard", "incarnation", "sequence"];
/// Columns by which the file is sorted.
pub const EVENTS_SORT: &[&str] = &["organization", "shard", "incarnation", "sequence"];

fn instant_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The frozen shape of `events`; field ids are dense from 1.
pub fn events_schema() -> SchemaRef {
    let columns: [(&str, DataType, bool); 24] = [
        ("shard", DataType::Int32, false),
        ("incarnation", DataType::Int64, false),
        ("sequence", DataType::Int64, false),
        ("identity", DataType::FixedSizeBinary(16), true),
        ("content_digest", DataType::FixedSizeBinary(32), true),
        ("outcome", DataType::Utf8, false),
        ("first_shard", DataType::Int32, true),
        ("first_incarnation", DataType::Int64, true),
        ("first_sequence", DataType::Int64, true),
        ("organization", DataType::Utf8, true),
        ("project", DataType::Utf8, true),
        ("source", DataType::Utf8, true),
        ("event_id", DataType::Utf8, true),
        ("event_type", DataType::Utf8, true),
        ("subject", DataType::Utf8, true),
        ("start_at", instant_type(), true),
        ("end_at", instant_type(), true),
        ("accepted_at", instant_type(), false),
        ("attributes", DataType::Utf8, true),
        ("readings", DataType::Int32, false),
        ("reason", DataType::Utf8, true),
        ("detail", DataType::Utf8, true),
        ("raw", DataType::Binary, true),
        ("lane_epoch", DataType::Int64, true),
    ];
    let lane_sequence = ("lane_sequence", DataType::Int64, true);
    let fields: Vec<Field> = columns
        .into_iter()
        .chain([lane_sequence])
        .enumerate()
        .map(|(at, (name, kind, nullable))| {
            let id = HashMap::from([("PARQUET:field_id".to_owned(), at.saturating_add(1).to_string())]);
            Field::new(name, kind, nullable).with_metadata(id)
        })
        .collect();
    Arc::new(Schema::new(fields))
}

/// Number → signed 64 bits; sequences never come near the limit.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Rows as Arrow columns in the order given.
///
/// - Errors: only Arrow's own, when a column cannot be built.
pub fn events_to_arrow(rows: &[EventRow]) -> Result<RecordBatch, ArrowError> {
    let n = rows.len();
    let mut shard = Int32Builder::with_capacity(n);
    let mut incarnation = Int64Builder::with_capacity(n);
    let mut sequence = Int64Builder::with_capacity(n);
    let mut identity = FixedSizeBinaryBuilder::with_capacity(n, 16);
    let mut content_digest = FixedSizeBinaryBuilder::with_capacity(n, 32);
    let mut first_shard = Int32Builder::with_capacity(n);
    let mut first_incarnation = Int64Builder::with_capacity(n);
    let mut first_sequence = Int64Builder::with_capacity(n);
    let mut raw = BinaryBuilder::new();
    let mut readings = Int32Builder::with_capacity(n);
    let mut lane_epoch = Int64Builder::with_capacity(n);
    let mut lane_sequence = Int64Builder::with_capacity(n);
    for row in rows {
        shard.append_value(i32::from(row.position.shard.number()));
        incarnation.append_value(i64::from(row.position.incarnation.0));
        sequence.append_value(signed(row.position.sequence.0));
        match &row.identity {
            Some(hash) => identity.append_value(hash.0)?,
            None => identity.append_null(),
        }
        match &row.content_digest {
            Some(digest) => content_digest.append_value(digest.0)?,
            None => content_digest.append_null(),
        }
        first_shard.append_option(row.first.map(|first| i32::from(first.shard.number())));
        first_incarnation.append_option(row.first.map(|first| i64::from(first.incarnation.0)));
        first_sequence.append_option(row.first.map(|first| signed(first.sequence.0)));
        raw.append_option(row.raw.as_deref());
        readings.append_value(row.readings);
        lane_epoch.append_option(row.lane_epoch);
        lane_sequence.append_option(row.lane_sequence);
    }
    let text = |of: &dyn Fn(&EventRow) -> Option<&str>| -> ArrayRef {
        let mut builder = StringBuilder::new();
        for row in rows {
            builder.append_option(of(row));
        }
        Arc::new(builder.finish())
    };
    let instant = |of: &dyn Fn(&EventRow) -> Option<Instant>| -> ArrayRef {
        let mut builder = TimestampMicrosecondBuilder::with_capacity(n).with_timezone("UTC");
        for row in rows {
            builder.append_option(of(row).map(Instant::micros));
        }
        Arc::new(builder.finish())
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(shard.finish()),
        Arc::new(incarnation.finish()),
        Arc::new(sequence.finish()),
        Arc::new(identity.finish()),
        Arc::new(content_digest.finish()),
        text(&|row| Some(row.outcome.code())),
        Arc::new(first_shard.finish()),
        Arc::new(first_incarnation.finish()),
        Arc::new(first_sequence.finish()),
        text(&|row| row.organization.as_deref()),
        text(&|row| row.project.as_deref()),
        text(&|row| row.source.as_deref()),
        text(&|row| row.event_id.as_deref()),
        text(&|row| row.event_type.as_deref()),
        text(&|row| row.subject.as_deref()),
        instant(&|row| row.start_at),
        instant(&|row| row.end_at),
        instant(&|row| Some(row.accepted_at)),
        text(&|row| row.attributes.as_deref()),
        Arc::new(readings.finish()),
        text(&|row| row.reason.map(Reason::code)),
        text(&|row| row.detail.as_deref()),
        Arc::new(raw.finish()),
        Arc::new(lane_epoch.finish()),
        Arc::new(lane_sequence.finish()),
    ];
    RecordBatch::try_new(events_schema(), columns)
}
