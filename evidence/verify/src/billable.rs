//! Which time of a lease is billed: a `billable_states` document at work on one event. Written from the format's page. It knows no price.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::measure::{Steps, Together};
use crate::money::{Number, decimal, quantity};
use crate::registry::find;
use crate::time::{self, DAY, Zone};

/// Most cuts of one piece that are looked for: more than the issuer makes of an event.
const CUTS_MAX: usize = 100_000;

/// The rules of a document.
#[derive(Debug)]
pub struct Policy {
    told: Told,
    states: BTreeSet<String>,
    start: BTreeSet<String>,
    stop: BTreeSet<String>,
    ready: BTreeSet<String>,
    never_ready: Option<String>,
    session: Option<String>,
    /// Whether intervals are cut at local days, else at local months.
    daily: bool,
    zone: Zone,
    /// Minutes since midnight, rising, and the band that begins there.
    bands: Vec<(i64, String)>,
    meters: BTreeMap<String, Billed>,
}

#[derive(Debug)]
enum Told {
    State(String),
    Spans(String),
}

/// What one meter bills.
#[derive(Debug)]
struct Billed {
    rates: BTreeMap<String, String>,
    /// Whether all of the lease counts, else its sessions.
    lease: bool,
    greater_of: Vec<(String, Number)>,
    at_least: Number,
    steps: Steps,
}

/// What a meter reads of events.
#[derive(Clone, Copy, Debug)]
pub struct Reads<'a> {
    /// Path of the value.
    pub value: &'a str,
    /// Names and paths of the dimensions.
    pub dimensions: &'a BTreeMap<String, String>,
}

/// Time at one rate and level without a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its begin in microseconds.
    pub start: i64,
    /// Its end.
    pub end: i64,
    /// The level.
    pub level: Number,
    /// What prices tell apart: rate, session and band among them.
    pub dimensions: BTreeMap<String, String>,
}

struct Span<'e> {
    start: i64,
    end: i64,
    state: String,
    own: Option<&'e Value>,
}

fn text<'a>(fields: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    fields.get(name).and_then(Value::as_str).with_context(|| format!("billable states have no {name}"))
}

