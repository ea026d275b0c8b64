//! Prices of every kind in the real process: random registries and usage are rated and closed by the server, and both verifiers, which share
//! no code with it nor with each other, come to the same amounts; an amount that is changed is found, on every line.

use std::collections::BTreeSet;
use std::path::Path;

use datasets::Random;
use serde_json::{Value, json};

use crate::bundle::{duckdb, files, number, verifier, verify};
use crate::tally::{Tally, err, out, python};

/// Meters, each with its SKU and its prices.
const METERS: u64 = 36;
/// Event types; a meter reads one of them.
const TYPES: u64 = 6;

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
                let then = self.pick(&["sum", "alone", "p50", "p90", "p95", "p99"]);
                format!("bucket = \"{bucket}\"\neach = \"{each}\"\nthen = \"{then}\"\n")
            }
            _ => String::new(),
        };
        (name, fields, ["sum", "count"].contains(&name))
    }

    /// The fields of a price, for a meter that sums, or that follows levels.
    fn model(&mut self, sums: bool, levels: bool) -> String {
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
        fields
    }

    /// A registry: meters of every kind, some of whose SKUs have bands and some of whose prices change within the month.
    fn registry(&mut self) -> String {
        let mut text = "[[unit]]\nid = \"piece\"\n".to_owned();
        let mut prices = String::new();
        for meter in 0..METERS {
            let (aggregation, fields, sums) = self.aggregation();
            self.small = aggregation == "time_weighted";
            let value = if ["count", "unique"].contains(&aggregation) { "" } else { "value = \"amount\"\n" };
            text += &format!(
                "[[meter]]\nid = \"m{meter}\"\nevent_type = \"t{}\"\naggregation = \"{aggregation}\"\n{fields}{value}unit = \"piece\"\nnegative = \"accept\"\n\
                 dimensions = {{ user = \"user\", size = \"size\" }}\n",
                meter % TYPES
            );
            let skus: &[(&str, &str)] =
                if self.one_in(4) { &[("", ""), ("-long", "above = { size = \"5\" }\nup_to = { size = \"7.5\" }\n")] } else { &[("", "")] };
            for (suffix, band) in skus {
                text += &format!("[[sku]]\nid = \"m{meter}{suffix}\"\nfamily = \"all\"\nmeter = \"m{meter}\"\n{band}");
                let starts: &[&str] =
                    if self.one_in(3) { &["2020-01-01T00:00:00Z", "2026-09-15T00:00:00Z"] } else { &["2020-01-01T00:00:00Z"] };
                for start in starts {
                    let model = self.model(sums, aggregation == "prorated");
                    prices += &format!("[[price_book.price]]\nsku = \"m{meter}{suffix}\"\neffective_at = \"{start}\"\n{model}");
                }
            }
        }
        let contract = "[[contract]]\nid = \"everyone\"\ndefault = true\nprice_book = \"all\"\neffective_at = \"2020-01-01T00:00:00Z\"\nbilling_period = \"month\"\n";
        let mode = self.pick(&["half_away_from_zero", "half_even"]);
        format!(
            "{text}[[price_book]]\nid = \"all\"\ncurrency = \"USD\"\n{prices}{contract}[[rounding]]\nasset = \"USD\"\nscale = 2\nmode = \"{mode}\"\n"
        )
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

/// Two closed months of a random world, with usage of September after its close.
fn world(seed: u64) -> Tally {
    let tally = Tally::empty();
    tally.done(&["init"]);
    let mut dice = Dice { random: Random::new(seed), small: false };
    let registry = tally.scratch().join("registry");
    std::fs::create_dir(&registry).unwrap();
    std::fs::write(registry.join("all.toml"), dice.registry()).unwrap();
    tally.done(&["registry", "publish", registry.to_str().unwrap()]);
    let server = tally.serve();
    let mut send = |run: u64, month: &str, count: u64| {
        let events: Vec<String> = (0..count).map(|at| dice.event(&format!("{run}-{at}"), month)).collect();
        let answer = server.client().events(&events).unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text);
    };
    send(1, "2026-09", 90);
    tally.done(&["close", "2026-09"]);
    send(2, "2026-09", 40);
    send(3, "2026-10", 60);
    tally.done(&["close", "2026-10"]);
    tally.done(&["drain"]);
    server.stop();
    tally
}

/// A copy of a bundle in which the amount of every line is another one: who finds which.
fn every_amount_is_missed(python: &Path, program: &Path, folder: &Path, key: &str) {
    let path = folder.join("invoice.json");
    let mut invoice: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let mut lines = BTreeSet::new();
    for line in invoice["lines"].as_array_mut().unwrap() {
        line["amount"] = json!(format!("1{}", line["amount"].as_str().unwrap().trim_start_matches('-')));
        lines.insert(format!("{} {}", line["contract_line"].as_str().unwrap(), line["service_period"].as_str().unwrap()));
    }
    std::fs::write(&path, invoice.to_string()).unwrap();
    let rows = duckdb(python, folder);
    let by_duckdb =
        rows.iter().filter_map(|row| row.strip_prefix("amount of a line ")).map(|row| row.split(' ').take(2).collect::<Vec<_>>().join(" "));
    assert_eq!(by_duckdb.collect::<BTreeSet<_>>(), lines, "{rows:?}");
    let verdict = std::process::Command::new(program).arg(folder).args(["--log-key", key, "--format", "json"]).output().unwrap();
    let verdict: Value = serde_json::from_slice(&verdict.stdout).unwrap();
    let differences = verdict["differences"].as_array().unwrap().iter().filter(|found| found["what"] == "amount");
    let row = |found: &Value| found["row"].as_str().unwrap().split(' ').skip(2).collect::<Vec<_>>().join(" ");
    assert_eq!(differences.map(row).collect::<BTreeSet<_>>(), lines, "{verdict}");
}

#[test]
fn every_kind_of_price_is_proved_by_programs_that_share_nothing() {
    let (Some(python), Some(program)) = (python(), verifier()) else { return };
    let seeds: u64 = std::env::var("TALLY_WORLDS").map_or(3, |text| text.parse().unwrap());
    for seed in 0..seeds {
        let tally = world(seed);
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
            every_amount_is_missed(&python, &program, &folder, &key);
        }
        for month in ["2026-09", "2026-10"] {
            let folder = tally.scratch().join(format!("export-{month}"));
            tally.done(&["evidence", "export", "--period", month, "--out", folder.to_str().unwrap()]);
            let opinion = std::process::Command::new(&program).arg("--home-export").arg(&folder).arg(month).output().unwrap();
            assert!(opinion.status.success(), "world {seed}, {month}: {}{}", out(&opinion), err(&opinion));
        }
    }
}
