//! Meters at work: from an event its readings. A pure function of the event's canonical form and the meters of a registry version.
//! It knows no price and no stream.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use shared_types::{Instant, MeterId, NumberError, Quantity, UnitId};

use crate::billable::{Policy, Source};
use crate::json::{Cursor, JsonError};
use crate::{Aggregation, Defect, Dimensions, Event, Meter, Negative, Reason};

/// Longest value of a dimension, in bytes.
pub const DIMENSION_BYTES_MAX: usize = 1024;

/// Why meters do not make a set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeterSetError {
    /// A name stands for two meters.
    #[error("meter {meter} is defined twice")]
    Repeated {
        /// The name.
        meter: MeterId,
    },
    /// A sum needs a value to add up.
    #[error("meter {meter} sums but names no value")]
    WithoutValue {
        /// The meter.
        meter: MeterId,
    },
    /// A count reads no value: a named one would be ignored.
    #[error("meter {meter} counts but names value {value:?}")]
    CountWithValue {
        /// The meter.
        meter: MeterId,
        /// The value's path.
        value: Arc<str>,
    },
    /// A path that can lead nowhere.
    #[error("meter {meter} names the path {path:?}: member names joined by dots are wanted")]
    Path {
        /// The meter.
        meter: MeterId,
        /// The path.
        path: Arc<str>,
    },
    /// Only values can be parts of a total.
    #[error("meter {meter} counts events, so it cannot be a part of {total:?}")]
    CountAsPart {
        /// The meter.
        meter: MeterId,
        /// The total's path.
        total: Arc<str>,
    },
    /// A level that is held over time is no part of a total.
    #[error("meter {meter} bills time, so it cannot be a part of {total:?}")]
    TimeAsPart {
        /// The meter.
        meter: MeterId,
        /// The total's path.
        total: Arc<str>,
    },
    /// Ordinals are 16 bits wide.
    #[error("more than 65536 meters read events of type {event_type:?}")]
    TooMany {
        /// The type.
        event_type: Arc<str>,
    },
}

/// One meter's reading of an event, good or refused. A refused one has its dimensions too, as far as they could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterReading {
    /// Number of the reading within its event, from 0: by meter id, then by time. Fixed for a registry version.
    pub ordinal: u16,
    /// The meter.
    pub meter: MeterId,
    /// What the quantity counts.
    pub unit: UnitId,
    /// What tells prices apart.
    pub dimensions: Dimensions,
    /// When it began: the event's time, or where a piece of it begins.
    pub start_at: Instant,
    /// When it ended, for intervals.
    pub end_at: Option<Instant>,
    /// How much, or why that cannot be said.
    pub result: Result<Quantity, Defect>,
}

/// What an event says about a total and its parts, whether or not they add up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatedParts {
    /// The total; none where it is absent or no quantity.
    pub total: Option<Quantity>,
    /// Every meter of the total with its dimensions and its part; zero where that is absent or no quantity.
    pub parts: Vec<(MeterId, Dimensions, Quantity)>,
}

/// The meters of a registry version, by event type.
#[derive(Clone, Debug, Default)]
pub struct MeterSet {
    types: HashMap<Arc<str>, TypeMeters>,
}

/// The meters of one event type. Meters that name the same dimensions share one list, read once for each event; so do the parts of a total.
#[derive(Clone, Debug, Default)]
struct TypeMeters {
    meters: Vec<Compiled>,
    dimensions: Vec<Vec<(Arc<str>, Path)>>,
    totals: Vec<Path>,
}

#[derive(Clone, Debug)]
struct Compiled {
    id: MeterId,
    unit: UnitId,
    value: Option<Path>,
    negative: Negative,
    /// Index into [`TypeMeters::dimensions`].
    dimensions: usize,
    /// Index into [`TypeMeters::totals`], for a part of one.
    part_of: Option<usize>,
    /// For levels whose time is billed by states.
    billable: Option<Policy>,
}

/// Member names inside `data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    text: Arc<str>,
    pub(crate) names: Vec<Box<str>>,
}