fn words(fields: &Value, name: &str) -> BTreeSet<String> {
    let words = fields.get(name).and_then(Value::as_array).into_iter().flatten();
    words.filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

fn texts(fields: &Value, name: &str) -> BTreeMap<String, String> {
    let members = fields.get(name).and_then(Value::as_object).into_iter().flatten();
    members.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// Microseconds of seconds.
fn micros(seconds: &str) -> anyhow::Result<i64> {
    let micros = decimal(seconds)? * crate::money::whole(1_000_000);
    ensure!(micros.is_integer(), "{seconds} seconds are finer than a microsecond");
    i64::try_from(micros.to_integer()).with_context(|| format!("{seconds} seconds are too many"))
}

/// What stands at a path: in the span's own members first, then in the event. A null is passed over.
fn look(own: Option<&Value>, data: &Value, path: &str) -> Option<String> {
    let walked = |value| path.split('.').try_fold(value, |value: &Value, name| value.get(name)).filter(|found| !found.is_null());
    match own.and_then(walked) {
        Some(_) => find(own?, path),
        None => find(data, path),
    }
}

impl Policy {
    /// From a document. An error for what this program has not learnt.
    pub fn of(document: &Value) -> anyhow::Result<Self> {
        let told = document.get("told").context("billable states do not say how they are told")?;
        let mut bands = Vec::new();
        for (at, band) in texts(document, "bands") {
            let (hour, minute) = at.split_once(':').with_context(|| format!("{at:?} is no time of a day"))?;
            bands.push((hour.parse::<i64>()? * 60 + minute.parse::<i64>()?, band));
        }
        bands.sort();
        let mut meters = BTreeMap::new();
        for billed in document.get("meters").and_then(Value::as_array).into_iter().flatten() {
            meters.insert(text(billed, "meter")?.to_owned(), Billed::of(billed)?);
        }
        Ok(Self {
            told: match (told.get("state").and_then(Value::as_str), told.get("spans").and_then(Value::as_str)) {
                (Some(path), None) => Told::State(path.to_owned()),
                (None, Some(path)) => Told::Spans(path.to_owned()),
                _ => bail!("billable states are told by {told}"),
            },
            states: words(document, "states"),
            start: words(document, "start"),
            stop: words(document, "stop"),
            ready: words(document, "ready"),
            never_ready: document.get("never_ready").and_then(Value::as_str).map(str::to_owned),
            session: document.get("session").and_then(Value::as_str).map(str::to_owned),
            daily: match text(document, "split")? {
                "month" => false,
                "day" => true,
                other => bail!("billable states cut at each {other:?}"),
            },
            zone: Zone::of(text(document, "zone")?)?,
            bands,
            meters,
        })
    }

    /// How the time of a meter's readings is counted.
    pub fn steps(&self, meter: &str) -> Option<&Steps> {
        self.meters.get(meter).map(|billed| &billed.steps)
    }

    /// The billed pieces of an event, in order. `changes`: instants at which a price of the meter or a contract of the organization begins.
    ///
    /// - Errors: an event that has no such reading, and why.
    pub fn pieces(
        &self,
        meter: &str,
        reads: Reads<'_>,
        data: &Value,
        span: (i64, Option<i64>),
        changes: &[i64],
    ) -> anyhow::Result<Vec<Piece>> {
        let billed = self.meters.get(meter).context("the policy bills nothing of this meter")?;
        let spans = self.spans(data, span)?;
        let session = match &self.session {
            Some(path) => Some(find(data, path).filter(|name| !name.is_empty()).with_context(|| format!("data.{path} names no session"))?),
            None => None,
        };
        let mut whole: Vec<Piece> = Vec::new();
        for (number, stretch) in self.sessions(billed, &spans).into_iter().enumerate() {
            let waived = self.never_ready.as_ref().filter(|_| !stretch.iter().any(|span| self.ready.contains(&span.state)));
            for span in stretch {
                let Some(rate) = billed.rates.get(&span.state).filter(|_| span.start < span.end) else { continue };
                let mut dimensions = BTreeMap::new();
                for (name, path) in reads.dimensions {
                    dimensions.extend(look(span.own, data, path).map(|value| (name.clone(), value)));
                }
                dimensions.insert("rate".to_owned(), waived.unwrap_or(rate).clone());
                if let Some(session) = &session {
                    let name = if number == 0 { session.clone() } else { format!("{session}#{}", number + 1) };
                    dimensions.insert("session".to_owned(), name);
                }
                let piece = Piece { start: span.start, end: span.end, level: billed.level(reads.value, span.own, data)?, dimensions };
                match whole.last_mut() {
                    Some(last) if last.end == piece.start && (&last.level, &last.dimensions) == (&piece.level, &piece.dimensions) => {
                        last.end = piece.end;
                    }
                    _ => whole.push(piece),
                }
            }
        }
        let mut pieces = Vec::new();
        for piece in whole {
            self.cut(&piece, changes, &mut pieces)?;
        }
        Ok(pieces)
    }

    fn spans<'e>(&self, data: &'e Value, (start, end): (i64, Option<i64>)) -> anyhow::Result<Vec<Span<'e>>> {
        let end = end.context("the event has no end")?;
        let known = |state: Option<String>| -> anyhow::Result<String> {
            let state = state.context("a state is missing")?;
            ensure!(self.states.contains(&state), "the state {state:?} is not known");
            Ok(state)
        };
        let path = match &self.told {
            Told::State(path) => return Ok(vec![Span { start, end, state: known(find(data, path))?, own: None }]),
            Told::Spans(path) => path,
        };
        let listed = path.split('.').try_fold(data, |value, name| value.get(name)).and_then(Value::as_array);
        let listed = listed.with_context(|| format!("data.{path} is no list of spans"))?;
        let mut spans: Vec<Span<'e>> = Vec::with_capacity(listed.len());
        for own in listed {
            let at = time::read(&find(own, "start").context("a span has no start")?)?;
            match spans.last_mut() {
                None => ensure!(at == start, "the first span does not start with the event"),
                Some(before) => {
                    ensure!(at >= before.start, "spans do not follow one another");
                    before.end = at;
                }
            }
            ensure!(at <= end, "a span lies behind the end of the event");
            spans.push(Span { start: at, end, state: known(find(own, "state"))?, own: Some(own) });
        }
        Ok(spans)
    }

    /// The spans of each session.
    fn sessions<'s, 'e>(&self, billed: &Billed, spans: &'s [Span<'e>]) -> Vec<Vec<&'s Span<'e>>> {
        if billed.lease || self.start.is_empty() && self.stop.is_empty() {
            return vec![spans.iter().collect()];
        }
        let mut open = self.start.is_empty();
        let mut sessions = if open { vec![Vec::new()] } else { Vec::new() };
        for span in spans {
            if open && self.stop.contains(&span.state) {
                open = false;
            } else if !open && self.start.contains(&span.state) {
                open = true;
                sessions.push(Vec::new());
            }
            if let Some(session) = sessions.last_mut().filter(|_| open) {
                session.push(span);
            }
        }
        sessions
    }

    fn cut(&self, whole: &Piece, changes: &[i64], pieces: &mut Vec<Piece>) -> anyhow::Result<()> {
        let inside = |at: &i64| *at > whole.start && *at < whole.end;
        let mut cuts: BTreeSet<i64> = changes.iter().copied().filter(inside).collect();
        let mut month = time::month(whole.start);
        loop {
            let next = time::period(month)?.1;
            if next >= whole.end {
                break;
            }
            cuts.insert(next);
            month = time::month(next);
        }
        // A day more on both sides, so that no zone matters.
        let (first, last) = (whole.start.div_euclid(DAY) - 2, whole.end.div_euclid(DAY) + 2);
        let mut bands = Vec::new();
        for day in first..=last {
            if self.daily || time::first_of_month(day) {
                cuts.extend(Some(self.zone.at(day, 0)?).filter(inside));
            }
            for (minutes, band) in &self.bands {
                bands.push((self.zone.at(day, *minutes)?, band));
            }
            ensure!(cuts.len() + bands.len() < CUTS_MAX, "an interval is cut too often");
        }
        cuts.extend(bands.iter().map(|(at, _)| *at).filter(inside));
        let mut start = whole.start;
        for end in cuts.into_iter().chain([whole.end]) {
            let mut dimensions = whole.dimensions.clone();
            if let Some((_, band)) = bands.iter().rev().find(|(at, _)| *at <= start) {
                dimensions.insert("band".to_owned(), (*band).clone());
            }
            pieces.push(Piece { start, end, level: whole.level.clone(), dimensions });
            start = end;
        }
        Ok(())
    }
}

