//! Cases of meters: what readings measure, windows, shares of a period, identities, and values that are not numbers.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail, ensure};
use num_bigint::BigInt;
use num_rational::BigRational;
use platform_rating::calendar::{Day, window_of};
use platform_rating::{Basis, Clock, Convert, Each, Measure, PriceModel, RoundTo, Segment, Then, contract};
use platform_usage::{Aggregation, Event, EventLimits, IdentityKey, Meter, MeterSet, Negative};
use serde_json::{Map, Value, json};
use shared_types::{Instant, MeterId, Price, Quantity, UnitId};

use super::value::{In, item, list, need, nth, parsed, ratio, rational, text, texts};
use super::workbench::{PERIOD, Use, period_of, rated};

/// What a measure makes of readings, without a price.
fn measured(measure: Measure, convert: Option<Convert>, uses: &[Use]) -> anyhow::Result<Segment> {
    let basis = Basis { measure, convert, ..Basis::default() };
    rated("1", PriceModel::PerUnit { unit_price: Price::ZERO }, basis, uses)?.segment()
}

/// The one quantity that is billed.
fn billed(segment: &Segment) -> anyhow::Result<Value> {
    let [quantity] = segment.billed[..] else { bail!("{} quantities are billed", segment.billed.len()) };
    Ok(ratio(quantity))
}

/// Rounds a converted quantity to decimal places.
fn places(places: i32, to: RoundTo) -> anyhow::Result<Convert> {
    Ok(Convert { multiply: "1".parse()?, divide: "1".parse()?, rounding: Some((places, to)) })
}

/// How fine the texts are beyond nine decimal places, as a power of ten: such sources send a smaller unit, which the price converts back.
fn finer(texts: &[&str]) -> u32 {
    let digits = texts.iter().filter_map(|text| text.split_once('.')).map(|(_, fraction)| fraction.len());
    u32::try_from(digits.max().unwrap_or(0)).unwrap_or(0).saturating_sub(Quantity::SCALE)
}

/// An aggregation over events; those without a value are no readings, but are counted.
pub fn aggregation(given: &In<'_>) -> anyhow::Result<Value> {
    let name = need(given.config, "aggregation")?;
    let events: Vec<Value> = if given.usage.get("values").is_some() {
        texts(given.usage, "values")?.into_iter().map(|value| json!({ "value": value })).collect()
    } else if given.usage.get("events").is_some() {
        list(given.usage, "events")?.to_vec()
    } else {
        // Described in words only.
        let note = need(given.usage, "note")?;
        ensure!(note.contains("last value is negative"), "the usage {note:?} is not understood");
        vec![json!({ "value": "5" }), json!({ "value": "-1" })]
    };
    let values: Vec<_> = events.iter().filter_map(|event| text(event, "value")).collect();
    let exponent = finer(&values.iter().map(AsRef::as_ref).collect::<Vec<_>>());
    let scale = 10_i128.checked_pow(exponent).context("the values are too fine")?;
    let divide: Quantity = scale.to_string().parse()?;
    let mut uses = Vec::new();
    for (place, event) in events.iter().enumerate() {
        // Ages count backwards: what is older comes first. Days apart, so that the order of time is the one of the case.
        let age: i64 = if text(event, "age_days").is_some() { parsed(event, "age_days")? } else { 0 };
        let second = (20 - age) * 86_400 + i64::try_from(place)?;
        match (text(event, "value"), &*name) {
            (_, "count") => uses.push(Use::after(second, "1".parse()?)?),
            (_, "unique_count") => {
                // What is counted has a name; an event without one is no reading.
                let named =
                    text(event, "name").map(|name| anyhow::Ok(Use { item: Some(name.into()), ..Use::after(second, "1".parse()?)? }));
                uses.extend(named.transpose()?);
            }
            (None, _) => {}
            (Some(value), _) => {
                let whole = rational(&value)? * BigRational::from_integer(BigInt::from(10).pow(exponent));
                // The smaller unit is what the source sends: a decimal again.
                uses.push(Use::after(second, decimal(&whole)?)?);
            }
        }
    }
    if given.pieces > 1 {
        uses.reverse();
    }
    let measure = match &*name {
        "sum" | "count" => Measure::Sum,
        "avg" => Measure::Average,
        "min" => Measure::Min,
        "max" => Measure::Max,
        "latest" => Measure::Latest,
        "unique_count" => Measure::Unique { of: "item".into(), per_day: false },
        other => bail!("the aggregation {other:?} is unknown"),
    };
    let counted = matches!(&*name, "count" | "unique_count");
    let convert = (!counted).then_some(Convert { multiply: "1".parse()?, divide, rounding: None });
    let segment = measured(measure, convert, &uses)?;
    Ok(json!({ "value": billed(&segment)?, "event_count": segment.readings }))
}

