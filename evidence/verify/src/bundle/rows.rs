//! The two tables as rows. It judges nothing but what it cannot read.

use std::collections::HashMap;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::{EVENTS, Files, READINGS, Unreadable, bytes, unreadable};
use crate::finding::Stage;
use crate::table::{self, Damage};
use crate::tree::Hash;

/// One leaf and what it was priced by.
pub(super) struct Reading {
    pub(super) month: i32,
    pub(super) log_seq: i64,
    /// The number by which it names its event, and where that stands among the events.
    pub(super) number: i64,
    pub(super) event: Option<usize>,
    pub(super) meter: String,
    pub(super) unit: String,
    pub(super) quantity: i128,
    /// When it begins and ends, where it is a piece of its event.
    pub(super) piece: Option<(i64, Option<i64>)>,
    pub(super) version: String,
    pub(super) contract: String,
    pub(super) sku: String,
    pub(super) price: String,
    pub(super) check: i32,
}

/// One event; `text` is what its commitment is over.
pub(super) struct Event {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) source: String,
    pub(super) text: String,
    pub(super) data: Value,
    pub(super) start: i64,
    pub(super) end: Option<i64>,
    /// What decides between events that start together; zero where none does.
    pub(super) tie: i32,
    pub(super) salt: Hash,
}

/// Both tables.
pub(super) struct Rows {
    pub(super) readings: Vec<Reading>,
    pub(super) events: Vec<Event>,
}

fn frames(files: &Files, path: &str) -> anyhow::Result<Vec<table::Frame>> {
    table::read(bytes(files, path, Stage::Logs)?).map_err(|Damage { row_group, why }| {
        let row = row_group.map_or("footer".to_owned(), |group| format!("row group {group}"));
        Unreadable { stage: Stage::Logs, file: path.to_owned(), row, why }.into()
    })
}

/// Reads both tables.
pub(super) fn read_rows(files: &Files) -> anyhow::Result<Rows> {
    let broken = |path: &'static str| move |error: anyhow::Error| unreadable(Stage::Logs, path, error);
    let mut events = Vec::new();
    let mut places = HashMap::new();
    for frame in &frames(files, EVENTS)? {
        read_events(frame, &mut events, &mut places).map_err(broken(EVENTS))?;
    }
    let mut readings = Vec::new();
    for frame in &frames(files, READINGS)? {
        read_readings(frame, &places, &mut readings).map_err(broken(READINGS))?;
    }
    Ok(Rows { readings, events })
}

fn read_events(frame: &table::Frame, events: &mut Vec<Event>, places: &mut HashMap<i64, usize>) -> anyhow::Result<()> {
    let mut numbers = table::int64s(frame, "event")?.into_iter();
    let mut ids = table::given_texts(frame, "id")?.into_iter();
    let mut kinds = table::given_texts(frame, "type")?.into_iter();
    let mut sources = table::given_texts(frame, "source")?.into_iter();
    let mut projects = table::texts(frame, "project")?.into_iter();
    let mut subjects = table::texts(frame, "subject")?.into_iter();
    let mut data = table::texts(frame, "data")?.into_iter();
    let mut starts = table::instants(frame, "start_at")?.into_iter();
    let mut ends = table::instants(frame, "end_at")?.into_iter();
    let mut ties = table::optional_int32s(frame, "tie")?.into_iter();
    let mut salts = table::hashes(frame, "salt")?.into_iter();
    while let (
        Some(number),
        Some(id),
        Some(kind),
        Some(source),
        Some(project),
        Some(subject),
        Some(data),
        Some(start),
        Some(end),
        Some(tie),
        Some(salt),
    ) = (
        numbers.next(),
        ids.next(),
        kinds.next(),
        sources.next(),
        projects.next(),
        subjects.next(),
        data.next(),
        starts.next(),
        ends.next(),
        ties.next(),
        salts.next(),
    ) {
        let quoted = |text: &str| Value::from(text).to_string();
        let members = [
            ("data", data.clone()),
            ("id", Some(quoted(&id))),
            ("project", project.as_deref().map(quoted)),
            ("source", Some(quoted(&source))),
            ("subject", subject.as_deref().map(quoted)),
            ("type", Some(quoted(&kind))),
        ];
        let members: Vec<String> = members.into_iter().filter_map(|(name, value)| Some(format!("\"{name}\":{}", value?))).collect();
        let text = format!("{{{}}}", members.join(","));
        let data = match &data {
            Some(data) => serde_json::from_str(data).with_context(|| format!("the data of event {number} is no JSON"))?,
            None => Value::Object(serde_json::Map::new()),
        };
        if places.insert(number, events.len()).is_some() {
            bail!("event {number} is there twice");
        }
        let start = start.with_context(|| format!("event {number} has no start_at"))?;
        events.push(Event { id, kind, source, text, data, start, end, tie: tie.unwrap_or(0), salt });
    }
    Ok(())
}

fn read_readings(frame: &table::Frame, places: &HashMap<i64, usize>, readings: &mut Vec<Reading>) -> anyhow::Result<()> {
    let mut months = table::int32s(frame, "month")?.into_iter();
    let mut log_seqs = table::int64s(frame, "log_seq")?.into_iter();
    let mut events = table::int64s(frame, "event")?.into_iter();
    let mut meters = table::given_texts(frame, "meter")?.into_iter();
    let mut units = table::given_texts(frame, "unit")?.into_iter();
    let mut quantities = table::decimals(frame, "quantity")?.into_iter();
    let mut versions = table::hashes(frame, "registry_version")?.into_iter();
    let mut contracts = table::given_texts(frame, "contract")?.into_iter();
    let mut skus = table::given_texts(frame, "sku")?.into_iter();
    let mut prices = table::given_texts(frame, "price_id")?.into_iter();
    let mut starts = table::instants(frame, "start_at")?.into_iter();
    let mut ends = table::instants(frame, "end_at")?.into_iter();
    let mut checks = table::int32s(frame, "leaf_check")?.into_iter();
    while let (
        Some(month),
        Some(log_seq),
        Some(event),
        Some(meter),
        Some(unit),
        Some(quantity),
        Some(version),
        Some(contract),
        Some(sku),
        Some(price),
        Some(start),
        Some(end),
        Some(check),
    ) = (
        months.next(),
        log_seqs.next(),
        events.next(),
        meters.next(),
        units.next(),
        quantities.next(),
        versions.next(),
        contracts.next(),
        skus.next(),
        prices.next(),
        starts.next(),
        ends.next(),
        checks.next(),
    ) {
        let quantity = quantity.with_context(|| format!("reading {log_seq} of {month} has no quantity"))?;
        let version = hex::encode(version);
        if start.is_none() && end.is_some() {
            bail!("reading {log_seq} of {month} ends, but does not begin");
        }
        readings.push(Reading {
            month,
            log_seq,
            number: event,
            event: places.get(&event).copied(),
            meter,
            unit,
            quantity,
            piece: start.map(|start| (start, end)),
            version,
            contract,
            sku,
            price,
            check,
        });
    }
    Ok(())
}

impl Reading {
    /// When it begins, and ends.
    pub(super) fn times(&self, event: &Event) -> (i64, Option<i64>) {
        self.piece.unwrap_or((event.start, event.end))
    }

    pub(super) fn place(&self) -> String {
        format!("{} leaf {}", self.month, self.log_seq)
    }
}
