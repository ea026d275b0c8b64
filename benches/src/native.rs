//! `tally ingest` of a JSONL file of token requests, in a home that the command owns: no HTTP, one sender, one kind of event.
//! It ends when everything is committed and folded, so its time is that of the whole path, start of the process included.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant as Timer};

use anyhow::ensure;
use datasets::Random;
use serde_json::{Value, json};

use crate::figures::{per_second, percent, seconds, seconds_per_million, table};
use crate::machine::{self, Used};
use crate::profile::Stages;
use crate::server::Tally;

const MAP: &str = r#"
format = "jsonl"
source = "bench"
type = "llm.request"

[identity]
columns = ["id"]

[organization]
column = "organization"

[time]
column = "time"
format = "number"
unit = "s"

[quantities]
input_tokens = "input"
output_tokens = "output"

[dimensions]
model = { column = "model" }
"#;

/// What it came to.
pub struct Native {
    events: u64,
    wall: Duration,
    processor: Duration,
    busy: f64,
    others: f64,
    load: String,
    stages: Stages,
}

/// Writes the file, ingests it, and counts what became of it.
pub fn run(binary: &Path, folder: &Path, patience: Duration, events: u64) -> anyhow::Result<Native> {
    let tally = Tally::new(binary, folder)?;
    let (file, map) = (folder.join("requests.jsonl"), folder.join("requests.toml"));
    std::fs::write(&file, rows(events)?)?;
    std::fs::write(&map, MAP)?;
    machine::wait_for_quiet(patience)?;
    let logged = tally.log()?.len();
    let (used, before, own) = (Used::now()?, machine::ended_children_time()?, machine::own_time()?);
    let started = Timer::now();
    tally.done(&["ingest", &file.display().to_string(), "--map", &map.display().to_string()])?;
    let wall = started.elapsed();
    let processor = machine::ended_children_time()?.saturating_sub(before);
    let (busy, others) = used.since(processor + machine::own_time()?.saturating_sub(own))?;
    let found: u64 = tally.value("SELECT count(*) FROM usage.events WHERE outcome = 'accepted'")?.parse()?;
    ensure!(found == events, "{events} events were in the file and {found} were accepted");
    let log = tally.log()?;
    let stages = Stages::of(log.get(logged..).unwrap_or_default());
    Ok(Native { events, wall, processor, busy, others, load: machine::load()?, stages })
}

/// Requests in the shape of `datasets`, flat.
fn rows(events: u64) -> anyhow::Result<String> {
    let mut random = Random::new(1);
    let mut text = String::new();
    for number in 0..events {
        let model = if random.below(3) == 0 { "mistral-7b" } else { "llama-70b" };
        let (organization, second) = (random.below(12).min(random.below(12)), number * 45 * 86_400 / events);
        writeln!(
            text,
            r#"{{"id":"r{number}","organization":"org-{organization:03}","time":{},"model":"{model}","input":{},"output":{}}}"#,
            datasets::START + i64::try_from(second)?,
            200 + random.below(6_000),
            20 + random.below(1_500),
        )?;
    }
    Ok(text)
}

impl Native {
    /// For the result.
    pub fn figures(&self) -> Value {
        let stages: serde_json::Map<String, Value> =
            self.stages.spent.iter().map(|(name, time)| (name.clone(), json!(seconds(*time)))).collect();
        json!({
            "what": "tally ingest of a JSONL file of token requests, three readings each, to the last fold; start of the process included",
            "events": self.events,
            "batches": self.stages.batches,
            "seconds": seconds(self.wall),
            "events_per_second": per_second(self.events, self.wall),
            "cpu_seconds_per_million_events": seconds_per_million(self.processor, self.events),
            "processors_busy_percent": self.busy,
            "processors_busy_with_others_percent": self.others,
            "load_at_end": self.load,
            "stage_seconds": stages,
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut rows = vec![
            vec!["file, JSONL".to_owned(), String::new()],
            vec!["events".to_owned(), self.events.to_string()],
            vec!["events/s queryable".to_owned(), per_second(self.events, self.wall).to_string()],
            vec![
                "CPU s per million events".to_owned(),
                seconds_per_million(self.processor, self.events).map_or_else(|| "-".to_owned(), |seconds| seconds.to_string()),
            ],
            vec!["processors busy, of that others".to_owned(), format!("{} %, {} %", self.busy, self.others)],
        ];
        for (name, time) in &self.stages.spent {
            rows.push(vec![name.clone(), format!("{:.3} s, {} % of the wall", seconds(*time), percent(*time, self.wall))]);
        }
        table(&rows)
    }
}
