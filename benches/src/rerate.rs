//! Rating again beside rating once: usage of several organizations enters `tally serve` by the real path, then a book that changes every
//! price is published with `--rerate`, while single events of shards that are rated again and of others go on arriving.
//!
//! - First: from records in the stream to committed batches, by the stages that the server logs.
//! - Again: from the record until its last batch is committed; batches are made side by side, so their stages take longer together.
//! - Prepared: what was rated again before the record, beside the owner, and is counted into `with preparation`.
//! - Waits: from the answer to a single event to its commit, without and with usage rated again meanwhile.
//!
//! Three books, each in homes of its own: one price, graduated tiers, the sum of each day's greatest value, whose states are ordered sets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant as Timer};

use anyhow::{Context, anyhow, ensure};
use datasets::Random;
use serde_json::{Value, json};
use shared_types::ShardId;

use crate::figures::{Samples, faster, milliseconds, per_second, percent, seconds, seconds_per_million, table};
use crate::machine::{self, Profile, Used};
use crate::path::{Load, Log, Phase, Seen};
use crate::profile::{Stages, number};
use crate::result::{Begun, Reported};
use crate::server::{Server, Tally};

/// Organizations that use something; the first ones use most.
const ORGANIZATIONS: u64 = 12;
/// The month of the usage begins here, in seconds: 2026-10-01T00:00:00Z.
const BEGINS: i64 = 1_790_812_800;
/// Its length.
const SECONDS: u64 = 31 * 86_400;
/// Events of a post.
const POST: u64 = 500;
/// Readings of an event.
const READINGS: u64 = 2;
/// Time between two single events of one kind.
const BEAT: Duration = Duration::from_millis(25);
/// How long single events are sent before the publication.
const CALM: Duration = Duration::from_secs(2);

/// A book, in two versions that differ in every price.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    aggregation: &'static str,
    /// What follows `effective_at` in the row of a price, before and after.
    models: [&'static str; 2],
}

const SHAPES: [Shape; 3] = [
    Shape {
        name: "one price",
        aggregation: "aggregation = \"sum\"",
        models: [
            "model = \"per_unit\"\nper = \"1000000\"\nunit_price = \"0.8000000005\"",
            "model = \"per_unit\"\nper = \"1000000\"\nunit_price = \"0.7000000005\"",
        ],
    },
    Shape {
        name: "tiers",
        aggregation: "aggregation = \"sum\"",
        models: [
            "model = \"graduated\"\nper = \"1000000\"\ntiers = [{ up_to = \"1000000\", unit_price = \"0.9\" }, { up_to = \"20000000\", unit_price = \"0.8\" }, { unit_price = \"0.6\" }]",
            "model = \"graduated\"\nper = \"1000000\"\ntiers = [{ up_to = \"2000000\", unit_price = \"0.7\" }, { up_to = \"40000000\", unit_price = \"0.5\" }, { unit_price = \"0.4\" }]",
        ],
    },
    Shape {
        name: "ordered sets",
        aggregation: "aggregation = \"bucketed\"\nbucket = \"day\"\neach = \"max\"\nthen = \"sum\"",
        models: [
            "model = \"per_unit\"\nper = \"1000000\"\nunit_price = \"0.8000000005\"",
            "model = \"per_unit\"\nper = \"1000000\"\nunit_price = \"0.7000000005\"",
        ],
    },
];

