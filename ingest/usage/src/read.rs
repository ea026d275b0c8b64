//! Meters at work: from an event its readings. A pure function of the event's canonical form and the meters of a registry version.
//! It knows no price and no stream.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use shared_types::{MeterId, NumberError, Quantity, UnitId};

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
    /// Index of the meter among those of the event's type, sorted by meter id: fixed for a registry version.
    pub ordinal: u16,
    /// The meter.
    pub meter: MeterId,
    /// What the quantity counts.
    pub unit: UnitId,
    /// What tells prices apart.
    pub dimensions: Dimensions,
    /// How much, or why that cannot be said.
    pub result: Result<Quantity, Defect>,
}

/// The meters of a registry version, by event type.
#[derive(Clone, Debug, Default)]
pub struct MeterSet {
    types: HashMap<Arc<str>, TypeMeters>,
}

/// The meters of one event type. Meters that name the same dimensions share one list, read once for each event.
#[derive(Clone, Debug, Default)]
struct TypeMeters {
    meters: Vec<Compiled>,
    dimensions: Vec<Vec<(Arc<str>, Path)>>,
}

#[derive(Clone, Debug)]
struct Compiled {
    ordinal: u16,
    id: MeterId,
    unit: UnitId,
    value: Option<Path>,
    negative: Negative,
    /// Index into [`TypeMeters::dimensions`].
    dimensions: usize,
}

/// Member names inside `data`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Path {
    text: Arc<str>,
    names: Vec<Box<str>>,
}

impl Path {
    fn compile(meter: &MeterId, text: &Arc<str>) -> Result<Self, MeterSetError> {
        let names: Vec<Box<str>> = text.split('.').map(Box::from).collect();
        if names.iter().any(|name| name.is_empty()) {
            return Err(MeterSetError::Path { meter: meter.clone(), path: text.clone() });
        }
        Ok(Self { text: text.clone(), names })
    }

    fn field(&self) -> String {
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
            let ordinal =
                u16::try_from(of_type.meters.len()).map_err(|_| MeterSetError::TooMany { event_type: meter.event_type.clone() })?;
            of_type.meters.push(Compiled { ordinal, id: meter.id, unit: meter.unit, value, negative: meter.negative, dimensions: list });
        }
        Ok(Self { types })
    }

    /// Whether any meter reads events of the type. An event of another type is quarantined as [`Reason::UnknownType`].
    pub fn reads(&self, event_type: &str) -> bool {
        self.types.contains_key(event_type)
    }

    /// One reading for each meter of the event's type, in order of ordinal; none for a type that no meter reads.
    ///
    /// - Values: JSON numbers or numeric strings, read exactly. `Count` reads 1.
    /// - Nulls: a value that is null or absent is [`Reason::MissingQuantity`]; such a dimension is left out of the reading.
    /// - Dimensions: strings as they are, numbers as plain decimals, booleans as `true` and `false`; arrays, objects, control
    ///   characters and more than [`DIMENSION_BYTES_MAX`] bytes are [`Reason::InvalidDimension`].
    pub fn read(&self, event: &Event) -> Vec<MeterReading> {
        let Some(of_type) = self.types.get(event.event_type()) else { return Vec::new() };
        let data = event.data().unwrap_or("{}");
        let lists: Vec<(Dimensions, Option<Defect>)> = of_type.dimensions.iter().map(|list| read_dimensions(data, list)).collect();
        of_type
            .meters
            .iter()
            .map(|meter| {
                let (dimensions, defect) = lists.get(meter.dimensions).cloned().unwrap_or_default();
                MeterReading {
                    ordinal: meter.ordinal,
                    meter: meter.id.clone(),
                    unit: meter.unit.clone(),
                    dimensions,
                    result: match defect {
                        None => read_quantity(data, meter),
                        Some(defect) => Err(defect),
                    },
                }
            })
            .collect()
    }
}

fn read_quantity(data: &str, meter: &Compiled) -> Result<Quantity, Defect> {
    let Some(path) = &meter.value else { return Quantity::parse("1").map_err(|error| refused("data", "1", &error)) };
    let missing = || {
        let remedy = format!("meter {} reads its quantity here; add the member", meter.id);
        Defect::new(Reason::MissingQuantity, &path.field(), "", remedy)
    };
    let text = match find(data, &path.names) {
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

fn refused(field: &str, text: &str, error: &NumberError) -> Defect {
    let (reason, remedy) = match error {
        NumberError::Malformed { .. } => (Reason::InvalidQuantity, "must be a decimal number, plain or quoted"),
        NumberError::TooFine { .. } => (Reason::QuantityTooFine, "has more than 9 decimal places; send a smaller unit"),
        NumberError::TooLarge { .. } | NumberError::Overflow => {
            (Reason::QuantityTooLarge, "has more than 29 digits before the decimal point; send a larger unit")
        }
    };
    Defect::new(reason, field, text, remedy)
}

fn read_dimensions(data: &str, list: &[(Arc<str>, Path)]) -> (Dimensions, Option<Defect>) {
    let mut pairs = Vec::with_capacity(list.len());
    let mut defect = None;
    for (name, path) in list {
        let invalid = |text: &str, remedy: &str| Defect::new(Reason::InvalidDimension, &path.field(), text, remedy);
        match find(data, &path.names) {
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
enum Found<'a> {
    Null,
    /// A string or a number.
    Text(Cow<'a, str>),
    /// The JSON of a boolean, an array or an object.
    Other(&'a str),
}

/// The value at a path, or nothing where a member is absent or a step leads into something that is no object.
fn find<'a>(data: &'a str, names: &[Box<str>]) -> Option<Found<'a>> {
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