impl Path {
    pub(crate) fn compile(meter: &MeterId, text: &Arc<str>) -> Result<Self, MeterSetError> {
        let names: Vec<Box<str>> = text.split('.').map(Box::from).collect();
        if names.iter().any(|name| name.is_empty()) {
            return Err(MeterSetError::Path { meter: meter.clone(), path: text.clone() });
        }
        Ok(Self { text: text.clone(), names })
    }

    pub(crate) fn field(&self) -> String {
        format!("data.{}", self.text)
    }
}

impl MeterSet {
    /// Compiles meters.
    ///
    /// - Errors: the first meter that cannot work.
    pub fn new(mut meters: Vec<Meter>) -> Result<Self, MeterSetError> {
        meters.sort_by(|a, b| a.id.cmp(&b.id));
        if let Some((meter, _)) = meters.iter().zip(meters.iter().skip(1)).find(|(a, b)| a.id == b.id) {
            return Err(MeterSetError::Repeated { meter: meter.id.clone() });
        }
        let mut types: HashMap<Arc<str>, TypeMeters> = HashMap::new();
        for meter in meters {
            let value = match (meter.aggregation, &meter.value) {
                (Aggregation::Sum, Some(path)) => Some(Path::compile(&meter.id, path)?),
                (Aggregation::Count, None) => None,
                (Aggregation::Sum, None) => return Err(MeterSetError::WithoutValue { meter: meter.id }),
                (Aggregation::Count, Some(value)) => {
                    return Err(MeterSetError::CountWithValue { meter: meter.id, value: value.clone() });
                }
            };
            let dimensions: Vec<(Arc<str>, Path)> = meter
                .dimensions
                .iter()
                .map(|(name, path)| Ok((name.clone(), Path::compile(&meter.id, path)?)))
                .collect::<Result<_, MeterSetError>>()?;
            let of_type = types.entry(meter.event_type.clone()).or_default();
            let list = of_type.dimensions.iter().position(|list| *list == dimensions).unwrap_or_else(|| {
                of_type.dimensions.push(dimensions);
                of_type.dimensions.len() - 1
            });
            if of_type.meters.len() >= READINGS_MAX {
                return Err(MeterSetError::TooMany { event_type: meter.event_type.clone() });
            }
            let billable = meter.billable.as_ref().map(|policy| Policy::compile(&meter.id, policy)).transpose()?;
            let part_of = match (meter.part_of, &value) {
                (None, _) => None,
                (Some(total), _) if billable.is_some() => return Err(MeterSetError::TimeAsPart { meter: meter.id, total }),
                (Some(total), None) => return Err(MeterSetError::CountAsPart { meter: meter.id, total }),
                (Some(total), Some(_)) => {
                    let total = Path::compile(&meter.id, &total)?;
                    Some(of_type.totals.iter().position(|known| *known == total).unwrap_or_else(|| {
                        of_type.totals.push(total);
                        of_type.totals.len() - 1
                    }))
                }
            };
            let negative = meter.negative;
            of_type.meters.push(Compiled { id: meter.id, unit: meter.unit, value, negative, dimensions: list, part_of, billable });
        }
        Ok(Self { types })
    }

    /// Whether any meter reads events of the type. An event of another type is quarantined as [`Reason::UnknownType`].
    pub fn reads(&self, event_type: &str) -> bool {
        self.types.contains_key(event_type)
    }

