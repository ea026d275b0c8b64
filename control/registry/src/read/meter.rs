//! How the readings of a meter add up: its aggregation and the fields that belong to it. It does not know prices.

use platform_rating::calendar::Zone;

use super::{Field, Reader, Table};
use crate::compile::measure;
use crate::document::{Aggregation, Bucket, Clock, Each, Meter, Then, UniquePer};

/// Every aggregation that a meter can name.
const AGGREGATIONS: [&str; 10] = ["sum", "count", "max", "min", "average", "latest", "unique", "time_weighted", "prorated", "bucketed"];

/// Fields that rating knows and live usage cannot honour yet: the field and what it waits for.
pub(super) const NOT_LIVE: &[(&str, &str)] =
    &[("recurring", "a level is not carried into the next period: send it at its start, or write a fixed one as [[contract.recurring]]")];

impl Reader<'_> {
    /// The aggregation of a meter, with the names of its own fields.
    pub(super) fn aggregation(&mut self, table: &Table<'_, '_>) -> (&'static [&'static str], Option<Aggregation>) {
        let words: Vec<(&'static str, &'static str)> = AGGREGATIONS.map(|word| (word, word)).to_vec();
        let named = self.word(table, "aggregation", &words);
        let remedy = format!("write aggregation = one of {}", AGGREGATIONS.map(|word| format!("{word:?}")).join(", "));
        let Some(named) = self.required(table, named, "aggregation", &remedy) else {
            // Which fields belong to it cannot be said: none of them is called unknown.
            return (&["of", "per", "by", "bucket", "each", "then"], None);
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
            "time_weighted" => (&["by"], self.clock(table).map(|by| Aggregation::TimeWeighted { by })),
            "prorated" => (&["by"], self.clock(table).map(|by| Aggregation::Prorated { by })),
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
