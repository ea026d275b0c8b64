//! Bundles of an invoice of many readings: made by `tally evidence bundle`, checked by stock DuckDB and by `tally-verify`, each a process of its
//! own whose start counts. Three customers: one rents GPUs, one sends requests to a few models, one to the models of a long price list.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant as Timer};

use anyhow::{Context, bail, ensure};
use datasets::Random;
use serde_json::{Value, json};

use crate::figures::{Samples, table};
use crate::machine::{Profile, Used, wait_for_quiet};
use crate::result::{Begun, Reported};
use crate::server::Tally;

/// The month that is invoiced.
const PERIOD: &str = "2026-10";
/// Its beginning, in seconds.
const BEGINS: i64 = 1_790_812_800;
/// Its length.
const SECONDS: u64 = 31 * 86_400;
/// Models of a customer that needs no more.
const FEW: u64 = 4;
/// Above so many tokens of context a model has another price.
const LONG: u64 = 200_000;

/// What VERIFY.md says for a Python with DuckDB; exit status 1 when a row comes back.
const DUCKDB: &str = include_str!("../../evidence/src/bundle/verify.py");

/// The programs that take part.
pub struct Programs {
    /// `tally`.
    pub tally: PathBuf,
    /// `tally-verify`.
    pub verify: PathBuf,
    /// A Python with stock DuckDB.
    pub python: PathBuf,
}

/// Runs the bench.
///
/// - `readings`: of each invoice. `models`: of the long price list, with four prices each.
pub async fn run(
    scratch: &Path,
    profile: Profile,
    patience: Duration,
    programs: &Programs,
    readings: u64,
    models: u64,
    rounds: u32,
) -> anyhow::Result<Reported> {
    ensure!(readings > 1 && models > 0 && rounds > 0, "there are at least two readings, one model and one round");
    let begun = Begun::now("bundle", profile, scratch).await?;
    let sends = |models| -> anyhow::Result<Customer> {
        Ok(Customer { map: REQUEST_MAP, registry: request_registry(models)?, rows: requests(readings / 2, models)?, per_row: 2 })
    };
    let customers = [
        ("leases", Customer { map: LEASE_MAP, registry: lease_registry(), rows: leases(readings)?, per_row: 1 }),
        ("requests", sends(FEW)?),
        ("price list", sends(models)?),
    ];
    let mut rows = vec![["", "build s", "DuckDB s", "tally-verify s", "bytes per reading"].map(str::to_owned).to_vec()];
    let mut figures = serde_json::Map::new();
    for (name, customer) in &customers {
        let measured = customer.measure(&scratch.join(name.replace(' ', "-")), programs, patience, rounds)?;
        let second = |samples: &Samples| format!("{:.2}", samples.median().as_secs_f64());
        let bytes = measured.bytes.checked_div(measured.readings).unwrap_or(0);
        rows.push(vec![
            format!("{} of {name}", measured.readings),
            second(&measured.build),
            second(&measured.duckdb),
            second(&measured.verify),
            bytes.to_string(),
        ]);
        figures.insert((*name).to_owned(), measured.figures());
        eprintln!("{name}: measured");
    }
    let figures = json!({
        "what": "medians of processes, their start included; readings with random UUIDs as ids",
        "target": "100,000 readings: built in less than 2 s, verified by DuckDB in less than 5 s, at most 60 bytes per reading",
        "rounds": rounds, "models": models, "customers": figures,
    });
    begun.end(figures, &table(&rows))
}

/// One invoice's worth.
struct Customer {
    map: &'static str,
    registry: String,
    rows: String,
    per_row: u64,
}

struct Measured {
    readings: u64,
    bytes: u64,
    build: Samples,
    duckdb: Samples,
    verify: Samples,
    others: f64,
}

impl Measured {
    fn figures(&self) -> Value {
        json!({
            "readings": self.readings, "bytes": self.bytes, "bytes_per_reading": self.bytes.checked_div(self.readings),
            "build": self.build.json(), "duckdb": self.duckdb.json(), "tally_verify": self.verify.json(),
            "processors_busy_with_others_percent": self.others,
        })
    }
}