    /// One reading for each meter of the event's type, in order of ordinal; none for a type that no meter reads, and none of a part of a
    /// total that is absent or zero. Of a level whose time is billed by states, one for each piece of billed time, or a refused one.
    ///
    /// - Totals: where the parts of a total do not add up to it, or one of them or the total cannot be read, every meter of that total is
    ///   refused: [`Reason::PartsDiffer`], [`Reason::MissingQuantity`] of the total, or the part's own reason.
    /// - Values: JSON numbers or numeric strings, read exactly. `Count` reads 1.
    /// - Nulls: a value that is null or absent is [`Reason::MissingQuantity`]; such a dimension is left out of the reading.
    /// - Dimensions: strings as they are, numbers as plain decimals, booleans as `true` and `false`; arrays, objects, control
    ///   characters and more than [`DIMENSION_BYTES_MAX`] bytes are [`Reason::InvalidDimension`].
    pub fn read(&self, event: &Event) -> Vec<MeterReading> {
        let Some(of_type) = self.types.get(event.event_type()) else { return Vec::new() };
        let data = event.data().unwrap_or("{}");
        let lists: Vec<(Dimensions, Option<Defect>)> = of_type.dimensions.iter().map(|list| read_dimensions(whole(data), list)).collect();
        let totals: Vec<Option<Defect>> = (0..of_type.totals.len()).map(|total| of_type.parts_differ(total, data)).collect();
        let mut readings = Vec::with_capacity(of_type.meters.len());
        // What all meters together may give has a number.
        let most = READINGS_MAX.checked_div(of_type.meters.len()).unwrap_or(1);
        for meter in &of_type.meters {
            if let Some(policy) = &meter.billable {
                of_type.time(meter, policy, event, most, &mut readings);
                continue;
            }
            let differ = meter.part_of.and_then(|total| totals.get(total)?.clone());
            let quantity = match (meter.part_of, differ) {
                (None, _) => read_quantity(whole(data), meter),
                (Some(_), None) => read_part(data, meter).map(|part| part.unwrap_or(Quantity::ZERO)),
                (Some(_), Some(differ)) => read_part(data, meter).and(Err(differ)),
            };
            // The other parts fill the total, so nothing is missing here.
            if meter.part_of.is_some() && quantity == Ok(Quantity::ZERO) {
                continue;
            }
            let (dimensions, defect) = lists.get(meter.dimensions).cloned().unwrap_or_default();
            let result = match defect {
                None => quantity,
                Some(defect) => Err(defect),
            };
            push(&mut readings, meter, dimensions, (event.start_at(), event.end_at()), result);
        }
        readings
    }
}

/// Readings of one event at most: ordinals are 16 bits wide.
const READINGS_MAX: usize = 65_536;

fn push(
    readings: &mut Vec<MeterReading>,
    meter: &Compiled,
    dimensions: Dimensions,
    (start_at, end_at): (Instant, Option<Instant>),
    result: Result<Quantity, Defect>,
) {
    // No more than READINGS_MAX are pushed.
    let ordinal = u16::try_from(readings.len()).unwrap_or(u16::MAX);
    readings.push(MeterReading { ordinal, meter: meter.id.clone(), unit: meter.unit.clone(), dimensions, start_at, end_at, result });
}

/// All of an event.
fn whole(data: &str) -> Source<'_> {
    Source { own: None, data }
}

impl MeterSet {
    /// The totals of an event's type with their parts: what was refused as [`Reason::PartsDiffer`], for whoever decides about it.
    pub fn stated_parts(&self, event: &Event) -> Vec<StatedParts> {
        let Some(of_type) = self.types.get(event.event_type()) else { return Vec::new() };
        let data = event.data().unwrap_or("{}");
        let stated = of_type.totals.iter().enumerate().map(|(total, path)| {
            let meters = of_type.meters.iter().filter(|meter| meter.part_of == Some(total));
            let parts = meters.map(|meter| {
                let dimensions = of_type.dimensions.get(meter.dimensions).map(|list| read_dimensions(whole(data), list).0);
                let quantity = read_part(data, meter).ok().flatten().unwrap_or(Quantity::ZERO);
                (meter.id.clone(), dimensions.unwrap_or_default(), quantity)
            });
            let total = match find(data, &path.names) {
                Some(Found::Text(text)) => Quantity::parse(&text).ok(),
                _ => None,
            };
            StatedParts { total, parts: parts.collect() }
        });
        stated.collect()
    }
}