fn decimal(number: &BigRational) -> anyhow::Result<Quantity> {
    let units = number * BigRational::from_integer(BigInt::from(10).pow(Quantity::SCALE));
    ensure!(units.is_integer(), "{number} has more than {} decimal places", Quantity::SCALE);
    Ok(Quantity::from_units(i128::try_from(units.to_integer())?)?)
}

/// What no reading at all measures: how many rows each aggregation answers, and their values.
pub fn nothing() -> anyhow::Result<Value> {
    let unique = Measure::Unique { of: "item".into(), per_day: false };
    let measures =
        [("sum", Measure::Sum), ("avg", Measure::Average), ("min", Measure::Min), ("max", Measure::Max), ("latest", Measure::Latest)];
    let (mut rows, mut values) = (Map::new(), Map::new());
    for (name, measure) in measures.into_iter().chain([("unique_count", unique)]) {
        let value = measure.of_nothing();
        rows.insert(name.into(), u8::from(value.is_some()).into());
        values.extend(value.map(|value| (name.to_owned(), ratio(value))));
    }
    // A count reads one from each event: without events it counts none.
    rows.insert("count".into(), 1.into());
    values.insert("count".into(), "0".into());
    Ok(json!({ "rows": rows, "values": values }))
}

/// Seconds in words such as `t+1m`.
fn offset(text: &str) -> anyhow::Result<i64> {
    let Some(offset) = text.strip_prefix('t') else { bail!("{text:?} is no offset") };
    let Some(offset) = offset.strip_prefix('+') else { return Ok(0) };
    let (number, unit) = offset.split_at_checked(offset.len().saturating_sub(1)).context("an offset has a unit")?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        other => bail!("the unit {other:?} is unknown"),
    };
    Ok(number.parse::<i64>()? * seconds)
}

/// Sums by windows of fixed length.
pub fn windows(given: &In<'_>) -> anyhow::Result<Value> {
    let subjects: usize = parsed(given.usage, "subjects")?;
    let mut uses = Vec::new();
    for event in texts(given.usage, "events_per_subject")? {
        let used = Use::after(offset(&event)?, parsed(given.usage, "value")?)?;
        uses.extend(std::iter::repeat_n(used, subjects));
    }
    let seconds = match &*need(given.config, "window")? {
        "none" => None,
        "MINUTE" => Some(60),
        "HOUR" => Some(3_600),
        "DAY" => Some(86_400),
        other => bail!("the window {other:?} is unknown"),
    };
    let measure = seconds.map_or(Measure::Sum, |seconds| Measure::Bucketed { seconds, each: Each::Sum, then: Then::Alone });
    let segment = measured(measure, None, &uses)?;
    Ok(json!({ "values": segment.billed.iter().map(|value| ratio(*value)).collect::<Vec<_>>() }))
}

/// The mean level over a month: each change weighs by the rest of the period.
pub fn weighted_sum(given: &In<'_>) -> anyhow::Result<Value> {
    let start = Instant::parse(&need(given.config, "period_start")?)?;
    let end = Instant::parse(&need(given.config, "period_end_exclusive")?)?;
    ensure!(
        start.month().start() == start && start.month().next().map(|next| next.start()) == Some(end),
        "the period is no calendar month"
    );
    let level = |at: Instant, quantity: Quantity| Use { quantity, start_at: at, end_at: None, item: None };
    let mut uses = vec![level(start, parsed(given.config, "initial_level")?)];
    for change in list(given.usage, "level_changes")? {
        uses.push(level(Instant::parse(&need(change, "at")?)?, parsed(change, "delta")?));
    }
    if given.pieces > 1 {
        uses.reverse();
    }
    let convert = places(parsed(given.config, "decimals")?, RoundTo::HalfAwayFromZero)?;
    Ok(json!({ "value": billed(&measured(Measure::Prorated { by: Clock::Microsecond }, Some(convert), &uses)?)? }))
}