impl Billed {
    fn of(fields: &Value) -> anyhow::Result<Self> {
        let step = fields.get("increment").map_or(Ok(1), |_| micros(text(fields, "increment")?))?;
        let least = micros(text(fields, "minimum")?)?;
        ensure!(step > 0 && least >= 0, "the steps of a meter's time have no length");
        let together = match text(fields, "each")? {
            "reading" => Together::Reading,
            "session" => Together::Session,
            "period" => Together::Period,
            other => bail!("time is counted in steps for each {other:?}"),
        };
        let greater_of = texts(fields, "greater_of").into_iter().map(|(path, factor)| Ok((path, decimal(&factor)?)));
        Ok(Self {
            rates: texts(fields, "rates"),
            lease: match text(fields, "during")? {
                "session" => false,
                "lease" => true,
                other => bail!("time is billed during {other:?}"),
            },
            greater_of: greater_of.collect::<anyhow::Result<_>>()?,
            at_least: decimal(text(fields, "at_least")?)?,
            steps: Steps {
                // Without steps nothing is rounded, so nothing need be counted together.
                together: if step == 1 && least == 0 { Together::Reading } else { together },
                step,
                rounding: match text(fields, "rounding")? {
                    "up" => crate::money::Round::Ceiling,
                    "down" => crate::money::Round::Floor,
                    "half_even" => crate::money::Round::HalfEven,
                    other => bail!("begun steps are rounded {other:?}"),
                },
                least,
            },
        })
    }

