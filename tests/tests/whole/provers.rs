//! Prices of every kind in the real process: random registries and usage, leases billed by states among it, are rated, rated again and closed
//! by the server, and both verifiers, which share no code with it nor with each other, come to the same amounts; an amount that is changed is
//! found, on every line.

use std::collections::BTreeSet;
use std::path::Path;

use datasets::Random;
use serde_json::{Value, json};

use crate::bundle::{differences, duckdb, files, number, verifier, verify};
use crate::tally::{Tally, err, out, python};

/// Meters, each with its SKU and its prices.
const METERS: u64 = 36;
/// Event types; a meter reads one of them.
const TYPES: u64 = 6;
/// When prices begin, and when some change.
const FIRST: &str = "2020-01-01T00:00:00Z";
const MIDDLE: &str = "2026-09-15T00:00:00Z";
/// Zones of what counts days or hours: clocks skip a midnight of September, change at the begin of October by half an hour, at its end, behind it,
/// and never. Only zones of whose rules the programs know the same: each brings the database of its own release.
const ZONES: [&str; 8] =
    ["UTC", "UTC", "UTC", "Australia/Lord_Howe", "Europe/Berlin", "America/Los_Angeles", "America/Santiago", "Asia/Kolkata"];
/// What leases may be in.
const STATES: [&str; 5] = ["starting", "running", "stopped", "host_down", "failed"];

/// Which of them are billed, and at which rate.
const RATES: [&str; 3] =
    ["running = \"use\"", "starting = \"use\", running = \"use\", stopped = \"stopped\"", "stopped = \"stopped\", host_down = \"waived\""];

/// What is sold, and the rows of its price book: when each begins, and its fields.
struct Sku {
    head: String,
    band: String,
    rows: Vec<(&'static str, String)>,
    sums: bool,
    levels: bool,
    small: bool,
    /// Its windows are priced alone; all of its prices begin with a month then, or none owes unused windows and they are those of UTC.
    windows: Option<Windows>,
}

#[derive(Clone, Copy, PartialEq)]
enum Windows {
    OfWholeMonths,
    OfAnyTime,
}

impl Sku {
    fn changes_within_months(&self) -> bool {
        self.windows != Some(Windows::OfWholeMonths)
    }
}

/// A registry as it is written.
struct Book {
    meters: String,
    skus: Vec<(String, Sku)>,
    rest: String,
}

impl Book {
    fn text(&self) -> String {
        let (mut text, mut prices) = (self.meters.clone(), String::new());
        for (id, sku) in &self.skus {
            text += &format!("[[sku]]\nid = \"{id}\"\n{}{}", sku.head, sku.band);
            for (start, model) in &sku.rows {
                prices += &format!("[[price_book.price]]\nsku = \"{id}\"\neffective_at = \"{start}\"\n{model}");
            }
        }
        format!("{text}[[price_book]]\nid = \"all\"\ncurrency = \"USD\"\n{prices}{}", self.rest)
    }
}

/// Microseconds.
const DAY: u64 = 86_400_000_000;

/// An instant so many microseconds behind the begin of September 2026.
fn autumn(micros: u64) -> String {
    let (month, day) = match micros / DAY {
        day @ 0..30 => (9, day + 1),
        day @ 30..61 => (10, day - 29),
        day => (11, day - 60),
    };
    let seconds = micros % DAY / 1_000_000;
    let time = format!("{:02}:{:02}:{:02}.{:06}", seconds / 3_600, seconds / 60 % 60, seconds % 60, micros % 1_000_000);
    format!("2026-{month:02}-{day:02}T{time}Z")
}

struct Dice {
    random: Random,
    /// Prices are small: what is measured is seconds of many units, and the books hold some billions.
    small: bool,
}

impl Dice {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[usize::try_from(self.random.below(u64::try_from(from.len()).unwrap())).unwrap()]
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.random.below(sides) == 0
    }

