//! `tally ingest FILE… --map MAP`: files enter through the same stream as everything else. A killed run goes on where it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use platform_ingest::map::{Item, Map};
use platform_ingest::wire::RawEvent;
use serde_json::json;
use shared_types::Digest;

use super::Refused;
use super::owner::OwnerClient;
use crate::home::Home;
use crate::roles::{OnFailure, Running};
use crate::{Common, Format, Outcome};

/// Arguments of `tally ingest`.
#[derive(Args)]
pub struct IngestArguments {
    /// CSV or JSONL files, plain, gzip or zstd by their content.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// How rows become events: `docs/guide/ingest-files.md`.
    #[arg(long)]
    map: PathBuf,
    /// Send each file from its first row even where an interrupted run left off. Events that were sent are duplicates then.
    #[arg(long)]
    restart: bool,
}

/// Events in one append.
const EVENTS: usize = 2_000;
/// Bytes in one append.
const BYTES: usize = 2 << 20;

/// What one file came to.
#[derive(Default)]
struct Tally {
    rows: u64,
    events: u64,
    resumed_after: u64,
    broken: u64,
    filtered: BTreeMap<String, u64>,
}

/// Where the events go: the stream of a home that this process owns, or the owner's HTTP surface.
enum Target {
    Own(Box<Running>),
    Owner(OwnerClient),
}

/// Sends every file, then waits until what was sent is committed and folded (own home only).
pub async fn run(arguments: IngestArguments, common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    let map_text =
        std::fs::read_to_string(&arguments.map).with_context(|| format!("could not read the map {}", arguments.map.display()))?;
    let map = Map::parse(&map_text).map_err(|error| Refused(format!("{}: {error}", arguments.map.display())))?;
    let target = match OwnerClient::of(&home)? {
        Some(owner) => Target::Owner(owner),
        None => Target::Own(Box::new(Running::start(&home, OnFailure::End).await?)),
    };
    let mut reports = Vec::new();
    let mut broken = 0;
    for file in &arguments.files {
        let progress = Progress::of(&home, file, &map_text, arguments.restart)?;
        let tally = send_file(&map, file, progress, &target).await?;
        broken += tally.broken;
        report(file, &tally, common.format);
        reports.push(json!({
            "file": file, "rows": tally.rows, "events": tally.events, "resumed_after": tally.resumed_after,
            "broken": tally.broken, "filtered": tally.filtered,
        }));
    }
    if let Target::Own(running) = target {
        let bar = spinner("committing and folding");
        running.drain().await?;
        bar.finish_and_clear();
    }
    if common.format == Format::Json {
        println!("{}", json!({"files": reports}));
    }
    Ok(if broken > 0 { Outcome::Found } else { Outcome::Done })
}

async fn send_file(map: &Map, file: &Path, mut progress: Progress, target: &Target) -> anyhow::Result<Tally> {
    let mut reader = map.open(file).with_context(|| format!("could not open {}", file.display()))?;
    let bar = bar(reader.progress().bytes_total, &file.display().to_string());
    let mut tally = Tally { resumed_after: progress.row, ..Tally::default() };
    let mut events: Vec<RawEvent> = Vec::new();
    let mut bytes = 0;
    while let Some(item) = reader.next() {
        let item = match item {
            Ok(item) => item,
            Err(error) => {
                bar.abandon();
                // What came before the broken row counts; the next run goes on behind it.
                if !events.is_empty() {
                    target.send(std::mem::take(&mut events)).await?;
                }
                progress.reached(tally.rows)?;
                bail!(Refused(format!("{}: {error}", file.display())));
            }
        };
        let payload = match item {
            Item::Filtered { row, rule } => {
                tally.rows = row;
                *tally.filtered.entry(rule.to_string()).or_default() += 1;
                continue;
            }
            Item::Broken { row, why, json, .. } => {
                tally.rows = row;
                tally.broken += 1;
                bar.suspend(|| eprintln!("{} row {row}: {why}; sent as it is, to be quarantined", file.display()));
                if row <= progress.row {
                    continue;
                }
                RawEvent::new(json)
            }
            Item::Event { row, json, .. } => {
                tally.rows = row;
                if row <= progress.row {
                    continue;
                }
                RawEvent::new(json)
            }
        };
        bytes += payload.payload.len();
        events.push(payload);
        if events.len() >= EVENTS || bytes >= BYTES {
            tally.events += u64::try_from(events.len())?;
            target.send(std::mem::take(&mut events)).await?;
            bytes = 0;
            progress.reached(tally.rows)?;
            bar.set_position(reader.progress().bytes_read);
        }
    }
    if !events.is_empty() {
        tally.events += u64::try_from(events.len())?;
        target.send(events).await?;
    }
    progress.finished()?;
    bar.finish_and_clear();
    Ok(tally)
}