/// Runs the bench.
///
/// - `readings`: of each book, in each round.
pub fn run(scratch: &Path, profile: Profile, patience: Duration, binary: &Path, readings: u64, rounds: u32) -> anyhow::Result<Reported> {
    ensure!(readings >= READINGS && rounds > 0, "there are at least two readings and one round");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let begun = runtime.block_on(Begun::now("rerate", profile, scratch))?;
    let mut measured = Vec::with_capacity(SHAPES.len());
    for shape in SHAPES {
        let mut of_shape = Vec::new();
        for round in 0..rounds {
            let folder = scratch.join(format!("{}-{round}", shape.name.replace(' ', "-")));
            machine::wait_for_quiet(patience)?;
            let round = Round::run(&folder, binary, shape, readings / READINGS, &runtime)?;
            eprintln!("{}: {}", shape.name, round.line());
            of_shape.push(round);
            std::fs::remove_dir_all(&folder)?;
        }
        // The middle one by what rating again takes.
        of_shape.sort_by_key(|round| round.again.time);
        let middle = of_shape.len() / 2;
        measured.push((shape.name, of_shape.swap_remove(middle)));
    }
    let books: serde_json::Map<String, Value> = measured.iter().map(|(name, round)| ((*name).to_owned(), round.figures())).collect();
    let figures = json!({
        "what": "usage over HTTP into tally serve, then a book with other prices published with --rerate; see benches/src/rerate.rs for each word",
        "target": "rating again is at least as fast per charge, from its record to the commit, as the first rating from the stream to its commit",
        "organizations": ORGANIZATIONS, "rounds": rounds, "of_the_rounds": "the middle one by the time of rating again",
        "books": books,
    });
    begun.end(figures, &text(&measured))
}

/// Rating of so many charges: how long it took, by stage too, and what the server used until every fold was done.
struct Rating {
    charges: u64,
    time: Duration,
    stages: Stages,
    server: Duration,
    peak_mb: u64,
}

impl Rating {
    fn figures(&self) -> Value {
        let stages: serde_json::Map<String, Value> =
            self.stages.spent.iter().map(|(name, time)| (name.clone(), json!(seconds(*time)))).collect();
        json!({
            "charges": self.charges, "batches": self.stages.batches, "stage_seconds": stages,
            "seconds": seconds(self.time), "charges_per_second": self.per_second(),
            "server_cpu_seconds_per_million_charges": seconds_per_million(self.server, self.charges), "server_peak_mb": self.peak_mb,
        })
    }

    fn per_second(&self) -> u64 {
        per_second(self.charges, self.time)
    }
}

/// One home: rated once, then again.
struct Round {
    first: Rating,
    again: Rating,
    /// What the check of the publication rated, before the record.
    prepared: Duration,
    /// From asking to the answer that everything is rated again.
    published: Duration,
    /// From answer to commit of single events: nothing else, then meanwhile; by whether their shard is rated again.
    waits: BTreeMap<&'static str, Samples>,
    others: f64,
    load: String,
}

impl Round {
    fn run(folder: &Path, binary: &Path, shape: Shape, events: u64, runtime: &tokio::runtime::Runtime) -> anyhow::Result<Self> {
        let [before, after] = shape.models.map(|model| registry(shape.aggregation, model));
        let tally = Tally::with_registry(binary, folder, &[("registry.toml", &before)])?;
        let other = folder.join("other-prices");
        std::fs::create_dir_all(&other)?;
        std::fs::write(other.join("registry.toml"), &after)?;
        let server = tally.serve()?;

        let (used, own) = (Used::now()?, machine::own_time()?);
        let processor = machine::processor_time(server.process())?;
        let phase = Phase::run(&tally, &server, &load(events)?, runtime)?;
        let stages = phase.stages.of_batches();
        let first = Rating {
            charges: events * READINGS,
            time: stages.all(),
            stages,
            server: phase.server,
            peak_mb: machine::peak_mb(server.process())?,
        };
        machine::forget_peak(server.process())?;

        let logged = tally.log()?.len();
        let before = machine::processor_time(server.process())?;
        let live = Live::run(&tally, &server, &other, runtime)?;
        let server_time = machine::processor_time(server.process())?.saturating_sub(before);
        let peak_mb = machine::peak_mb(server.process())?;
        let ours = machine::processor_time(server.process())?.saturating_sub(processor) + machine::own_time()?.saturating_sub(own);
        let (_, others) = used.since(ours)?;
        server.stop()?;
        let log = tally.log()?;
        let log = log.get(logged..).unwrap_or_default();
        let again: Vec<&str> = log.lines().filter(|line| number(line, "again").is_some_and(|rows| rows > 0)).collect();
        let rows: u64 = tally.value("SELECT count(*) FROM usage.charges WHERE supersedes IS NOT NULL")?.parse()?;
        ensure!(rows >= 2 * first.charges, "{} charges should be rated again, there are {rows} rows", first.charges);
        let took = |what: &str| -> Duration {
            let lines = log.lines().filter(|line| line.contains(what));
            lines.filter_map(|line| number(line, "micros")).map(Duration::from_micros).sum()
        };
        let time = took("rated again at the record");
        ensure!(!time.is_zero(), "the server did not say how long rating again took");
        let stages = Stages::of(&again.join("\n")).of_batches();
        Ok(Self {
            first,
            again: Rating { charges: rows / 2, time, stages, server: server_time, peak_mb },
            prepared: took("prepared rating again"),
            published: live.published,
            waits: live.waits,
            others,
            load: machine::load()?,
        })
    }