fn five_places_up(config: &Value) -> anyhow::Result<Convert> {
    match text(config, "rounding").as_deref() {
        Some("5 decimals, ceiling") => places(5, RoundTo::Ceiling),
        other => bail!("the rounding {other:?} is unknown"),
    }
}

/// A level with additions, each prorated by the days that remain.
pub fn prorated_sum(given: &In<'_>) -> anyhow::Result<Value> {
    let days: i64 = parsed(given.config, "period_days")?;
    let begin = period_of(days)?;
    let mut uses = vec![Use::in_period(begin, 0, parsed(given.usage, "carried_level")?)?];
    for addition in list(given.usage, "additions")? {
        let remaining: i64 = parsed(addition, "days_remaining_including_today")?;
        // Noon: the day of the addition counts in full.
        uses.push(Use::in_period(begin, (days - remaining) * 86_400 + 43_200, parsed(addition, "delta")?)?);
    }
    let segment = measured(Measure::Prorated { by: Clock::Day }, Some(five_places_up(given.config)?), &uses)?;
    Ok(json!({ "value": billed(&segment)? }))
}

/// Different items, each prorated by the days on which it was there.
pub fn prorated_unique(given: &In<'_>) -> anyhow::Result<Value> {
    let days: i64 = parsed(given.config, "period_days")?;
    let begin = period_of(days)?;
    let there = |name: String, days: i64| -> anyhow::Result<Vec<Use>> {
        // Two readings, one of them again: an item is there once on a day.
        let used = Use { item: Some(name), ..Use::in_period(begin, 43_200, "1".parse()?)? }.held((days - 1) * 86_400_000_000 + 1)?;
        Ok(vec![used.clone(), used])
    };
    let carried: i64 = parsed(given.usage, "carried_items")?;
    let mut uses = Vec::new();
    for item in 0..carried {
        uses.extend(there(format!("carried-{item}"), days)?);
    }
    uses.extend(there("other".into(), parsed(given.usage, "days_present")?)?);
    let measure = Measure::Unique { of: "item".into(), per_day: true };
    Ok(json!({ "value": billed(&measured(measure, Some(five_places_up(given.config)?), &uses)?)? }))
}

/// GPU time of an allocation that is resized: segments one after the other.
pub fn gpu_time(given: &In<'_>) -> anyhow::Result<Value> {
    ensure!(need(given.config, "unit")? == "GPU-hours", "the unit is not GPU-hours");
    let (mut minute, mut uses) = (0_i64, Vec::new());
    for segment in list(given.usage, "segments")? {
        let minutes: i64 = parsed(segment, "minutes")?;
        uses.push(Use::after(minute * 60, parsed(segment, "gpus")?)?.held(minutes * 60_000_000)?);
        minute += minutes;
    }
    let rounding = Some((parsed(given.config, "decimals")?, RoundTo::HalfAwayFromZero));
    let convert = Convert { multiply: "1".parse()?, divide: "3600".parse()?, rounding };
    let hours = billed(&measured(Measure::TimeWeighted { by: Clock::Microsecond }, Some(convert), &uses)?)?;
    Ok(json!({ "gpu_hours": hours, "peer_recorded": hours }))
}

/// Tokens of a total that no kind accounts for.
pub fn tokens(given: &In<'_>) -> anyhow::Result<Value> {
    let rest = |total: &str, parts: &[&str]| -> anyhow::Result<Value> {
        let parts = parts.iter().map(|part| parsed(given.usage, part)).collect::<anyhow::Result<Vec<_>>>()?;
        let rest = contract::remainder(parsed(given.usage, total)?, &parts).context("the parts exceed the total")?;
        Ok(rest.to_string().into())
    };
    if given.usage.get("prompt_tokens").is_some() {
        let as_is = |name: &str| need(given.usage, name).map(|text| Value::String(text.into()));
        return Ok(json!({
            "uncached_input": rest("prompt_tokens", &["cached_tokens"])?,
            "cached_input": as_is("cached_tokens")?,
            "output": as_is("completion_tokens")?,
        }));
    }
    Ok(json!({ "unpriced_if_only_breakdown_is_priced": rest("cache_creation_total", &["cache_creation_5m", "cache_creation_1h"])? }))
}

/// An event as a source would send it.
fn event(id: &str, data: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"job","organization":"golden","subject":"x","time":"{PERIOD}"{data}}}"#
    )
}