    /// Repeating fractions, halves of the last digit, many places, nothing.
    fn price(&mut self) -> &'static str {
        if self.small {
            return self.pick(&["0.0000000005", "0.000001234567890123", "0.000333333333333", "0"]);
        }
        self.pick(&["1", "2.79", "0.0000000005", "0.000001234567890123", "33.333333333", "0.5", "0", "7.0000000015", "20"])
    }

    fn per(&mut self) -> &'static str {
        self.pick(&["1", "1", "3", "7", "60", "3600", "1000000", "0.5"])
    }

    fn tiers(&mut self, price: &str) -> String {
        let bounds =
            [&["10"][..], &["1", "2", "5.5"], &["0.25", "100"], &["1000", "250000"], &[]][usize::try_from(self.random.below(5)).unwrap()];
        let tier = |dice: &mut Self, bound: &str| match price {
            "block_price" => {
                format!("{{ {bound}size = \"{}\", block_price = \"{}\" }}", dice.pick(&["1", "2.5", "7", "1000"]), dice.price())
            }
            _ => {
                let fee = dice.pick(&["0", "0", "1", "0.35"]);
                format!("{{ {bound}{price} = \"{}\", flat_fee = \"{fee}\" }}", dice.price())
            }
        };
        let mut tiers: Vec<String> = bounds.iter().map(|bound| tier(self, &format!("up_to = \"{bound}\", "))).collect();
        tiers.push(tier(self, ""));
        format!("[{}]", tiers.join(", "))
    }

    /// An aggregation, its own fields, and whether it sums.
    fn aggregation(&mut self) -> (&'static str, String, bool) {
        let name = self.pick(&[
            "sum",
            "sum",
            "sum",
            "count",
            "max",
            "min",
            "average",
            "latest",
            "unique",
            "unique",
            "time_weighted",
            "time_weighted",
            "prorated",
            "prorated",
            "prorated",
            "bucketed",
            "bucketed",
            "bucketed",
        ]);
        let by = self.pick(&["microsecond", "day"]);
        let fields = match name {
            "unique" => format!("of = \"user\"\nper = \"{}\"\n", self.pick(&["period", "day"])),
            "time_weighted" | "prorated" => format!("by = \"{by}\"\n"),
            "bucketed" => {
                let (bucket, each) = (self.pick(&["five_minutes", "hour", "day"]), self.pick(&["max", "sum"]));
                let then = self.pick(&["sum", "alone", "alone", "alone", "alone", "p50", "p90", "p95", "p99"]);
                format!("bucket = \"{bucket}\"\neach = \"{each}\"\nthen = \"{then}\"\n")
            }
            _ => String::new(),
        };
        (name, fields, ["sum", "count"].contains(&name))
    }

    /// As [`Self::aggregation`], with each bucket priced alone.
    fn windows(&mut self) -> (&'static str, String, bool) {
        let (bucket, each) = (self.pick(&["five_minutes", "hour", "day"]), self.pick(&["max", "sum"]));
        ("bucketed", format!("bucket = \"{bucket}\"\neach = \"{each}\"\nthen = \"alone\"\n"), false)
    }

    /// The fields of a price, for a meter that sums, or that follows levels.
    fn model(&mut self, sums: bool, levels: bool, windows: Option<Windows>) -> String {
        let percentages: &[&str] = if sums { &["percentage", "percentage", "graduated_percentage"] } else { &["graduated_percentage"] };
        let models = ["per_unit", "per_unit", "package", "graduated", "graduated", "volume", "volume", "blocks", "top_blocks", "free"];
        let model = self.pick(&[&models[..], percentages].concat());
        let mut fields = format!("model = \"{model}\"\n");
        match model {
            "per_unit" => fields += &format!("per = \"{}\"\nunit_price = \"{}\"\n", self.per(), self.price()),
            "package" => fields += &format!("size = \"{}\"\npackage_price = \"{}\"\n", self.pick(&["1", "2.5", "100"]), self.price()),
            "graduated" | "volume" => fields += &format!("per = \"{}\"\ntiers = {}\n", self.per(), self.tiers("unit_price")),
            "blocks" | "top_blocks" => fields += &format!("tiers = {}\n", self.tiers("block_price")),
            "graduated_percentage" => fields += &format!("tiers = {}\n", self.tiers("rate")),
            "percentage" => {
                fields += &format!("rate = \"{}\"\nfee = \"{}\"\n", self.pick(&["2.9", "0.333", "100", "0"]), self.pick(&["0", "0.3"]));
                for (name, values) in [
                    ("least", ["0.1", "1", "2"]),
                    ("most", ["2", "5", "40"]),
                    ("free_readings", ["1", "3", "7"]),
                    ("free_value", ["2", "12.5", "300"]),
                ] {
                    if self.one_in(2) {
                        fields += &format!("{name} = \"{}\"\n", self.pick(&values));
                    }
                }
            }
            _ => fields += "rule = \"launch\"\n",
        }
        if ["percentage", "graduated_percentage", "free"].contains(&model) || (levels && model == "graduated") {
            return fields;
        }
        let each = sums && self.one_in(3);
        if self.one_in(2) {
            let (multiply, divide) = (self.pick(&["1", "8", "0.7"]), self.pick(&["1", "60", "86400", "3"]));
            let roundings = ["ceiling", "floor", "half_away_from_zero", "half_even", "none"];
            let rounding = self.pick(&roundings[..if each { 4 } else { 5 }]);
            let places = self.pick(&["0", "1", "3", "-1", "9"]);
            fields += &format!(
                "convert = {{ multiply = \"{multiply}\", divide = \"{divide}\", rounding = \"{rounding}\", places = \"{places}\" }}\n"
            );
        }
        if self.one_in(3) {
            fields += &format!("free_units = \"{}\"\n", self.pick(&["0.5", "3", "40"]));
        }
        if each {
            fields += "applies_to = \"each_event\"\n";
        }
        if let Some(windows) = windows.filter(|_| !self.one_in(4)) {
            fields += &self.commitment(windows);
        }
        fields
    }

    /// What is promised for each window.
    fn commitment(&mut self, windows: Windows) -> String {
        let promised = match self.one_in(2) {
            true => format!("amount = \"{}\"", self.pick(&["0.0000000005", "0.35", "3", "33.333333333", "100"])),
            false => format!("quantity = \"{}\"", self.pick(&["0.000000001", "1", "3", "12.345678901", "999"])),
        };
        let factor = self.pick(&["0.25", "1.5", "2", "7"]);
        let owed = if windows == Windows::OfWholeMonths { "owed_always" } else { "owed_when_used" };
        let true_up = self.pick(&["none", owed, owed]);
        format!("window_commitment = {{ {promised}, overage_factor = \"{factor}\", true_up = \"{true_up}\" }}\n")
    }

    fn sku(&mut self, head: String, band: &str, (aggregation, sums, alone): (&str, bool, bool), zone: &str) -> Sku {
        let (small, levels) = (aggregation == "time_weighted", aggregation == "prorated");
        let windows = alone.then(|| if zone != "UTC" || self.one_in(2) { Windows::OfWholeMonths } else { Windows::OfAnyTime });
        let mut sku = Sku { head, band: band.to_owned(), rows: Vec::new(), sums, levels, small, windows };
        let starts: &[&str] = if sku.changes_within_months() && self.one_in(3) { &[FIRST, MIDDLE] } else { &[FIRST] };
        for start in starts {
            let model = self.model_of(&sku);
            sku.rows.push((start, model));
        }
        sku
    }

    fn model_of(&mut self, sku: &Sku) -> String {
        self.small = sku.small;
        self.model(sku.sums, sku.levels, sku.windows)
    }

    /// A registry: meters of every kind, some of whose SKUs have bands and some of whose prices change within the month.
    fn registry(&mut self, zone: &str) -> Book {
        let mut meters = "[[unit]]\nid = \"piece\"\n".to_owned();
        let mut skus = Vec::new();
        for meter in 0..METERS {
            // One of each event type has windows that are priced alone.
            let (aggregation, mut fields, sums) = if meter < TYPES { self.windows() } else { self.aggregation() };
            let local = ["\"day\"", "\"hour\""].iter().any(|counted| fields.contains(counted));
            let zone = if local { self.pick(&ZONES) } else { "UTC" };
            if zone != "UTC" {
                fields += &format!("zone = \"{zone}\"\n");
            }
            let value = if ["count", "unique"].contains(&aggregation) { "" } else { "value = \"amount\"\n" };
            meters += &format!(
                "[[meter]]\nid = \"m{meter}\"\nevent_type = \"t{}\"\naggregation = \"{aggregation}\"\n{fields}{value}unit = \"piece\"\nnegative = \"accept\"\n\
                 dimensions = {{ user = \"user\", size = \"size\" }}\n",
                meter % TYPES
            );
            let head = || format!("family = \"all\"\nmeter = \"m{meter}\"\n");
            let alone = fields.contains("\"alone\"");
            skus.push((format!("m{meter}"), self.sku(head(), "", (aggregation, sums, alone), zone)));
            if self.one_in(4) {
                let band = "above = { size = \"5\" }\nup_to = { size = \"7.5\" }\n";
                skus.push((format!("m{meter}-long"), self.sku(head(), band, (aggregation, sums, alone), zone)));
            }
        }
        for (policy, told) in [("slices", "state = \"state\"\n"), ("leases", "spans = \"spans\"\n")] {
            let (text, billed) = self.policy(policy, told, zone);
            meters += &text;
            skus.extend(billed);
        }
        let terms = self.terms();
        let over = if terms.is_empty() { "" } else { self.pick(&["", "terms_over = \"usage\"\n"]) };
        let contract = format!(
            "[[contract]]\nid = \"own\"\norganization = \"org\"\nprice_book = \"all\"\neffective_at = \"2026-09-01T00:00:00Z\"\nbilling_period = \"month\"\n{over}{terms}"
        );
        let mode = self.pick(&["half_away_from_zero", "half_even"]);
        Book { meters, skus, rest: format!("{contract}[[rounding]]\nasset = \"USD\"\nscale = 2\nmode = \"{mode}\"\n") }
    }

    /// Terms of every kind: over the leases, over two SKUs, over everything; of half of the worlds those that can look at both months together.
    fn terms(&mut self) -> String {
        let mut terms = String::new();
        let months = self.pick(&["", "months = 2\n"]);
        let mut add = |kind: &str, fields: &str| {
            let months = if matches!(kind, "discount" | "capacity") { "" } else { months };
            terms += &format!("[[contract.term]]\nid = \"{kind}-{}\"\nkind = \"{kind}\"\n{fields}{months}", fields.len())
        };
        if self.one_in(2) {
            add("discount", &format!("percent = \"{}\"\n", self.pick(&["7.5", "33.333333333", "100"])));
        }
        if self.one_in(2) {
            add(
                "discount",
                &format!("percent = \"{}\"\nskus = [\"m0\", \"m1\"]\ndescription = \"a part of two\"\n", self.pick(&["0.5", "12"])),
            );
        }
        if self.one_in(2) {
            add("capacity", "skus = [\"m2\", \"m3\"]\n");
        }
        if self.one_in(2) {
            let (first, then) = (self.pick(&["0", "3"]), self.pick(&["0.333333333", "12.5"]));
            add("graduated_discount", &format!("tiers = [{{ up_to = \"100\", percent = \"{first}\" }}, {{ percent = \"{then}\" }}]\n"));
        }
        if self.one_in(2) {
            let (amount, factor) = (self.pick(&["0.01", "10", "1234.56", "900000"]), self.pick(&["0.333333333", "1", "1.25"]));
            add(
                "commitment",
                &format!("amount = \"{amount}\"\noverage_factor = \"{factor}\"\ntrue_up = \"owed\"\nfamilies = [\"leases\"]\n"),
            );
        }
        if self.one_in(2) {
            add("commitment", &format!("amount = \"{}\"\noverage_factor = \"1.1\"\ntrue_up = \"none\"\n", self.pick(&["1", "5000"])));
        }
        if self.one_in(2) {
            add("maximum_spend", &format!("amount = \"{}\"\n", self.pick(&["600", "25000.01", "900000000"])));
        }
        if self.one_in(2) {
            add("minimum_spend", &format!("amount = \"{}\"\n", self.pick(&["0.01", "599.99"])));
        }
        terms
    }

    /// Billable states with three meters of their own.
    fn policy(&mut self, id: &str, told: &str, zone: &str) -> (String, Vec<(String, Sku)>) {
        let states = STATES.map(|state| format!("\"{state}\"")).join(", ");
        let split = self.pick(&["month", "day"]);
        let mut text = format!(
            "[[billable_states]]\nid = \"{id}\"\nstates = [{states}]\n{told}session = \"lease\"\nsplit = \"{split}\"\nzone = \"{zone}\"\n"
        );
        let banded = self.one_in(2);
        if banded {
            text += "bands = { \"08:00\" = \"day\", \"20:30\" = \"night\" }\n";
        }
        if id == "leases" {
            text += self.pick(&["start = [\"starting\", \"running\"]\nstop = [\"stopped\", \"failed\"]\n", "stop = [\"failed\"]\n", ""]);
            text += self.pick(&["ready = [\"running\"]\nnever_ready = \"waived\"\n", ""]);
        }
        let (mut meters, mut skus) = (String::new(), Vec::new());
        for number in 0..3 {
            let meter = format!("{id}-{number}");
            let rates = self.pick(&RATES);
            text += &format!(
                "[[billable_states.meter]]\nmeter = \"{meter}\"\nrates = {{ {rates} }}\nduring = \"{}\"\n",
                self.pick(&["session", "lease"])
            );
            if self.one_in(2) {
                let (increment, rounding) = (self.pick(&["60", "3600", "0.001", "7.5"]), self.pick(&["up", "down", "half_even"]));
                text += &format!(
                    "increment = \"{increment}\"\nrounding = \"{rounding}\"\neach = \"{}\"\n",
                    self.pick(&["session", "reading", "period"])
                );
                text += self.pick(&["", "minimum = \"300\"\n"]);
            }
            text += self.pick(&["", "greater_of = { used = \"1.5\" }\nat_least = \"2\"\n"]);
            let aggregation = self.pick(&["time_weighted", "prorated"]);
            meters += &format!(
                "[[meter]]\nid = \"{meter}\"\nevent_type = \"{id}\"\naggregation = \"{aggregation}\"\nvalue = \"gpus\"\nunit = \"piece\"\n\
                 dimensions = {{ model = \"model\" }}\nbillable = \"{id}\"\n"
            );
            let mut matches = vec!["rate = \"use\"", "rate = \"stopped\"", "rate = \"waived\"", "rate = \"use\", model = \"h200\""];
            matches.extend(banded.then_some("rate = \"stopped\", band = \"night\""));
            for (number, terms) in matches.into_iter().enumerate() {
                let head = format!("family = \"leases\"\nmeter = \"{meter}\"\nmatch = {{ {terms} }}\n");
                skus.push((format!("{meter}-{number}"), self.sku(head, "", (aggregation, false, false), "UTC")));
            }
        }
        (text + &meters, skus)
    }

    /// Other prices, bands, begins of prices and billable states than before, also of usage that was rated.
    fn alter(&mut self, book: &mut Book) {
        let lines: Vec<String> = book.meters.lines().map(|line| self.altered_line(line)).collect();
        book.meters = lines.join("\n") + "\n";
        for (_, sku) in &mut book.skus {
            if self.one_in(3) {
                let model = self.model_of(sku);
                let row = usize::try_from(self.random.below(u64::try_from(sku.rows.len()).unwrap())).unwrap();
                sku.rows[row].1 = model;
            }
            if self.one_in(5) && sku.rows.len() > 1 {
                sku.rows.pop();
            } else if self.one_in(5) && sku.rows.len() == 1 && sku.changes_within_months() {
                let model = self.model_of(sku);
                sku.rows.push((MIDDLE, model));
            }
            if !sku.band.is_empty() && self.one_in(2) {
                let above = self.pick(&["4", "5", "6"]);
                sku.band = format!("above = {{ size = \"{above}\" }}\nup_to = {{ size = \"7.5\" }}\n");
            }
        }
    }

    /// What a line of billable states says another time: which states are billed, when, in which steps, and how much at least.
    fn altered_line(&mut self, line: &str) -> String {
        match line.split_once(" = ").map_or("", |(name, _)| name) {
            "rates" if self.one_in(3) => format!("rates = {{ {} }}", self.pick(&RATES)),
            "during" if self.one_in(4) => format!("during = \"{}\"", self.pick(&["session", "lease"])),
            "increment" if self.one_in(3) => format!("increment = \"{}\"", self.pick(&["60", "900", "1"])),
            "at_least" if self.one_in(3) => format!("at_least = \"{}\"", self.pick(&["2", "4"])),
            "split" if self.one_in(3) => format!("split = \"{}\"", self.pick(&["month", "day"])),
            _ => line.to_owned(),
        }
    }

    /// A lease of a month, or a slice of one, some of which end in the next.
    fn lease(&mut self, id: &str, month: &str) -> String {
        let days = [0, 13, 19, 28, 29][usize::try_from(self.random.below(5)).unwrap()] + if month == "2026-10" { 30 } else { 0 };
        let start = days * DAY + self.random.below(24) * 3_600_000_000;
        let most =
            [1, 59_000_000, 60_000_000, 3_600_000_000, 90_000_000_000, 200_000_000_000][usize::try_from(self.random.below(6)).unwrap()];
        let length = self.random.below(most) + 1;
        let slice = self.one_in(2);
        let mut data = json!({
            "lease": format!("l{}", self.random.below(6)), "gpus": self.pick(&["1", "8", "0.5"]), "used": self.pick(&["1", "3.25", "0"]), "model": self.pick(&["h100", "h200"]),
        });
        if slice {
            data["state"] = json!(self.pick(&STATES));
        } else {
            let mut starts: Vec<u64> = (0..self.random.below(5)).map(|_| start + self.random.below(length)).collect();
            starts.sort_unstable();
            let spans = [start].into_iter().chain(starts).map(|at| {
                let mut span = json!({"state": self.pick(&STATES), "start": autumn(at)});
                if self.one_in(4) {
                    span["start"] = json!(autumn(at + 7_200_000_000).replace('Z', "+02:00"));
                }
                if self.one_in(3) {
                    span["gpus"] = json!(self.pick(&["2", "4"]));
                }
                span
            });
            data["spans"] = json!(spans.collect::<Vec<_>>());
        }
        let event_type = if slice { "slices" } else { "leases" };
        json!({"specversion": "1.0", "id": id, "source": "gateway", "type": event_type, "time": autumn(start), "endtime": autumn(start + length), "organization": "org", "data": data}).to_string()
    }

    /// An event of a month: at its edges, at one instant with others, or anywhere.
    fn event(&mut self, id: &str, month: &str) -> String {
        let moments = ["01T00:00:00Z", "15T00:00:00Z", "14T23:59:59.999999Z", "20T06:00:00Z", "20T06:00:00Z", "30T23:59:59.999999Z"];
        let moment = if self.one_in(2) {
            self.pick(&moments).to_owned()
        } else {
            format!(
                "{:02}T{:02}:{:02}:{:02}.{:06}Z",
                1 + self.random.below(30),
                self.random.below(24),
                self.random.below(60),
                self.random.below(60),
                self.random.below(1_000_000)
            )
        };
        let mut event = json!({
            "specversion": "1.0", "id": id, "source": "gateway", "type": format!("t{}", self.random.below(TYPES)), "time": format!("{month}-{moment}"), "organization": "org",
            "data": {
                "amount": self.pick(&["1", "2", "3", "10", "0.5", "12.345678901", "999", "-1", "-2", "0", "0.000000001", "61", "+7.50", "4e1"]),
                "user": format!("u{}", self.random.below(5)),
                "size": self.pick(&["1", "5", "5.000000001", "7.5", "8", "huge"]),
            },
        });
        if self.one_in(2) {
            let next = self.pick(&["2026-11-01T00:00:00Z", "2026-11-02T10:00:00.5Z"]).to_owned();
            event["endtime"] = json!(if self.one_in(2) { event["time"].as_str().unwrap().to_owned() } else { next });
        }
        event.to_string()
    }
}