    /// Charges per second again, to those at first: from the record to its commit; and with what was prepared before it.
    fn ratios(&self) -> [Option<f64>; 2] {
        let per_charge = |rating: &Rating, more: Duration| (rating.time + more, rating.charges);
        let first = per_charge(&self.first, Duration::ZERO);
        [Duration::ZERO, self.prepared].map(|more| faster(first, per_charge(&self.again, more)))
    }

    fn line(&self) -> String {
        format!("{} charges/s at first, {} again, ratios {:?}", self.first.per_second(), self.again.per_second(), self.ratios())
    }

    fn figures(&self) -> Value {
        let [record, prepared] = self.ratios();
        let waits: serde_json::Map<String, Value> = self.waits.iter().map(|(kind, samples)| ((*kind).to_owned(), samples.json())).collect();
        json!({
            "first": self.first.figures(), "again": self.again.figures(), "prepared_seconds": seconds(self.prepared),
            "publication_to_answer_seconds": seconds(self.published), "answer_to_commit_of_a_single_event": waits,
            "ratio": record, "ratio_with_preparation": prepared,
            "processors_busy_with_others_percent": self.others, "load_at_end": self.load,
        })
    }
}

/// Single events around a publication.
struct Live {
    published: Duration,
    waits: BTreeMap<&'static str, Samples>,
}

impl Live {
    fn run(tally: &Tally, server: &Server, book: &Path, runtime: &tokio::runtime::Runtime) -> anyhow::Result<Self> {
        let (done, publishing) = (AtomicBool::new(false), AtomicBool::new(false));
        let (published, posts, seen) = thread::scope(|scope| {
            let watcher = scope.spawn(|| crate::path::watch(&server.client(), &done));
            let sender = scope.spawn(|| single_events(server, &publishing, &done));
            thread::sleep(CALM);
            publishing.store(true, Ordering::Release);
            let began = Timer::now();
            let book = book.display().to_string();
            let published = tally.done(&["registry", "publish", &book, "--rerate"]).map(|_| began.elapsed());
            done.store(true, Ordering::Release);
            let posts = sender.join().map_err(|_| anyhow!("the sender panicked")).flatten();
            let seen = watcher.join().map_err(|_| anyhow!("the watcher panicked")).flatten();
            anyhow::Ok((published?, posts?, seen?))
        })?;
        let log = runtime.block_on(Log::read(tally.home()))?;
        let mut waits: BTreeMap<&'static str, Samples> = BTreeMap::new();
        for (kind, answered, answer) in posts {
            let batch = log.last_batch(&answer)?;
            let committed = seen.iter().find(|seen: &&Seen| seen.committed >= batch).context("a single event was never seen")?;
            waits.entry(kind).or_default().push(committed.at.saturating_duration_since(answered));
        }
        Ok(Self { published, waits })
    }
}