impl Customer {
    fn measure(&self, folder: &Path, programs: &Programs, patience: Duration, rounds: u32) -> anyhow::Result<Measured> {
        let tally = Tally::with_registry(&programs.tally, folder, &[("registry.toml", &self.registry)])?;
        let (file, map) = (folder.join("usage.jsonl"), folder.join("map.toml"));
        std::fs::write(&file, &self.rows)?;
        std::fs::write(&map, self.map)?;
        tally.done(&["ingest", &file.display().to_string(), "--map", &map.display().to_string()])?;
        tally.done(&["close", PERIOD])?;
        let invoice = tally.value("SELECT invoice_id FROM billing.invoices").context("the close issued no invoice")?;
        let key = tally.done(&["evidence", "key"])?.trim().to_owned();
        let mut measured = Measured {
            readings: 0,
            bytes: 0,
            build: Samples::default(),
            duckdb: Samples::default(),
            verify: Samples::default(),
            others: 0.0,
        };
        wait_for_quiet(patience)?;
        let used = Used::now()?;
        let own = crate::machine::ended_children_time()?;
        for round in 0..rounds {
            let out = folder.join(format!("bundle-{round}"));
            let started = Timer::now();
            let made =
                tally.done(&["--format", "json", "evidence", "bundle", "--invoice", &invoice, "--out", &out.display().to_string()])?;
            measured.build.push(started.elapsed());
            let made: Value = serde_json::from_str(&made)?;
            let figure = |name: &str| made.get(name).and_then(Value::as_u64).with_context(|| format!("the bundle has no {name}"));
            (measured.readings, measured.bytes) = (figure("readings")?, figure("bytes")?);
            measured.duckdb.push(holds(Command::new(&programs.python).args(["-c", DUCKDB]).current_dir(&out))?);
            measured.verify.push(holds(Command::new(&programs.verify).arg(&out).args(["--log-key", &key]))?);
            std::fs::remove_dir_all(&out)?;
        }
        (_, measured.others) = used.since(crate::machine::ended_children_time()?.saturating_sub(own))?;
        let sent = u64::try_from(self.rows.lines().count())?.saturating_mul(self.per_row);
        ensure!(measured.readings == sent, "{sent} readings were sent and the bundle holds {}", measured.readings);
        Ok(measured)
    }
}

/// How long a verifier took, which must agree.
fn holds(command: &mut Command) -> anyhow::Result<Duration> {
    let started = Timer::now();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("could not start {}", command.get_program().display()))?;
    let took = started.elapsed();
    if !output.status.success() {
        bail!("{} does not agree: {}", command.get_program().display(), String::from_utf8_lossy(&output.stdout));
    }
    Ok(took)
}

/// A random UUID, version 4.
fn uuid(random: &mut Random) -> String {
    let mut hex = |digits: usize, fixed: Option<char>| -> String {
        let digit = |random: &mut Random| char::from_digit(u32::try_from(random.below(16)).unwrap_or(0), 16).unwrap_or('0');
        (0..digits).map(|place| fixed.filter(|_| place == 0).unwrap_or_else(|| digit(random))).collect()
    };
    [hex(8, None), hex(4, None), hex(4, Some('4')), hex(4, Some('a')), hex(12, None)].join("-")
}

const LEASE_MAP: &str = r#"
format = "jsonl"
source = "bench"
type = "gpu.lease"
[identity]
columns = ["id"]
[organization]
constant = "acme"
[time]
column = "time"
format = "number"
unit = "s"
[quantities]
gpu_seconds = "held"
[dimensions]
gpu = { column = "gpu" }
"#;

const REQUEST_MAP: &str = r#"
format = "jsonl"
source = "bench"
type = "llm.request"
[identity]
columns = ["id"]
[organization]
constant = "acme"
[time]
column = "time"
format = "number"
unit = "s"
[quantities]
input_tokens = "input"
output_tokens = "output"
[dimensions]
model = { column = "model" }
context = { column = "input" }
"#;