/// Two closed months of a random world, with usage of September after its close, and all of it rated again under other books in between.
fn world(seed: u64, zone: &str, again: bool) -> Tally {
    let tally = Tally::empty();
    tally.done(&["init"]);
    let mut dice = Dice { random: Random::new(seed), small: false };
    let folder = tally.scratch().join("registry");
    std::fs::create_dir(&folder).unwrap();
    let mut book = dice.registry(zone);
    let first = book.text();
    let write = |text: &str| std::fs::write(folder.join("all.toml"), text).unwrap();
    write(&first);
    tally.done(&["registry", "publish", folder.to_str().unwrap()]);
    let committed = first.matches("window_commitment").count();
    assert!(committed > 0, "no price of world {seed} has a commitment for windows");
    assert!(first.matches("\nzone = ").count() > 4, "hardly a meter of world {seed} has a zone");
    let server = tally.serve();
    let send = |dice: &mut Dice, run: u64, month: &str, count: u64| {
        let events: Vec<String> = (0..count).map(|at| dice.event(&format!("{run}-{at}"), month)).collect();
        let leases: Vec<String> = (0..count / 2).map(|at| dice.lease(&format!("lease-{run}-{at}"), month)).collect();
        let answer = server.client().events(&[events, leases].concat()).unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text);
    };
    let rerate = |text: &str| {
        if again {
            write(text);
            tally.done(&["rerate", "--book", folder.to_str().unwrap()]);
        }
    };
    send(&mut dice, 1, "2026-09", 90);
    if seed.is_multiple_of(2) {
        // Before the close, so that what stood then had been rated again.
        dice.alter(&mut book);
        rerate(&book.text());
    }
    tally.done(&["close", "2026-09"]);
    send(&mut dice, 2, "2026-09", 40);
    dice.alter(&mut book);
    rerate(&book.text());
    send(&mut dice, 3, "2026-10", 60);
    // Back to where it began: the same version as at first.
    rerate(&first);
    send(&mut dice, 4, "2026-10", 10);
    tally.done(&["close", "2026-10"]);
    tally.done(&["drain"]);
    server.stop();
    if again {
        let rows = tally.value("SELECT count(*) AS value FROM usage.charges WHERE supersedes IS NOT NULL");
        assert!(rows.parse::<u64>().unwrap() > 100, "world {seed}: {rows} rows of usage rated again");
    }
    tally
}

