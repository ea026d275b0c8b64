//! Billable states from TOML: the policy and a row for each meter. It does not know the meters.

use std::collections::{BTreeMap, BTreeSet};

use shared_types::Quantity;
use toml::de::DeValue;

use super::field::plain;
use super::{Field, Places, Reader, Table};
use crate::document::{Aggregation, BillableStates, BilledDuring, BilledMeter, Clock, CutAt, StepRounding, StepsOf, Told, micros, minutes};
use crate::problem::At;

const FIELDS: [&str; 14] = [
    "id",
    "description",
    "states",
    "state",
    "spans",
    "start",
    "stop",
    "ready",
    "never_ready",
    "session",
    "split",
    "zone",
    "bands",
    "meter",
];
const METER_FIELDS: [&str; 9] = ["meter", "rates", "during", "increment", "rounding", "minimum", "each", "greater_of", "at_least"];
/// What only the history of a lease tells.
const SPANS_ONLY: [&str; 4] = ["start", "stop", "ready", "never_ready"];

impl Reader<'_> {
    /// `billable` of a meter: the states by which its time is billed. Only a level that is held over time has any.
    pub(super) fn billable(&mut self, table: &Table<'_, '_>, aggregation: Option<&Aggregation>) -> Option<Option<String>> {
        let (policy, at) = match self.text_field(table, "billable") {
            Field::Good(policy, at) => (policy, at),
            Field::Absent => return Some(None),
            Field::Wrong => return None,
        };
        let by_time =
            matches!(aggregation?, Aggregation::TimeWeighted { by: Clock::Microsecond } | Aggregation::Prorated { by: Clock::Microsecond });
        if !by_time {
            let message = format!("{} names billable states, but it does not measure a level over time", table.name);
            self.findings.add(
                at,
                message,
                "write aggregation = \"time_weighted\" or \"prorated\", without by: the states' increments count time",
            );
            return None;
        }
        if table.members.contains_key("part_of") {
            self.findings.add(at, format!("{} bills time, so it cannot be a part of a total", table.name), "remove part_of or billable");
            return None;
        }
        Some(Some(policy))
    }

    pub(super) fn billable_states(&mut self, table: &Table<'_, '_>, places: &mut Places) -> Option<BillableStates> {
        self.only(table, &FIELDS);
        let id = self.required_text(table, "id", "give the policy a name, for example id = \"gpu-leases\"");
        let id = id.and_then(|id| self.plain_name(table, "id", id));
        let description = self.description(table);
        let states = self.words_of(table, "states");
        let states = states.and_then(|states| self.filled(table, "states", states));
        let told = self.told(table);
        let known = states.clone().unwrap_or_default();
        let [start, stop, ready] = ["start", "stop", "ready"].map(|field| self.states_of(table, field, &known));
        let never_ready = self.text_field(table, "never_ready");
        let never_ready = self.optional(never_ready);
        if let Some(ready) = &ready
            && table.members.contains_key("never_ready") == ready.is_empty()
        {
            let message = format!("{} has one of ready and never_ready without the other", table.name);
            self.findings.add(
                table.at,
                message,
                "write ready = [\"running\"] and never_ready = \"…\", the rate of a session that never was",
            );
        }
        let opens = |start: &BTreeSet<String>, stop: &BTreeSet<String>| -> BTreeSet<String> {
            // Without `start` a session is open from the beginning, in any state that does not close it.
            if start.is_empty() { known.difference(stop).cloned().collect() } else { start.clone() }
        };
        let opening = start.as_ref().zip(stop.as_ref()).map(|(start, stop)| opens(start, stop));
        let session = self.text_field(table, "session");
        let session = self.path(table, "session", session);
        let session = self.optional(session);
        let split = self.word(table, "split", CutAt::WORDS);
        let split = self.or(split, CutAt::Month);
        let zone = self.zone(table);
        let zone = self.or(zone, "UTC".to_owned());
        let bands = self.bands_of_day(table);
        let meters = self.billed_meters(table, places, &known, session.as_ref().is_some_and(Option::is_some));
        if let (Some(ready), Some(meters), Some(opening)) = (&ready, &meters, opening)
            && let Some(Some(rate)) = &never_ready
        {
            // All of a lease is one stretch for a meter that bills it between sessions too, whatever state it begins with.
            let leases = meters.iter().any(|billed| billed.during == BilledDuring::Lease);
            let first = if leases { &known } else { &opening };
            if !ready.is_empty() && !first.is_empty() && first.is_subset(ready) {
                let at = table.members.get("never_ready").map_or(table.at, |value| self.at(value.span().start));
                let message =
                    format!("never_ready of {} is {rate:?}, which never applies: every state that opens a session is ready", table.name);
                let remedy =
                    format!("remove ready and never_ready, or take {} out of ready", first.iter().cloned().collect::<Vec<_>>().join(", "));
                self.findings.add(at, message, remedy);
            }
        }
        Some(BillableStates {
            id: id?,
            description: description?,
            states: states?,
            told: told?,
            start: start?,
            stop: stop?,
            ready: ready?,
            never_ready: never_ready?,
            session: session?,
            split: split?,
            zone: zone?,
            bands: bands?,
            meters: meters?,
        })
    }

    /// One of `state` and `spans`; what needs a history is refused without one.
    fn told(&mut self, table: &Table<'_, '_>) -> Option<Told> {
        const REMEDY: &str =
            "write state = \"state\" where each event has one, or spans = \"spans\" where an event has the history of a lease";
        let [state, spans] = ["state", "spans"].map(|name| {
            let path = self.text_field(table, name);
            self.path(table, name, path)
        });
        let told = match (state, spans) {
            (Field::Good(path, _), Field::Absent) => Told::State(path),
            (Field::Absent, Field::Good(path, _)) => Told::Spans(path),
            (Field::Wrong, _) | (_, Field::Wrong) => return None,
            _ => {
                self.findings.add(table.at, format!("{} must say how events tell states, in one way", table.name), REMEDY);
                return None;
            }
        };
        if let Told::State(_) = told {
            for field in SPANS_ONLY.into_iter().filter(|field| table.members.contains_key(*field)) {
                let at = table.members.get(field).map_or(table.at, |value| self.at(value.span().start));
                let message = format!("{field} of {} needs the history of a lease, but an event has one state only", table.name);
                self.findings.add(at, message, "send leases with their spans, or leave states that are not billed out of rates");
            }
        }
        Some(told)
    }

    /// A list of texts; empty when left out.
    fn words_of(&mut self, table: &Table<'_, '_>, name: &'static str) -> Option<BTreeSet<String>> {
        let Some(value) = table.members.get(name) else { return Some(BTreeSet::new()) };
        let at = self.at(value.span().start);
        let DeValue::Array(items) = value.get_ref() else {
            self.findings.add(at, format!("{name} of {} is not a list of texts", table.name), format!("write {name} = [\"running\"]"));
            return None;
        };
        let mut words = Some(BTreeSet::new());
        for item in items.iter() {
            let word = match self.text_value(item, name, table) {
                Field::Good(word, _) => Some(word),
                Field::Absent | Field::Wrong => None,
            };
            words = words.zip(word).map(|(mut words, word)| {
                if words.contains(&word) {
                    let at = self.at(item.span().start);
                    self.findings.add(at, format!("{name} of {} names {word:?} twice", table.name), "keep one of them");
                }
                words.insert(word);
                words
            });
        }
        words
    }

    fn filled(&mut self, table: &Table<'_, '_>, name: &str, words: BTreeSet<String>) -> Option<BTreeSet<String>> {
        if words.is_empty() {
            self.findings.add(table.at, format!("{} has no {name}", table.name), "list every state that events tell, billed or not");
            return None;
        }
        Some(words)
    }

    /// States that the policy knows.
    fn states_of(&mut self, table: &Table<'_, '_>, name: &'static str, known: &BTreeSet<String>) -> Option<BTreeSet<String>> {
        let words = self.words_of(table, name)?;
        let at = table.members.get(name).map_or(table.at, |value| self.at(value.span().start));
        words.iter().for_each(|state| self.known_state(state, name, known, at, &table.name));
        Some(words)
    }

    fn known_state(&mut self, state: &str, field: &str, known: &BTreeSet<String>, at: At, name: &str) {
        if known.is_empty() || known.contains(state) {
            return;
        }
        let hint = self.findings.hint(state, known.iter().map(String::as_str));
        self.findings.add(
            at,
            format!("{field} of {name} names state {state:?}, which is not among its states"),
            format!("{hint}add it to states, or correct it"),
        );
    }

    fn bands_of_day(&mut self, table: &Table<'_, '_>) -> Option<BTreeMap<String, String>> {
        let mut bands = Some(BTreeMap::new());
        for (time, (band, at)) in self.texts(table, "bands")? {
            if minutes(&time).is_none() {
                let message = format!("bands of {} names {time:?}, which is no time of a day", table.name);
                self.findings.add(
                    at,
                    message,
                    "write hours and minutes, for example bands = { \"08:00\" = \"day\", \"20:00\" = \"night\" }",
                );
                bands = None;
            } else if let Some(bands) = &mut bands {
                bands.insert(time, band);
            }
        }
        bands
    }

    fn billed_meters(
        &mut self,
        table: &Table<'_, '_>,
        places: &mut Places,
        states: &BTreeSet<String>,
        told: bool,
    ) -> Option<Vec<BilledMeter>> {
        let rows = self.tables(table, "meter", "[[billable_states.meter]]")?;
        if rows.is_empty() {
            self.findings.add(
                table.at,
                format!("{} has no meter", table.name),
                "write a [[billable_states.meter]] for each meter that names it",
            );
        }
        let mut meters: Vec<(BilledMeter, At)> = Vec::new();
        let mut good = true;
        for (members, at) in rows {
            let name = format!("a meter of {}", table.name);
            let billed = self.billed_meter(&Table { members, at, name }, states, told);
            let again = billed.as_ref().filter(|billed| meters.iter().any(|(known, _)| known.meter == billed.meter));
            if let Some(billed) = again {
                let message = format!("{} bills meter {:?} twice", table.name, billed.meter.as_str());
                self.findings.add(at, message, "keep one of them");
            }
            good &= billed.is_some() && again.is_none();
            meters.extend(billed.map(|billed| (billed, at)));
        }
        meters.sort_by(|(a, _), (b, _)| a.meter.cmp(&b.meter));
        places.extend(meters.iter().enumerate().map(|(row, (_, at))| (("billed", row), *at)));
        good.then(|| meters.into_iter().map(|(billed, _)| billed).collect())
    }

    fn billed_meter(&mut self, table: &Table<'_, '_>, states: &BTreeSet<String>, told: bool) -> Option<BilledMeter> {
        self.only(table, &METER_FIELDS);
        let meter = self.id(table, "meter");
        let rates = self.texts(table, "rates");
        for (state, (_, at)) in rates.iter().flatten() {
            self.known_state(state, "rates", states, *at, &table.name);
        }
        if rates.as_ref().is_some_and(BTreeMap::is_empty) {
            self.findings.add(
                table.at,
                format!("{} has no rates", table.name),
                "name the rate of each billed state, for example rates = { running = \"use\" }",
            );
        }
        let during = self.word(table, "during", BilledDuring::WORDS);
        let during = self.or(during, BilledDuring::Session);
        let [increment, minimum] = ["increment", "minimum"].map(|name| self.seconds(table, name));
        let rounding = self.word(table, "rounding", StepRounding::WORDS);
        let rounding = self.or(rounding, StepRounding::Up);
        let each = self.word(table, "each", StepsOf::WORDS);
        let each = self.or(each, if told { StepsOf::Session } else { StepsOf::Reading });
        if each == Some(StepsOf::Session) && !told {
            let message = format!("{} adds up sessions, but nothing says what a session is told by", table.name);
            self.findings.add(
                table.at,
                message,
                "name the path of its id in the policy, for example session = \"lease_id\", or write each = \"reading\"",
            );
        }
        for field in ["rounding", "each"].into_iter().filter(|field| table.members.contains_key(*field)) {
            if !table.members.contains_key("increment") && !table.members.contains_key("minimum") {
                let message = format!("{field} of {} would be ignored: it has no increment and no minimum", table.name);
                self.findings.add(table.at, message, format!("give it an increment in seconds, or leave out {field}"));
            }
        }
        let greater_of = self.factors(table);
        let at_least = self.quantity(table, "at_least");
        let at_least = self.or(at_least, Quantity::ZERO);
        if at_least.is_some_and(|least| least < Quantity::ZERO) {
            self.findings.add(table.at, format!("at_least of {} is below zero", table.name), "write zero or more, or leave it out");
        }
        Some(BilledMeter {
            meter: meter?,
            rates: rates?.into_iter().map(|(state, (rate, _))| (state, rate)).collect(),
            during: during?,
            increment: increment?,
            rounding: rounding?,
            minimum: minimum?.unwrap_or(Quantity::ZERO),
            each: each?,
            greater_of: greater_of?,
            at_least: at_least?,
        })
    }

    /// Seconds above zero, no finer than a microsecond.
    fn seconds(&mut self, table: &Table<'_, '_>, name: &str) -> Option<Option<Quantity>> {
        match self.quantity(table, name) {
            Field::Good(seconds, at) if seconds <= Quantity::ZERO || micros(seconds).is_none() => {
                let message = format!("{name} of {} is {seconds}, not whole microseconds above zero", table.name);
                self.findings.add(at, message, format!("write seconds with at most 6 decimal places, for example {name} = \"60\""));
                None
            }
            field => self.optional(field),
        }
    }

    /// Paths and factors.
    fn factors(&mut self, table: &Table<'_, '_>) -> Option<BTreeMap<String, Quantity>> {
        let mut factors = Some(BTreeMap::new());
        for (path, (factor, at)) in self.texts(table, "greater_of")? {
            let number = plain::<Quantity>(&factor).ok().filter(|factor| *factor > Quantity::ZERO);
            match (number, path.split('.').any(str::is_empty)) {
                (Some(number), false) => {
                    if let Some(factors) = &mut factors {
                        factors.insert(path, number);
                    }
                }
                _ => {
                    let message = format!("greater_of of {} has {path:?} = {factor:?}, not a path with a factor above zero", table.name);
                    self.findings.add(
                        at,
                        message,
                        "write paths inside data with what they are multiplied by, for example greater_of = { used_gib = \"1\" }",
                    );
                    factors = None;
                }
            }
        }
        factors
    }
}