fn leases(rows: u64) -> anyhow::Result<String> {
    let (mut random, mut text) = (Random::new(1), String::new());
    for _ in 0..rows {
        let (id, time) = (uuid(&mut random), BEGINS + i64::try_from(random.below(SECONDS))?);
        let gpu = if random.below(4) == 0 { "h200" } else { "h100" };
        writeln!(text, r#"{{"id":"{id}","time":{time},"gpu":"{gpu}","held":{}}}"#, 1 + random.below(86_400))?;
    }
    Ok(text)
}

fn requests(rows: u64, models: u64) -> anyhow::Result<String> {
    let (mut random, mut text) = (Random::new(2), String::new());
    for _ in 0..rows {
        let (id, time) = (uuid(&mut random), BEGINS + i64::try_from(random.below(SECONDS))?);
        let model = random.below(models).min(random.below(models));
        let (input, output) = (200 + random.below(2 * LONG), 20 + random.below(4_000));
        writeln!(text, r#"{{"id":"{id}","time":{time},"model":"m-{model}","input":{input},"output":{output}}}"#)?;
    }
    Ok(text)
}

const CONTRACT: &str = "[[rounding]]\nasset = \"USD\"\nscale = 2\n[[contract]]\nid = \"standard\"\ndefault = true\nprice_book = \"list\"\n\
    effective_at = \"2026-01-01T00:00:00Z\"\n[[price_book]]\nid = \"list\"\ncurrency = \"USD\"\n";

fn lease_registry() -> String {
    let mut text = String::from(
        "[[unit]]\nid = \"second\"\n[[meter]]\nid = \"gpu-time\"\nevent_type = \"gpu.lease\"\naggregation = \"sum\"\nvalue = \"gpu_seconds\"\n\
         unit = \"second\"\ndimensions = { gpu = \"gpu\" }\n",
    );
    for gpu in ["h100", "h200"] {
        text.push_str(&format!("[[sku]]\nid = \"{gpu}\"\nfamily = \"gpu-cloud\"\nmeter = \"gpu-time\"\nmatch = {{ gpu = \"{gpu}\" }}\n"));
    }
    text.push_str(CONTRACT);
    for (gpu, price) in [("h100", "2.49"), ("h200", "3.79")] {
        text.push_str(&price_of(gpu, "3600", price));
    }
    text
}

fn request_registry(models: u64) -> anyhow::Result<String> {
    let mut text = String::from("[[unit]]\nid = \"token\"\n");
    for kind in ["input", "output"] {
        writeln!(
            text,
            "[[meter]]\nid = \"{kind}\"\nevent_type = \"llm.request\"\naggregation = \"sum\"\nvalue = \"{kind}_tokens\"\nunit = \"token\"\n\
             dimensions = {{ model = \"model\", context = \"context\" }}"
        )?;
        for model in 0..models {
            let sku = format!("family = \"llm\"\nmeter = \"{kind}\"\nmatch = {{ model = \"m-{model}\" }}\n");
            writeln!(
                text,
                "[[sku]]\nid = \"{kind}-{model}\"\n{sku}[[sku]]\nid = \"{kind}-long-{model}\"\n{sku}above = {{ context = \"{LONG}\" }}"
            )?;
        }
    }
    text.push_str(CONTRACT);
    for model in 0..models {
        for (sku, price) in [("input", "0.8"), ("output", "3.2"), ("input-long", "1.6"), ("output-long", "6.4")] {
            text.push_str(&price_of(&format!("{sku}-{model}"), "1000000", price));
        }
    }
    Ok(text)
}

fn price_of(sku: &str, per: &str, price: &str) -> String {
    format!(
        "[[price_book.price]]\nsku = \"{sku}\"\neffective_at = \"2026-01-01T00:00:00Z\"\nmodel = \"per_unit\"\nper = \"{per}\"\nunit_price = \"{price}\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registries_hold_and_ids_are_random_uuids() {
        for text in [lease_registry(), request_registry(3).unwrap()] {
            let file = platform_registry::SourceFile { name: "bench.toml".to_owned(), text };
            platform_registry::Version::check(&[file]).unwrap_or_else(|problems| panic!("{problems}"));
        }
        let mut random = Random::new(1);
        let (first, second) = (uuid(&mut random), uuid(&mut random));
        assert_ne!(first, second);
        assert_eq!((first.len(), first.as_bytes()[14], first.as_bytes()[19]), (36, b'4', b'a'));
        assert_eq!(requests(7, 3).unwrap().lines().count(), 7);
    }
}