/// A copy of a bundle in which the amount of every line is another one: who finds which.
fn every_amount_is_missed(python: &Path, program: &Path, folder: &Path, key: &str) {
    let path = folder.join("invoice.json");
    let mut invoice: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let mut lines = BTreeSet::new();
    let other = |amount: &Value| json!(format!("1{}", amount.as_str().unwrap().trim_start_matches('-')));
    for line in invoice["lines"].as_array_mut().unwrap() {
        line["amount"] = other(&line["amount"]);
        lines.insert(format!("{} {}", line["contract_line"].as_str().unwrap(), line["service_period"].as_str().unwrap()));
    }
    for line in invoice["terms"].as_array_mut().into_iter().flatten() {
        line["amount"] = other(&line["amount"]);
        let [contract, term, month] = ["contract", "term", "service_period"].map(|name| line[name].as_str().unwrap());
        lines.insert(format!("{contract}#{term} {month}"));
    }
    std::fs::write(&path, invoice.to_string()).unwrap();
    let rows = duckdb(python, folder);
    let amounts = rows.iter().filter_map(|row| row.strip_prefix("amount of a line ").or(row.strip_prefix("amount of a term ")));
    let by_duckdb = amounts.map(|row| row.split(' ').take(2).collect::<Vec<_>>().join(" "));
    assert_eq!(by_duckdb.collect::<BTreeSet<_>>(), lines, "{rows:?}");
    let verdict = differences(program, folder, key);
    let found = verdict.iter().filter(|found| found["what"] == "amount");
    let row = |found: &Value| found["row"].as_str().unwrap().split(' ').skip(2).collect::<Vec<_>>().join(" ");
    assert_eq!(found.map(row).collect::<BTreeSet<_>>(), lines, "{verdict:?}");
}

