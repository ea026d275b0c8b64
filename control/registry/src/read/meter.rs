//! How the readings of a meter add up: its aggregation and the fields that belong to it. It does not know prices.

use platform_rating::calendar::Zone;
use shared_types::Instant;

use super::{Field, Reader, Table};
use crate::compile::measure;
use crate::document::{Aggregation, Bucket, Clock, Each, Meter, Negative, Then, UniquePer};

/// Every aggregation that a meter can name.
const AGGREGATIONS: [&str; 10] = ["sum", "count", "max", "min", "average", "latest", "unique", "time_weighted", "prorated", "bucketed"];

/// What others call a level that is carried: from which service period on must be said.
pub(super) const RECURRING: &[(&str, &str)] =
    &[("recurring", "write recurring_from = \"2026-11-01T00:00:00Z\", the begin of the first month into which the level is carried")];

impl Reader<'_> {
    /// The aggregation of a meter, with the names of its own fields.
    pub(super) fn aggregation(&mut self, table: &Table<'_, '_>) -> (&'static [&'static str], Option<Aggregation>) {
        let words: Vec<(&'static str, &'static str)> = AGGREGATIONS.map(|word| (word, word)).to_vec();
        let named = self.word(table, "aggregation", &words);
        let remedy = format!("write aggregation = one of {}", AGGREGATIONS.map(|word| format!("{word:?}")).join(", "));
        let Some(named) = self.required(table, named, "aggregation", &remedy) else {
            // Which fields belong to it cannot be said: none of them is called unknown.
            return (&["of", "per", "by", "bucket", "each", "then", "recurring_from", "recurring_until"], None);
        };
        match named {
            "sum" => (&[], Some(Aggregation::Sum)),
            "count" => (&[], Some(Aggregation::Count)),
            "max" => (&[], Some(Aggregation::Max)),
            "min" => (&[], Some(Aggregation::Min)),
            "average" => (&[], Some(Aggregation::Average)),
            "latest" => (&[], Some(Aggregation::Latest)),
            "unique" => {
                let of = self.required_text(table, "of", "name the dimension whose values are counted, for example of = \"user\"");
                let per = self.word(table, "per", UniquePer::WORDS);
                let per = self.or(per, UniquePer::Period);
                (&["of", "per"], of.zip(per).map(|(of, per)| Aggregation::Unique { of, per }))
            }
            "time_weighted" => (&["by", "recurring_from", "recurring_until"], self.clock(table).map(|by| Aggregation::TimeWeighted { by })),
            "prorated" => (&["by", "recurring_from", "recurring_until"], self.clock(table).map(|by| Aggregation::Prorated { by })),
            _ => {
                let bucket = self.word(table, "bucket", Bucket::WORDS);
                let bucket = self.required(table, bucket, "bucket", "say how long a bucket is, for example bucket = \"hour\"");
                let each = self.word(table, "each", Each::WORDS);
                let each = self.or(each, Each::Max);
                let then = self.word(table, "then", Then::WORDS);
                let then = self.required(table, then, "then", "say what becomes of the buckets, for example then = \"p95\"");
                let all = bucket.zip(each).zip(then);
                (&["bucket", "each", "then"], all.map(|((bucket, each), then)| Aggregation::Bucketed { bucket, each, then }))
            }
        }
    }

    /// `recurring_from` and `recurring_until` of a level: the service periods into which it is carried.
    pub(super) fn recurring_level(
        &mut self,
        table: &Table<'_, '_>,
        aggregation: Option<&Aggregation>,
        negative: Option<Negative>,
    ) -> Option<(Option<Instant>, Option<Instant>)> {
        if !matches!(aggregation, None | Some(Aggregation::TimeWeighted { .. } | Aggregation::Prorated { .. })) {
            // They are unknown fields there, and said to be.
            return Some((None, None));
        }
        let (from, until) = (self.month_begin(table, "recurring_from"), self.month_begin(table, "recurring_until"));
        let at = table.members.get("recurring_from").map_or(table.at, |value| self.at(value.span().start));
        match (from?, until?) {
            (None, Some(_)) => {
                let message = format!("{} says until when its level is carried, but not from when on", table.name);
                self.findings.add(table.at, message, "write recurring_from too, or remove recurring_until");
                None
            }
            (Some(from), Some(until)) if until <= from => {
                let message = format!("the level of {} is carried until {until}, not after {from}", table.name);
                self.findings.add(at, message, "write a recurring_until after recurring_from, or remove both");
                None
            }
            (Some(_), _) if table.members.contains_key("billable") => {
                let message = format!("{} bills time by states, so its intervals have ends and no level is carried", table.name);
                self.findings.add(at, message, "remove recurring_from, or billable");
                None
            }
            (Some(_), _) if negative == Some(Negative::Quarantine) => {
                let message =
                    format!("the level of {} is carried, but it could never fall: its negative values are quarantined", table.name);
                self.findings.add(at, message, "write negative = \"accept\": events change the level, by +4, by -4");
                None
            }
            both => Some(both),
        }
    }

    /// The first instant of a UTC month.
    fn month_begin(&mut self, table: &Table<'_, '_>, name: &str) -> Option<Option<Instant>> {
        let instant = self.optional_instant(table, name)?;
        if let Some(instant) = instant.filter(|instant| instant.month().start() != *instant) {
            let at = table.members.get(name).map_or(table.at, |value| self.at(value.span().start));
            let message = format!("{name} of {} is {instant}, not the begin of a UTC month", table.name);
            let begin = instant.month().next().unwrap_or_else(|| instant.month()).start();
            self.findings.add(at, message, format!("service periods are UTC months: write for example {name} = \"{begin}\""));
            return None;
        }
        Some(instant)
    }

    /// `zone` of a meter: where the days or hours that it counts begin.
    pub(super) fn zone_of_meter(&mut self, table: &Table<'_, '_>, aggregation: Option<&Aggregation>) -> Option<String> {
        let zone = self.zone(table);
        if let (Field::Good(_, at), Some(aggregation)) = (&zone, aggregation)
            && !measure(aggregation).counts_local_time()
        {
            let message = format!("zone of {} would be ignored: it counts neither days nor hours", table.name);
            let remedy = "remove zone, or count them: aggregation = \"unique\" with per = \"day\", \"bucketed\" with bucket = \"day\" or \"hour\", \
                          \"time_weighted\" or \"prorated\" with by = \"day\"; billable states have a zone of their own";
            self.findings.add(*at, message, remedy);
            return None;
        }
        self.or(zone, Meter::UTC.to_owned())
    }

    /// The name of a zone, as the IANA database spells it: other programs read it too.
    pub(super) fn zone(&mut self, table: &Table<'_, '_>) -> Field<String> {
        let spelt = |text: &str| match Zone::parse(text) {
            Ok(zone) if zone.name() != text => {
                Err((format!("{text:?} is spelt {:?}", zone.name()), format!("write zone = {:?}", zone.name())))
            }
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err((error.to_string(), "name a zone such as \"Asia/Tokyo\"".to_owned())),
        };
        match self.text_field(table, "zone") {
            Field::Good(text, at) => match spelt(&text) {
                Ok(zone) => Field::Good(zone, at),
                Err((error, remedy)) => {
                    self.findings.add(at, format!("zone of {}: {error}", table.name), remedy);
                    Field::Wrong
                }
            },
            field => field,
        }
    }

    fn clock(&mut self, table: &Table<'_, '_>) -> Option<Clock> {
        let by = self.word(table, "by", Clock::WORDS);
        self.or(by, Clock::Microsecond)
    }
}