/// Sends an event to a shard that is rated again and one to a shard that is not, in turns, until told to stop: kind, answer and its time.
fn single_events(server: &Server, publishing: &AtomicBool, done: &AtomicBool) -> anyhow::Result<Vec<(&'static str, Timer, String)>> {
    let client = server.client();
    let (mut posts, mut random) = (Vec::new(), Random::new(9));
    let [early, late] = bystanders()?;
    while !done.load(Ordering::Acquire) {
        let meanwhile = publishing.load(Ordering::Acquire);
        let number = posts.len();
        for (kind, organization) in [
            (if meanwhile { "meanwhile, a shard that is rated again" } else { "before, a shard that is rated again" }, name(0)),
            if meanwhile { ("meanwhile, another shard", late.clone()) } else { ("before, another shard", early.clone()) },
        ] {
            let body = format!("[{}]", event(&format!("live-{number}-{organization}"), &organization, &mut random)?);
            let (status, answer) = client.post(&body)?;
            // Intake pauses while the record enters the shards.
            if status == 503 {
                continue;
            }
            ensure!(status == 202, "the server answered {status}: {answer}");
            posts.push((kind, Timer::now(), answer));
        }
        thread::sleep(BEAT);
    }
    Ok(posts)
}

fn name(number: u64) -> String {
    format!("org-{number:03}")
}

/// Two organizations with a shard for each: usage of the first one is there before the publication, that of the second comes meanwhile and has
/// nothing that is rated again.
fn bystanders() -> anyhow::Result<[String; 2]> {
    let mut taken: BTreeSet<ShardId> = (0..ORGANIZATIONS).map(|number| ShardId::of_organization(&name(number))).collect();
    let names = (0..1_000).map(|number| format!("bystander-{number}"));
    let mut free = names.filter(|name| taken.insert(ShardId::of_organization(name)));
    let mut next = || free.next().context("every shard is taken");
    Ok([next()?, next()?])
}

fn load(events: u64) -> anyhow::Result<Load> {
    let mut random = Random::new(3);
    let mut bodies = Vec::new();
    let mut next = 0;
    while next < events {
        let until = events.min(next + POST);
        let mut body = String::from("[");
        for number in next..until {
            let organization = name(random.below(ORGANIZATIONS).min(random.below(ORGANIZATIONS)));
            let comma = if number == next { "" } else { "," };
            write!(body, "{comma}{}", event(&format!("u-{number}"), &organization, &mut random)?)?;
        }
        body.push(']');
        bodies.push(body);
        next = until;
    }
    Ok(Load { bodies, events, every: None })
}

/// A request to one of four models: two readings.
fn event(id: &str, organization: &str, random: &mut Random) -> anyhow::Result<String> {
    let time = shared_types::Instant::from_micros((BEGINS + i64::try_from(random.below(SECONDS))?) * 1_000_000)?;
    let (input, output) = (200 + random.below(6_000), 20 + random.below(1_500));
    Ok(json!({
        "specversion": "1.0", "id": id, "source": "bench", "type": "llm.request", "time": time.to_string(), "organization": organization,
        "data": {"model": format!("m-{}", random.below(4)), "input_tokens": input, "output_tokens": output},
    })
    .to_string())
}

fn registry(aggregation: &str, model: &str) -> String {
    let mut text = String::from(
        "[[unit]]\nid = \"token\"\n[[rounding]]\nasset = \"USD\"\nscale = 2\n[[contract]]\nid = \"standard\"\ndefault = true\nprice_book = \"list\"\n\
         effective_at = \"2026-01-01T00:00:00Z\"\n[[price_book]]\nid = \"list\"\ncurrency = \"USD\"\n",
    );
    let mut skus = String::new();
    for kind in ["input", "output"] {
        skus.push_str(&format!(
            "[[meter]]\nid = \"{kind}\"\nevent_type = \"llm.request\"\n{aggregation}\nvalue = \"{kind}_tokens\"\nunit = \"token\"\n\
             dimensions = {{ model = \"model\" }}\n"
        ));
        for number in 0..4 {
            let sku = format!("{kind}-{number}");
            skus.push_str(&format!(
                "[[sku]]\nid = \"{sku}\"\nfamily = \"llm\"\nmeter = \"{kind}\"\nmatch = {{ model = \"m-{number}\" }}\n"
            ));
            text.push_str(&format!("[[price_book.price]]\nsku = \"{sku}\"\neffective_at = \"2026-01-01T00:00:00Z\"\n{model}\n"));
        }
    }
    text + &skus
}