/// An amount of two decimal places as an integer.
fn hundredths(amount: &str) -> i128 {
    let (whole, part) = amount.split_once('.').unwrap_or((amount, ""));
    format!("{whole}{part:0<2}").parse().unwrap()
}

/// The shortest text of it.
fn cents(hundredths: i128) -> String {
    let sign = if hundredths < 0 { "-" } else { "" };
    let text = format!("{sign}{}.{:02}", hundredths.abs() / 100, hundredths.abs() % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Copies of a bundle in each of which a term that moved something is left out, and the sum is right again: who misses it.
fn every_term_is_missed(python: &Path, program: &Path, folder: &Path, key: &str) -> usize {
    let path = folder.join("invoice.json");
    let whole = std::fs::read_to_string(&path).unwrap();
    let invoice: Value = serde_json::from_str(&whole).unwrap();
    for at in 0..invoice["terms"].as_array().map_or(0, Vec::len) {
        let mut forged = invoice.clone();
        let term = forged["terms"].as_array_mut().unwrap().remove(at);
        let amount = term["amount"].as_str().unwrap();
        forged["total"] = json!(cents(hundredths(invoice["total"].as_str().unwrap()) - hundredths(amount)));
        for (number, line) in forged["terms"].as_array_mut().unwrap().iter_mut().enumerate() {
            line["number"] = json!((invoice["lines"].as_array().unwrap().len() + number + 1).to_string());
        }
        if forged["terms"].as_array().unwrap().is_empty() {
            forged.as_object_mut().unwrap().remove("terms");
            forged["v"] = json!("1");
        }
        std::fs::write(&path, forged.to_string()).unwrap();
        let [contract, name, month] = ["contract", "term", "service_period"].map(|name| term[name].as_str().unwrap());
        // One that looks at months together has a line in each that was looked at.
        let missed = amount != "0" || term.get("window").is_some();
        let rows = duckdb(python, folder);
        let row = format!("line of a term {contract}#{name} {month} {amount} None");
        assert_eq!(rows.contains(&row), missed, "{row}: {rows:?}");
        let verdict = differences(program, folder, key);
        let row = format!("{contract}#{name} {month}");
        let found =
            verdict.iter().any(|found| found["what"] == "line of the term" && found["row"] == row.as_str() && found["expected"] == amount);
        assert_eq!(found, missed, "{row}: {verdict:?}");
    }
    std::fs::write(&path, whole).unwrap();
    let moved = invoice["terms"].as_array().into_iter().flatten().filter(|term| term["amount"] != "0");
    moved.count()
}

#[test]
fn every_kind_of_price_is_proved_by_programs_that_share_nothing() {
    let (Some(python), Some(program)) = (python(), verifier()) else { return };
    let seeds: u64 = std::env::var("TALLY_WORLDS").map_or(3, |text| text.parse().unwrap());
    let mut terms = 0;
    for seed in 0..seeds {
        let again = seed > 0;
        let tally = world(seed, "UTC", again);
        let key = tally.done(&["evidence", "key"]).trim().to_owned();
        let priced = tally.value("SELECT count(*) AS value FROM usage.charges WHERE fate = 'charged'");
        assert!(priced.parse::<u64>().unwrap() > 200, "world {seed}: {priced} readings were charged");
        for month in [202_609, 202_610] {
            let folder = tally.scratch().join(month.to_string());
            tally.done(&["evidence", "bundle", "--invoice", &number(&tally, "org", month), "--out", folder.to_str().unwrap()]);
            assert_eq!(duckdb(&python, &folder), Vec::<String>::new(), "world {seed}, {month}, {}", folder.display());
            let verdict = verify(&program, &folder, &key);
            assert!(verdict.status.success(), "world {seed}, {month}: {}{}", out(&verdict), err(&verdict));
            assert!(files(&folder).len() > 10);
            terms += every_term_is_missed(&python, &program, &folder, &key);
            every_amount_is_missed(&python, &program, &folder, &key);
        }
        for month in ["2026-09", "2026-10"] {
            let folder = tally.scratch().join(format!("export-{month}"));
            tally.done(&["evidence", "export", "--period", month, "--out", folder.to_str().unwrap()]);
            let opinion = std::process::Command::new(&program).arg("--home-export").arg(&folder).arg(month).output().unwrap();
            assert!(opinion.status.success(), "world {seed}, {month}: {}{}", out(&opinion), err(&opinion));
        }
    }
    assert!(terms > 5, "{terms} lines of terms moved something");
}

/// Leases that are cut at local days and bands.
#[test]
fn leases_of_other_zones_are_proved_too() {
    let (Some(python), Some(program)) = (python(), verifier()) else { return };
    for (seed, zone) in [(11, "America/Los_Angeles"), (12, "Asia/Kolkata"), (13, "Australia/Lord_Howe")] {
        let tally = world(seed, zone, true);
        let key = tally.done(&["evidence", "key"]).trim().to_owned();
        for month in [202_609, 202_610] {
            let folder = tally.scratch().join(month.to_string());
            tally.done(&["evidence", "bundle", "--invoice", &number(&tally, "org", month), "--out", folder.to_str().unwrap()]);
            assert_eq!(duckdb(&python, &folder), Vec::<String>::new(), "{zone}, {month}, {}", folder.display());
            let verdict = verify(&program, &folder, &key);
            assert!(verdict.status.success(), "{zone}, {month}: {}{}", out(&verdict), err(&verdict));
        }
    }
}