    /// The greatest of what is read, raised to the least.
    fn level(&self, value: &str, own: Option<&Value>, data: &Value) -> anyhow::Result<Number> {
        let mut level = quantity(&look(own, data, value).with_context(|| format!("data.{value} is missing"))?)?;
        for (path, factor) in &self.greater_of {
            if let Some(other) = look(own, data, path) {
                level = level.max(quantity(&other)? * factor);
            }
        }
        Ok(level.max(self.at_least.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::plain;
    use serde_json::json;

    fn policy(fields: Value) -> Policy {
        let mut document = json!({"states": ["starting", "running", "stopped"], "told": {"spans": "history"}, "start": ["starting", "running"], "stop": ["stopped"],
            "ready": ["running"], "never_ready": "waived", "session": "lease", "split": "month", "zone": "UTC", "bands": {}, "meters": [{"meter": "gpus",
            "rates": {"starting": "use", "running": "use"}, "during": "session", "rounding": "up", "minimum": "0", "each": "session",
            "greater_of": {"used": "0.5"}, "at_least": "2"}]});
        document.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Policy::of(&document).unwrap()
    }

    /// The pieces of an event of some days of October 2026, as `begin end level rate session band`.
    fn check(fields: Value, data: &Value, [start, end]: [&str; 2], changes: &[&str], expected: &[&str]) {
        let at = |text: &str| time::parse(&format!("2026-{text}Z")).unwrap();
        let reads = Reads { value: "gpus", dimensions: &BTreeMap::new() };
        let changes: Vec<i64> = changes.iter().map(|change| at(change)).collect();
        let pieces = policy(fields).pieces("gpus", reads, data, (at(start), Some(at(end))), &changes).unwrap();
        let shown = pieces.iter().map(|piece| {
            let names = ["rate", "session", "band"].into_iter().filter_map(|name| piece.dimensions.get(name).cloned());
            let times = [piece.start, piece.end].map(|at| time::text(at).trim_start_matches("2026-").trim_end_matches('Z').to_owned());
            times.into_iter().chain([plain(&piece.level)]).chain(names).collect::<Vec<_>>().join(" ")
        });
        assert_eq!(shown.collect::<Vec<_>>(), expected);
    }

    fn lease(spans: &[(&str, &str, Value)]) -> Value {
        let history = spans.iter().map(|(state, start, own)| {
            let mut span = json!({"state": state, "start": format!("2026-{start}Z")});
            span.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
            span
        });
        json!({"lease": "l", "gpus": "8", "used": "4", "history": history.collect::<Vec<_>>()})
    }

    #[test]
    fn a_lease_is_cut_into_what_is_billed_of_it() {
        let data = lease(&[
            ("starting", "10-31T10:00:00", json!({})),
            ("running", "10-31T11:00:00", json!({})),
            ("running", "10-31T12:00:00", json!({"gpus": "1", "used": null})),
            ("stopped", "10-31T20:00:00", json!({})),
            ("starting", "10-31T22:00:00", json!({})),
        ]);
        let times = ["10-31T10:00:00", "11-01T02:00:00"];
        check(
            json!({}),
            &data,
            times,
            &["10-31T11:30:00", "10-31T21:00:00"],
            &[
                "10-31T10:00:00 10-31T11:30:00 8 use l",
                "10-31T11:30:00 10-31T12:00:00 8 use l",
                "10-31T12:00:00 10-31T20:00:00 2 use l",
                "10-31T22:00:00 11-01T00:00:00 8 waived l#2",
                "11-01T00:00:00 11-01T02:00:00 8 waived l#2",
            ],
        );
        // Clocks in Los Angeles go back on the first of November, at two.
        let local = json!({"zone": "America/Los_Angeles", "split": "day", "bands": {"01:00": "night", "08:00": "day"}});
        let running = lease(&[("running", "10-31T06:00:00", json!({}))]);
        check(
            local,
            &running,
            ["10-31T06:00:00", "11-01T17:00:00"],
            &[],
            &[
                "10-31T06:00:00 10-31T07:00:00 8 use l day",
                "10-31T07:00:00 10-31T08:00:00 8 use l day",
                "10-31T08:00:00 10-31T15:00:00 8 use l night",
                "10-31T15:00:00 11-01T00:00:00 8 use l day",
                "11-01T00:00:00 11-01T07:00:00 8 use l day",
                "11-01T07:00:00 11-01T08:00:00 8 use l day",
                "11-01T08:00:00 11-01T16:00:00 8 use l night",
                "11-01T16:00:00 11-01T17:00:00 8 use l day",
            ],
        );
    }

    #[test]
    fn an_event_that_says_no_time_has_no_pieces() {
        let reads = Reads { value: "gpus", dimensions: &BTreeMap::new() };
        let refused =
            |data: &Value, end: Option<i64>| policy(json!({})).pieces("gpus", reads, data, (0, end), &[]).unwrap_err().to_string();
        let good = json!({"lease": "l", "gpus": "8", "history": [{"state": "running", "start": "1970-01-01T00:00:00Z"}]});
        assert_eq!(refused(&good, None), "the event has no end");
        for (from, to, why) in [
            ("running", "lost", "the state \"lost\" is not known"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z", "the first span does not start with the event"),
            ("\"lease\":\"l\"", "\"lease\":\"\"", "data.lease names no session"),
            ("\"gpus\"", "\"gpu\"", "data.gpus is missing"),
        ] {
            let data = serde_json::from_str(&good.to_string().replacen(from, to, 1)).unwrap();
            assert_eq!(refused(&data, Some(10)), why);
        }
    }
}