fn text(measured: &[(&str, Round)]) -> String {
    let row = |name: &str, of: &dyn Fn(&Round) -> String| {
        let mut row = vec![name.to_owned()];
        row.extend(measured.iter().map(|(_, round)| of(round)));
        row
    };
    let mut heads = vec!["rated again".to_owned()];
    heads.extend(measured.iter().map(|(name, _)| (*name).to_owned()));
    let each = |rating: &Rating| seconds_per_million(rating.server, rating.charges).map_or_else(|| "-".to_owned(), |each| each.to_string());
    let mut rows = vec![
        heads,
        row("charges", &|round| round.again.charges.to_string()),
        row("first: charges/s, stream to commit", &|round| round.first.per_second().to_string()),
        row("again: charges/s, record to commit", &|round| round.again.per_second().to_string()),
        row("again: seconds before the record", &|round| format!("{:.3}", seconds(round.prepared))),
        row("publication to answer, s", &|round| format!("{:.3}", seconds(round.published))),
        row("server CPU s per million charges, first / again", &|round| format!("{} / {}", each(&round.first), each(&round.again))),
        row("server peak MB, first / again", &|round| format!("{} / {}", round.first.peak_mb, round.again.peak_mb)),
    ];
    let kinds: BTreeSet<&str> = measured.iter().flat_map(|(_, round)| round.waits.keys().copied()).collect();
    for kind in kinds {
        rows.push(row(&format!("wait {kind}, p50 / max ms"), &|round| {
            let Some(samples) = round.waits.get(kind) else { return "-".to_owned() };
            format!("{:.0} / {:.0}", milliseconds(samples.median()), milliseconds(samples.percentile(100)))
        }));
    }
    let stages: BTreeSet<&String> = measured.iter().flat_map(|(_, round)| round.again.stages.spent.keys()).collect();
    for stage in stages {
        rows.push(row(&format!("{stage}, share of first / of again"), &|round| {
            let share = |rating: &Rating| percent(rating.stages.spent.get(stage).copied().unwrap_or_default(), rating.stages.all());
            format!("{} % / {} %", share(&round.first), share(&round.again))
        }));
    }
    let ratio =
        |of: usize| move |round: &Round| round.ratios().get(of).copied().flatten().map_or_else(|| "-".to_owned(), |r| format!("{r:.2}"));
    rows.push(row("ratio with what was done before the record", &ratio(1)));
    rows.push(row("ratio: charges/s again to first", &ratio(0)));
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_hold_and_bystanders_share_no_shard() {
        for shape in SHAPES {
            let [before, after] = shape.models.map(|model| {
                let file = platform_registry::SourceFile { name: "bench.toml".to_owned(), text: registry(shape.aggregation, model) };
                platform_registry::Version::check(&[file]).unwrap_or_else(|problems| panic!("{}: {problems}", shape.name))
            });
            assert_ne!(before.address(), after.address());
        }
        let [early, late] = bystanders().unwrap().map(|name| ShardId::of_organization(&name));
        assert_ne!(early, late);
        assert!((0..ORGANIZATIONS).all(|number| ![early, late].contains(&ShardId::of_organization(&name(number)))));
    }

    #[test]
    fn posts_hold_every_event_once() {
        let load = load(1_203).unwrap();
        let events: Vec<Vec<Value>> = load.bodies.iter().map(|body| serde_json::from_str(body).unwrap()).collect();
        let ids: BTreeSet<&str> = events.iter().flatten().filter_map(|event| event["id"].as_str()).collect();
        assert_eq!((load.bodies.len(), ids.len(), load.events), (3, 1_203, 1_203));
    }
}