impl TypeMeters {
    /// The readings of a level whose time is billed by states.
    fn time(&self, meter: &Compiled, policy: &Policy, event: &Event, most: usize, readings: &mut Vec<MeterReading>) {
        let none = Vec::new();
        let list = self.dimensions.get(meter.dimensions).unwrap_or(&none);
        let read = |source: Source<'_>| match read_dimensions(source, list) {
            (_, Some(defect)) => Err(defect),
            (dimensions, None) => Ok((policy.level(source, read_quantity(source, meter)?)?, dimensions)),
        };
        match policy.pieces(event, most, read) {
            Ok(pieces) => {
                for piece in pieces {
                    let (level, own) = piece.read;
                    let own = own.iter().map(|(name, value)| (Arc::from(name), Arc::from(value)));
                    let dimensions = Dimensions::new(piece.dimensions.into_iter().chain(own));
                    push(readings, meter, dimensions, (piece.start, Some(piece.end)), Ok(level));
                }
            }
            Err(defect) => {
                let dimensions = read_dimensions(whole(event.data().unwrap_or("{}")), list).0;
                push(readings, meter, dimensions, (event.start_at(), event.end_at()), Err(defect));
            }
        }
    }

    /// Why the parts of a total do not make it up.
    fn parts_differ(&self, total: usize, data: &str) -> Option<Defect> {
        let path = self.totals.get(total)?;
        let mut sum = Some(Quantity::ZERO);
        for meter in self.meters.iter().filter(|meter| meter.part_of == Some(total)) {
            match read_part(data, meter) {
                Ok(part) => sum = sum.and_then(|sum| sum.checked_add(part.unwrap_or(Quantity::ZERO)).ok()),
                Err(defect) => return Some(defect),
            }
        }
        let stated = match find(data, &path.names) {
            // Without it an event with misspelt parts would have no reading at all.
            None | Some(Found::Null) => {
                let remedy = "meters read parts of this total; send it, 0 where there is none";
                return Some(Defect::new(Reason::MissingQuantity, &path.field(), "", remedy));
            }
            Some(Found::Text(text)) => text,
            Some(Found::Other(text)) => Cow::Borrowed(text),
        };
        if sum.is_some() && Quantity::parse(&stated).ok() == sum {
            return None;
        }
        let added = sum.map_or_else(|| "more than a quantity holds".to_owned(), |sum| sum.to_string());
        let remedy = format!("the parts of this total add up to {added}; send each unit in exactly one part");
        Some(Defect::new(Reason::PartsDiffer, &path.field(), &stated, remedy))
    }
}

/// The value of a part of a total; none where it is absent.
fn read_part(data: &str, meter: &Compiled) -> Result<Option<Quantity>, Defect> {
    match read_quantity(whole(data), meter) {
        Ok(quantity) => Ok(Some(quantity)),
        Err(defect) if defect.reason == Reason::MissingQuantity => Ok(None),
        Err(defect) => Err(defect),
    }
}

fn read_quantity(source: Source<'_>, meter: &Compiled) -> Result<Quantity, Defect> {
    let Some(path) = &meter.value else { return Quantity::parse("1").map_err(|error| refused("data", "1", &error)) };
    let missing = || {
        let remedy = format!("meter {} reads its quantity here; add the member", meter.id);
        Defect::new(Reason::MissingQuantity, &path.field(), "", remedy)
    };
    let text = match source.find(path) {
        None | Some(Found::Null) => return Err(missing()),
        Some(Found::Text(text)) => text,
        Some(Found::Other(text)) => {
            return Err(Defect::new(Reason::InvalidQuantity, &path.field(), text, "must be a decimal number, plain or quoted"));
        }
    };
    let quantity = Quantity::parse(&text).map_err(|error| refused(&path.field(), &text, &error))?;
    if meter.negative == Negative::Quarantine && quantity < Quantity::ZERO {
        let remedy = format!("meter {} takes no negative quantities", meter.id);
        return Err(Defect::new(Reason::NegativeQuantity, &path.field(), &text, remedy));
    }
    Ok(quantity)
}

pub(crate) fn refused(field: &str, text: &str, error: &NumberError) -> Defect {
    let (reason, remedy) = match error {
        NumberError::Malformed { .. } => (Reason::InvalidQuantity, "must be a decimal number, plain or quoted"),
        NumberError::TooFine { .. } => (Reason::QuantityTooFine, "has more than 9 decimal places; send a smaller unit"),
        NumberError::TooLarge { .. } | NumberError::Overflow => {
            (Reason::QuantityTooLarge, "has more than 29 digits before the decimal point; send a larger unit")
        }
    };
    Defect::new(reason, field, text, remedy)
}