/// A meter that sums a value.
pub fn meter(value: &str) -> anyhow::Result<MeterSet> {
    Ok(MeterSet::new(vec![Meter {
        part_of: None,
        billable: None,
        id: MeterId::parse("duration")?,
        event_type: "job".into(),
        aggregation: Aggregation::Sum,
        value: Some(value.into()),
        unit: UnitId::parse("ms")?,
        dimensions: Vec::new(),
        negative: Negative::Quarantine,
    }])?)
}

/// Events that are no JSON object or hold no number: refused or kept uncounted, never a zero.
pub fn validation(given: &In<'_>) -> anyhow::Result<Value> {
    let property = given.config.get("meter").map(|meter| need(meter, "value_property")).context("no meter is given")??;
    let path = property.strip_prefix("$.").context("the value's path does not begin with $.")?;
    let meters = meter(path)?;
    let limits = EventLimits::default();
    let (mut statuses, mut counted, mut uses) = (Vec::new(), Vec::new(), Vec::new());
    for (number, described) in texts(given.usage, "events")?.iter().enumerate() {
        let data = match described.as_str() {
            "data is application/xml" => r#","datacontenttype":"application/xml","data":"<x/>""#.to_owned(),
            "data is a JSON string" => r#","data":"text""#.to_owned(),
            "data is null" => r#","data":null"#.to_owned(),
            "no data" => String::new(),
            "data {}" => r#","data":{}"#.to_owned(),
            value => match value.strip_prefix("value ") {
                Some(value) => format!(r#","data":{{"{path}":{value}}}"#),
                None => bail!("the event {value:?} is not understood"),
            },
        };
        let read = Event::parse(event(&number.to_string(), &data).as_bytes(), Instant::parse(PERIOD)?, &limits);
        let quantity = read.as_ref().ok().and_then(|event| meters.read(event).into_iter().next()).and_then(|reading| reading.result.ok());
        statuses.push(if read.is_ok() { 204 } else { 400 });
        counted.push(quantity.is_some());
        uses.extend(quantity.map(|quantity| Use::after(i64::try_from(number)?, quantity)).transpose()?);
    }
    Ok(json!({ "http_status": statuses, "counted": counted, "sum": billed(&measured(Measure::Sum, None, &uses)?)? }))
}

/// One event, sent again and again.
pub fn dedupe(given: &In<'_>) -> anyhow::Result<Value> {
    let key: Vec<String> = texts(given.config, "key")?;
    ensure!(key == ["source", "id"], "identity is not by source and id");
    let (secret, limits) = (IdentityKey::new(&[7; 32]), EventLimits::default());
    let (mut seen, mut uses) = (BTreeSet::new(), Vec::new());
    for _ in 0..parsed::<u32>(given.usage, "sends_of_same_event")? {
        let event = Event::parse(event("1", r#","data":{"v":1}"#).as_bytes(), Instant::parse(PERIOD)?, &limits)?;
        if seen.insert(event.identity_hash(&secret)) {
            uses.push(Use::after(0, "1".parse()?)?);
        }
    }
    Ok(json!({ "count": billed(&measured(Measure::Sum, None, &uses)?)? }))
}

/// Sums by windows between days; a window without usage is there with zero.
pub fn roll_up(given: &In<'_>) -> anyhow::Result<Value> {
    let starts = texts(given.config, "window_starts")?.iter().map(|day| Day::parse(day)).collect::<Result<Vec<_>, _>>()?;
    let end = Day::parse(&need(given.config, "end_exclusive")?)?;
    let mut used: std::collections::BTreeMap<String, Vec<Vec<Use>>> = std::collections::BTreeMap::new();
    for event in list(given.usage, "events")? {
        let (day, unit) = (Day::parse(&item(nth(event, 0)?)?)?, item(nth(event, 1)?)?);
        let of_unit = used.entry(unit).or_insert_with(|| vec![Vec::new(); starts.len()]);
        let Some(window) = window_of(&starts, end, day).and_then(|window| of_unit.get_mut(window)) else { continue };
        window.push(Use::after(0, item(nth(event, 2)?)?.parse()?)?);
    }
    let mut answer = Map::new();
    for (unit, windows) in used {
        let sums = windows.iter().map(|uses| {
            // A tick opens every window.
            let uses: Vec<Use> = uses.iter().cloned().chain([Use::after(0, Quantity::ZERO)?]).collect();
            billed(&measured(Measure::Sum, None, &uses)?)
        });
        answer.insert(unit, sums.collect::<anyhow::Result<Vec<_>>>()?.into());
    }
    Ok(answer.into())
}