impl Target {
    async fn send(&self, events: Vec<RawEvent>) -> anyhow::Result<()> {
        match self {
            Self::Own(running) => loop {
                match running.intake.append(&crate::access::local(platform_iam::Action::EventsSend)?, events.clone()).await {
                    Ok(_) => return Ok(()),
                    Err(crate::roles::intake::IntakeError::Lagging { .. }) => tokio::time::sleep(Duration::from_millis(50)).await,
                    Err(crate::roles::intake::IntakeError::NoRegistry) => {
                        bail!(Refused(crate::roles::intake::IntakeError::NoRegistry.to_string()))
                    }
                    Err(error) => return Err(error.into()),
                }
            },
            Self::Owner(owner) => {
                let body = batch_body(&events);
                loop {
                    let (status, text) = owner.post("/v1/events", "application/cloudevents-batch+json", body.clone()).await?;
                    match status {
                        202 => return Ok(()),
                        503 if text.contains("INGEST-0005") || text.contains("HTTP-0002") => {
                            tokio::time::sleep(Duration::from_millis(200)).await;
                        }
                        _ => bail!(Refused(text)),
                    }
                }
            }
        }
    }
}

fn batch_body(events: &[RawEvent]) -> Vec<u8> {
    let mut body = vec![b'['];
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&event.payload);
    }
    body.push(b']');
    body
}

/// How far an earlier, interrupted run of the same file and map came: kept beside the home's data, gone when the file is finished.
struct Progress {
    path: PathBuf,
    row: u64,
}

impl Progress {
    fn of(home: &Home, file: &Path, map: &str, restart: bool) -> anyhow::Result<Self> {
        let name = file.canonicalize().with_context(|| format!("could not find {}", file.display()))?;
        let meta = std::fs::metadata(&name)?;
        let modified = meta.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let key = format!("{}\n{}\n{modified}\n{map}", name.display(), meta.len());
        let path = home.path("ingest").join(format!("{}.row", Digest::of(key.as_bytes())));
        let row = match std::fs::read_to_string(&path) {
            Ok(text) if !restart => text.trim().parse().with_context(|| format!("{} is damaged; use --restart", path.display()))?,
            _ => 0,
        };
        Ok(Self { path, row })
    }

    /// Written after the rows are durable in the stream: a crash in between sends some again, which counts nothing twice.
    fn reached(&mut self, row: u64) -> anyhow::Result<()> {
        let fresh = self.path.with_extension("new");
        std::fs::write(&fresh, row.to_string())?;
        std::fs::rename(&fresh, &self.path)?;
        Ok(())
    }

    fn finished(self) -> anyhow::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn report(file: &Path, tally: &Tally, format: Format) {
    if format == Format::Json {
        return;
    }
    let filtered: u64 = tally.filtered.values().sum();
    println!(
        "{}: {} rows, {} events sent, {filtered} filtered, {} broken{}",
        file.display(),
        tally.rows,
        tally.events,
        tally.broken,
        if tally.resumed_after > 0 { format!(", resumed after row {}", tally.resumed_after) } else { String::new() }
    );
    for (rule, rows) in &tally.filtered {
        println!("  filtered by {rule}: {rows}");
    }
}

fn bar(total: u64, name: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}") {
        bar.set_style(style);
    }
    bar.set_message(name.to_owned());
    bar
}

/// A spinner for work whose length is not known.
pub fn spinner(message: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_message(message.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