fn read_dimensions(source: Source<'_>, list: &[(Arc<str>, Path)]) -> (Dimensions, Option<Defect>) {
    let mut pairs = Vec::with_capacity(list.len());
    let mut defect = None;
    for (name, path) in list {
        let invalid = |text: &str, remedy: &str| Defect::new(Reason::InvalidDimension, &path.field(), text, remedy);
        match source.find(path) {
            None | Some(Found::Null) => {}
            Some(Found::Text(text)) if text.len() > DIMENSION_BYTES_MAX || text.chars().any(char::is_control) => {
                let found = invalid(&text, "a dimension has at most 1024 bytes and no control characters");
                defect.get_or_insert(found);
            }
            Some(Found::Text(text)) => pairs.push((name.clone(), Arc::from(text.as_ref()))),
            Some(Found::Other("true")) => pairs.push((name.clone(), Arc::from("true"))),
            Some(Found::Other("false")) => pairs.push((name.clone(), Arc::from("false"))),
            Some(Found::Other(text)) => {
                defect.get_or_insert(invalid(text, "a dimension is a string, a number or a boolean"));
            }
        }
    }
    (Dimensions::new(pairs), defect)
}

/// A value of canonical data. Numbers stand there as quoted plain decimals, hence as text.
pub(crate) enum Found<'a> {
    Null,
    /// A string or a number.
    Text(Cow<'a, str>),
    /// The JSON of a boolean, an array or an object.
    Other(&'a str),
}

/// The value at a path, or nothing where a member is absent or a step leads into something that is no object.
pub(crate) fn find<'a>(data: &'a str, names: &[Box<str>]) -> Option<Found<'a>> {
    let mut cursor = Cursor::new(data);
    for name in names {
        if !enter(&mut cursor, name) {
            return None;
        }
    }
    if cursor.peek() == Some(b'"') {
        return cursor.string().ok().map(Found::Text);
    }
    let start = cursor.at();
    cursor.skip(0).ok()?;
    match cursor.slice(start, cursor.at()) {
        "null" => Some(Found::Null),
        other => Some(Found::Other(other)),
    }
}

/// Moves the cursor from an object to the value of one of its members.
fn enter(cursor: &mut Cursor<'_>, wanted: &str) -> bool {
    let mut at = None;
    // The walk is stopped by an error as soon as the member is found; canonical text has no other errors.
    let _ = cursor.members(|cursor, name| {
        if name == wanted {
            at = Some(cursor.at());
            return Err(JsonError { at: cursor.at(), what: String::new() });
        }
        cursor.skip(0)
    });
    at.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventLimits;
    use shared_types::Instant;

    fn meter(id: &str, value: Option<&str>, dimensions: &[(&str, &str)]) -> Meter {
        Meter {
            id: MeterId::parse(id).unwrap(),
            event_type: Arc::from("llm.request"),
            aggregation: if value.is_some() { Aggregation::Sum } else { Aggregation::Count },
            value: value.map(Arc::from),
            unit: UnitId::parse("token").unwrap(),
            dimensions: dimensions.iter().map(|(name, path)| (Arc::from(*name), Arc::from(*path))).collect(),
            negative: Negative::Quarantine,
            part_of: None,
            billable: None,
        }
    }

    fn event(event_type: &str, data: &str) -> Event {
        let text = format!(
            r#"{{"specversion":"1.0","id":"1","source":"s","type":"{event_type}","organization":"o","time":"2026-01-01T00:00:00Z","data":{data}}}"#
        );
        Event::parse(text.as_bytes(), Instant::parse("2026-01-01T00:00:00Z").unwrap(), &EventLimits::default()).unwrap()
    }

    fn shown(readings: &[MeterReading]) -> Vec<String> {
        readings
            .iter()
            .map(|reading| {
                let result = match &reading.result {
                    Ok(quantity) => quantity.to_string(),
                    Err(defect) => format!("{}: {defect}", defect.reason),
                };
                format!("{} {} {} {result}", reading.ordinal, reading.meter, reading.dimensions.canonical())
            })
            .collect()
    }

    fn check(meters: Vec<Meter>, data: &str, expected: &[&str]) {
        assert_eq!(shown(&MeterSet::new(meters).unwrap().read(&event("llm.request", data))), expected, "{data}");
    }

    #[test]
    fn meters_read_in_order_of_their_ids() {
        let meters = vec![
            meter("tokens.output", Some("usage.output"), &[("model", "model")]),
            meter("requests", None, &[]),
            meter("tokens.input", Some("usage.input"), &[("model", "model"), ("batch", "batch"), ("tier", "tier"), ("size", "size")]),
        ];
        let data =
            r#"{"usage":{"a":{"input":7},"input":1.50,"output":"2e1"},"model":"m\"1","batch":true,"size":1.50,"tier":null,"input":9}"#;
        check(
            meters,
            data,
            &[
                "0 requests {} 1",
                r#"1 tokens.input {"batch":"true","model":"m\"1","size":"1.5"} 1.5"#,
                r#"2 tokens.output {"model":"m\"1"} 20"#,
            ],
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        let meters = || vec![meter("m", Some("v"), &[])];
        check(meters(), "{}", &["0 m {} missing_quantity: data.v: meter m reads its quantity here; add the member"]);
        check(meters(), r#"{"v":null}"#, &["0 m {} missing_quantity: data.v: meter m reads its quantity here; add the member"]);
        for (value, shown) in [("true", "true"), ("{}", "{}"), ("[1]", "[\\\"1\\\"]"), ("\"x\"", "x"), ("\"NaN\"", "NaN"), ("\" 1\"", " 1")]
        {
            check(
                meters(),
                &format!(r#"{{"v":{value}}}"#),
                &[&format!("0 m {{}} invalid_quantity: data.v \"{shown}\": must be a decimal number, plain or quoted")],
            );
        }
        check(
            meters(),
            r#"{"v":1e-10}"#,
            &["0 m {} quantity_too_fine: data.v \"0.0000000001\": has more than 9 decimal places; send a smaller unit"],
        );
        check(
            meters(),
            r#"{"v":1e29}"#,
            &[
                "0 m {} quantity_too_large: data.v \"100000000000000000000000000000\": has more than 29 digits before the decimal point; send a larger unit",
            ],
        );
        check(meters(), r#"{"v":-0.5}"#, &["0 m {} negative_quantity: data.v \"-0.5\": meter m takes no negative quantities"]);
        check(meters(), r#"{"v":-0}"#, &["0 m {} 0"]);
        check(vec![Meter { negative: Negative::Accept, ..meter("m", Some("v"), &[]) }], r#"{"v":-0.5}"#, &["0 m {} -0.5"]);
        check(meters(), r#"{"v":99999999999999999999999999999.999999999}"#, &["0 m {} 99999999999999999999999999999.999999999"]);
        check(
            vec![meter("m", Some("a.b"), &[])],
            r#"{"a":"b"}"#,
            &["0 m {} missing_quantity: data.a.b: meter m reads its quantity here; add the member"],
        );
    }

    #[test]
    fn a_wrong_dimension_refuses_the_readings_that_name_it_and_no_others() {
        let meters = vec![meter("a", Some("v"), &[("d", "d"), ("e", "e")]), meter("b", Some("v"), &[("e", "e")])];
        check(
            meters.clone(),
            r#"{"v":1,"d":[1],"e":"x"}"#,
            &[r#"0 a {"e":"x"} invalid_dimension: data.d "[\"1\"]": a dimension is a string, a number or a boolean"#, r#"1 b {"e":"x"} 1"#],
        );
        let long = format!(r#"{{"v":1,"e":"{}"}}"#, "x".repeat(1025));
        let set = MeterSet::new(meters).unwrap();
        assert!(set.read(&event("llm.request", &long)).iter().all(|reading| reading.result.is_err()));
    }

    #[test]
    fn parts_of_a_total_add_up_to_it_or_none_of_them_has_a_quantity() {
        let part = |id: &str| Meter { part_of: Some(Arc::from("total")), ..meter(id, Some(id), &[]) };
        let meters = || vec![part("cached"), part("fresh"), meter("other", Some("other"), &[])];
        check(meters(), r#"{"total":10,"cached":4,"fresh":6,"other":1}"#, &["0 cached {} 4", "1 fresh {} 6", "2 other {} 1"]);
        check(meters(), r#"{"total":6,"cached":0,"fresh":6,"other":1}"#, &["0 fresh {} 6", "1 other {} 1"]);
        check(meters(), r#"{"total":6,"fresh":6,"other":1}"#, &["0 fresh {} 6", "1 other {} 1"]);
        check(meters(), r#"{"total":0,"other":1}"#, &["0 other {} 1"]);
        let missing = "missing_quantity: data.total: meters read parts of this total; send it, 0 where there is none";
        for data in [r#"{"other":1}"#, r#"{"cached":4,"fresh":6,"other":1}"#] {
            check(meters(), data, &[&format!("0 cached {{}} {missing}"), &format!("1 fresh {{}} {missing}"), "2 other {} 1"]);
        }
        for (data, total, sum) in [
            // Cached tokens inside the fresh ones: counted twice.
            (r#"{"total":10,"cached":4,"fresh":10,"other":1}"#, 10, 14),
            // A kind that nobody reads.
            (r#"{"total":10,"fresh":6,"audio":4,"other":1}"#, 10, 6),
            (r#"{"total":5,"other":1}"#, 5, 0),
        ] {
            let remedy = format!("the parts of this total add up to {sum}; send each unit in exactly one part");
            let differ = format!("parts_differ: data.total \"{total}\": {remedy}");
            check(meters(), data, &[&format!("0 cached {{}} {differ}"), &format!("1 fresh {{}} {differ}"), "2 other {} 1"]);
        }
        let invalid = "invalid_quantity: data.cached \"x\": must be a decimal number, plain or quoted";
        check(
            meters(),
            r#"{"total":10,"cached":"x","fresh":6,"other":1}"#,
            &[&format!("0 cached {{}} {invalid}"), &format!("1 fresh {{}} {invalid}"), "2 other {} 1"],
        );
        let count = Meter { part_of: Some(Arc::from("total")), ..meter("n", None, &[]) };
        assert_eq!(MeterSet::new(vec![count]).unwrap_err().to_string(), "meter n counts events, so it cannot be a part of \"total\"");
    }

    #[test]
    fn a_type_without_meters_has_no_readings() {
        let set = MeterSet::new(vec![meter("m", None, &[])]).unwrap();
        assert!(set.reads("llm.request"));
        assert!(!set.reads("llm"));
        assert!(set.read(&event("llm", "{}")).is_empty());
        assert_eq!(set.read(&event("llm.request", "null")).len(), 1);
    }

    #[test]
    fn meters_that_cannot_work_are_refused() {
        let error = |meters| MeterSet::new(meters).unwrap_err().to_string();
        assert_eq!(error(vec![meter("m", None, &[]), meter("m", Some("v"), &[])]), "meter m is defined twice");
        assert_eq!(error(vec![Meter { aggregation: Aggregation::Sum, ..meter("m", None, &[]) }]), "meter m sums but names no value");
        assert_eq!(
            error(vec![Meter { aggregation: Aggregation::Count, ..meter("m", Some("v"), &[]) }]),
            "meter m counts but names value \"v\""
        );
        assert_eq!(
            error(vec![meter("m", None, &[("d", "a..b")])]),
            "meter m names the path \"a..b\": member names joined by dots are wanted"
        );
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(1000))]
        #[test]
        fn quantities_are_exact(units in proptest::num::i128::ANY, quoted in proptest::bool::ANY) {
            let units = (units % 10_i128.pow(38)).abs();
            let quantity = Quantity::from_units(units).unwrap();
            let value = if quoted { format!("\"{quantity}\"") } else { quantity.to_string() };
            let set = MeterSet::new(vec![meter("m", Some("a.v"), &[])]).unwrap();
            let readings = set.read(&event("llm.request", &format!(r#"{{"a":{{"u":[{{"v":1}}],"v":{value}}}}}"#)));
            proptest::prop_assert_eq!(&readings[0].result, &Ok(quantity));
        }
    }
}
