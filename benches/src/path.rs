//! The whole path: `tally serve` on a fresh home, generated usage over HTTP, until it is committed, folded and can be asked in SQL.
//!
//! - Flood: four connections post 500 events at a time as fast as they are answered. It says how much the path takes.
//! - Paced: the same at half of that rate. It says how long an event takes when nothing piles up.
//! - Profile: a second flood under `perf`, whose own cost must not be in the first.
//! - File: `tally ingest` of a JSONL file in a home of its own, until everything is folded.
//! - Rule: the same stages in this process on one thread, from the stream to committed batches, each with its time.
//!
//! An event is *committed* when the last batch that holds records of its post is; *queryable* when every fold is past that batch: then
//! its charge, posting, hour and evidence are all in the SQL tables. Both are seen in `GET /v1/progress`, asked every 10 ms from a
//! connection of its own, so a latency is too long by up to 10 ms and one round trip. Which batch holds what is read from the batch log
//! afterwards. Latencies begin when the client has the answer to its post.

pub mod rule;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant as Timer};

use anyhow::{Context, anyhow, ensure};
use platform_ingest::store;
use serde_json::{Value, json};
use shared_db::Database;
use shared_types::BatchNo;

use crate::figures::{Samples, milliseconds, per_second, percent, seconds, seconds_per_million, table};
use crate::machine::{self, Profile, Used};
use crate::native;
use crate::profile::{Perf, Stages};
use crate::result::{Begun, Reported};
use crate::server::{Client, Server, Tally};

/// Connections that post.
const CONNECTIONS: usize = 4;
/// Events of a post in a flood.
const POST: usize = 500;
/// Events of a post at a pace.
const PACED_POST: usize = 100;
/// How long the pace is held.
const PACED: Duration = Duration::from_secs(10);
/// How often progress is asked.
const LOOK: Duration = Duration::from_millis(10);
/// How long the folds may take behind the last post.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs the bench.
pub fn run(scratch: &Path, profile: Profile, patience: Duration, binary: &Path, events: u64) -> anyhow::Result<Reported> {
    ensure!(events > 0, "there is nothing to measure without events");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let begun = runtime.block_on(Begun::now("path", profile, scratch))?;
    let tally = Tally::new(binary, &scratch.join("http"))?;
    let server = tally.serve()?;
    // One post that is not measured: connections, statements and files are there afterwards.
    let warm = Phase::run(&tally, &server, &Load::flood(1, 2_000), &runtime)?;
    eprintln!("warm: {} events", warm.events);

    machine::wait_for_quiet(patience)?;
    let flood = Phase::run(&tally, &server, &Load::flood(2, events), &runtime)?;
    eprintln!("flood: {} events, queryable at {} events/s", flood.events, per_second(flood.events, flood.queryable));
    let rate = per_second(flood.events, flood.queryable).div_ceil(2).max(1);
    machine::wait_for_quiet(patience)?;
    let paced = Phase::run(&tally, &server, &Load::paced(3, rate), &runtime)?;
    eprintln!("paced: {} events at {rate} events/s", paced.events);
    let perf = Perf::start(server.process(), scratch);
    let profiled = Phase::run(&tally, &server, &Load::flood(4, events), &runtime)?;
    let samples = perf.and_then(|perf| perf.end().inspect_err(|error| eprintln!("perf: {error:#}")).ok());
    server.stop()?;

    let sent = warm.events + flood.events + paced.events + profiled.events;
    let found: u64 = tally.value("SELECT count(*) FROM usage.events WHERE outcome <> 'control'")?.parse()?;
    ensure!(found == sent, "{sent} events were accepted and {found} have an outcome");
    let native = native::run(binary, &scratch.join("file"), patience, events)?;
    machine::wait_for_quiet(patience)?;
    let rule = runtime.block_on(rule::run(&scratch.join("rule"), events))?;
    let figures = json!({
        "what": "tally serve, events over HTTP on loopback; see benches/src/path.rs for the phases and for what each word means",
        "target": "at least 20,000 events/s JSON, p99 below 1 s, one node",
        "client": {"connections": CONNECTIONS, "shares_the_processors": true},
        "health_asked_every_ms": milliseconds(LOOK),
        "flood": flood.figures(),
        "paced": {"events_per_second_wanted": rate, "measured": paced.figures()},
        "file": native.figures(),
        "rule": rule.figures(),
        "profile": samples,
        "every_event_has_an_outcome": true,
    });
    let tables = [phases_text(&flood, &paced), native.text(), flood.stages_text(), rule.text(), samples_text(samples.as_ref())];
    let text = tables.join("\n");
    begun.end(figures, &text)
}

/// Bodies to post, and when.
pub(crate) struct Load {
    pub(crate) bodies: Vec<String>,
    pub(crate) events: u64,
    /// Time between two posts of all connections together; none: as fast as they are answered.
    pub(crate) every: Option<Duration>,
}

impl Load {
    /// So many distinct events, and the few that sources send twice, at once.
    fn flood(seed: u64, events: u64) -> Self {
        Self::of(seed, events, POST, None)
    }

    /// So many events per second for [`PACED`].
    fn paced(seed: u64, rate: u64) -> Self {
        let post = u64::try_from(PACED_POST).unwrap_or(u64::MAX);
        Self::of(seed, rate.saturating_mul(PACED.as_secs()), PACED_POST, Some(Duration::from_micros(post * 1_000_000 / rate.max(1))))
    }

    fn of(seed: u64, events: u64, post: usize, every: Option<Duration>) -> Self {
        let options = datasets::Options { seed, events, ..datasets::Options::default() };
        let events: Vec<String> = datasets::events(options).collect();
        let bodies = events.chunks(post).map(|chunk| format!("[{}]", chunk.join(","))).collect();
        Self { bodies, events: u64::try_from(events.len()).unwrap_or(u64::MAX), every }
    }
}

/// One post that was answered with 202.
struct Posted {
    sent: Timer,
    answered: Timer,
    answer: String,
    /// Answers of 503 before it.
    again: u64,
}

/// What progress said.
pub(crate) struct Seen {
    pub(crate) at: Timer,
    pub(crate) committed: u64,
    folds: BTreeMap<String, u64>,
    waiting: u64,
}

impl Seen {
    fn ask(client: &Client) -> anyhow::Result<Self> {
        let said = client.progress()?;
        let at = Timer::now();
        let number = |value: Option<&Value>| value.and_then(Value::as_u64).context("progress does not read");
        let folds = said.get("folds").and_then(Value::as_object).context("progress names no folds")?;
        Ok(Self {
            at,
            committed: number(said.get("committed"))?,
            folds: folds.iter().map(|(name, at)| Ok((name.clone(), number(Some(at))?))).collect::<anyhow::Result<_>>()?,
            waiting: number(said.get("waiting"))?,
        })
    }

    /// The batch that is in everything.
    fn queryable(&self) -> u64 {
        self.folds.values().copied().min().unwrap_or(0).min(self.committed)
    }
}

/// A load and what it came to.
pub(crate) struct Phase {
    events: u64,
    posts: usize,
    again: u64,
    /// From the first post: to the last answer, to the last commit, to the last fold.
    accepted: Duration,
    committed: Duration,
    queryable: Duration,
    /// From sending a post to its answer.
    answer: Samples,
    /// From the answer of a post.
    to_commit: Samples,
    to_fold: BTreeMap<String, Samples>,
    to_query: Samples,
    /// Processor time of the server and of this process.
    pub(crate) server: Duration,
    client: Duration,
    busy: f64,
    others: f64,
    load: String,
    pub(crate) stages: Stages,
}

impl Phase {
    /// Posts it all, and waits until everything is folded.
    pub(crate) fn run(tally: &Tally, server: &Server, load: &Load, runtime: &tokio::runtime::Runtime) -> anyhow::Result<Self> {
        let logged = tally.log()?.len();
        let used = (Used::now()?, machine::processor_time(server.process())?, machine::own_time()?);
        let (posts, seen) = drive(server, load)?;
        let (server, client) =
            (machine::processor_time(server.process())?.saturating_sub(used.1), machine::own_time()?.saturating_sub(used.2));
        let (busy, others) = used.0.since(server + client)?;
        let log = tally.log()?;
        let mut phase = Self {
            events: load.events,
            posts: posts.len(),
            again: posts.iter().map(|post| post.again).sum(),
            accepted: Duration::ZERO,
            committed: Duration::ZERO,
            queryable: Duration::ZERO,
            answer: posts.iter().map(|post| post.answered.duration_since(post.sent)).collect(),
            to_commit: Samples::default(),
            to_fold: BTreeMap::new(),
            to_query: Samples::default(),
            server,
            client,
            busy,
            others,
            load: machine::load()?,
            stages: Stages::of(log.get(logged..).unwrap_or_default()),
        };
        phase.follow(&posts, &seen, &runtime.block_on(Log::read(tally.home()))?)?;
        Ok(phase)
    }

    /// Finds for each post when its last batch was seen committed and folded.
    fn follow(&mut self, posts: &[Posted], seen: &[Seen], log: &Log) -> anyhow::Result<()> {
        let began = posts.iter().map(|post| post.sent).min().context("nothing was posted")?;
        for post in posts {
            let batch = log.last_batch(&post.answer)?;
            let first = |reached: &dyn Fn(&Seen) -> u64| {
                let seen = seen.iter().find(|seen| reached(seen) >= batch);
                seen.map(|seen| seen.at).with_context(|| format!("batch {batch} was never seen"))
            };
            let (committed, queryable) = (first(&|seen| seen.committed)?, first(&Seen::queryable)?);
            self.accepted = self.accepted.max(post.answered.duration_since(began));
            self.committed = self.committed.max(committed.duration_since(began));
            self.queryable = self.queryable.max(queryable.duration_since(began));
            self.to_commit.push(committed.saturating_duration_since(post.answered));
            self.to_query.push(queryable.saturating_duration_since(post.answered));
            for name in seen.first().map(|seen| seen.folds.keys()).into_iter().flatten() {
                let folded = first(&|seen| seen.folds.get(name).copied().unwrap_or(0))?;
                self.to_fold.entry(name.clone()).or_default().push(folded.saturating_duration_since(post.answered));
            }
        }
        Ok(())
    }

    fn figures(&self) -> Value {
        let stages: serde_json::Map<String, Value> =
            self.stages.spent.iter().map(|(name, time)| (name.clone(), json!(seconds(*time)))).collect();
        let folds: serde_json::Map<String, Value> = self.to_fold.iter().map(|(name, samples)| (name.clone(), samples.json())).collect();
        json!({
            "events": self.events,
            "posts": self.posts,
            "posts_told_to_come_back": self.again,
            "batches": self.stages.batches,
            "events_per_second": {
                "accepted": per_second(self.events, self.accepted), "committed": per_second(self.events, self.committed),
                "queryable": per_second(self.events, self.queryable),
            },
            "seconds": {"accepted": seconds(self.accepted), "committed": seconds(self.committed), "queryable": seconds(self.queryable)},
            "post_to_answer": self.answer.json(),
            "answer_to_committed": self.to_commit.json(),
            "answer_to_queryable": self.to_query.json(),
            "answer_to_fold": folds,
            "server_cpu_seconds_per_million_events": seconds_per_million(self.server, self.events),
            "client_cpu_seconds_per_million_events": seconds_per_million(self.client, self.events),
            "processors_busy_percent": self.busy,
            "processors_busy_with_others_percent": self.others,
            "load_at_end": self.load,
            "stage_seconds": stages,
        })
    }

    fn stages_text(&self) -> String {
        let mut rows = vec![["stage (flood)", "s", "of the wall"].map(ToOwned::to_owned).to_vec()];
        for (name, time) in &self.stages.spent {
            rows.push(vec![name.clone(), format!("{:.3}", seconds(*time)), format!("{} %", percent(*time, self.queryable))]);
        }
        format!("{}{} batches; folds run beside each other and beside the batches\n", table(&rows), self.stages.batches)
    }
}

/// Posts everything while progress is watched, until everything is folded.
fn drive(server: &Server, load: &Load) -> anyhow::Result<(Vec<Posted>, Vec<Seen>)> {
    let (next, done, began) = (AtomicUsize::new(0), AtomicBool::new(false), Timer::now());
    thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&server.client(), &done));
        let senders: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(|| send(&server.client(), load, began, &next))).collect();
        let mut posts = Vec::new();
        let mut failed = None;
        for sender in senders {
            match sender.join().map_err(|_| anyhow!("a sender panicked")).flatten() {
                Ok(sent) => posts.extend(sent),
                Err(error) => failed = Some(error),
            }
        }
        done.store(true, Ordering::Release);
        let seen = watcher.join().map_err(|_| anyhow!("the watcher panicked")).flatten();
        match failed {
            Some(error) => Err(error),
            None => Ok((posts, seen?)),
        }
    })
}

/// One connection: takes the next body when it is due, until there is none.
fn send(client: &Client, load: &Load, began: Timer, next: &AtomicUsize) -> anyhow::Result<Vec<Posted>> {
    let mut posts = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(body) = load.bodies.get(number) else { return Ok(posts) };
        if let Some(every) = load.every {
            thread::sleep((began + every * u32::try_from(number)?).saturating_duration_since(Timer::now()));
        }
        let sent = Timer::now();
        let mut again = 0;
        let answer = loop {
            match client.post(body)? {
                (202, answer) => break answer,
                (503, _) => {
                    again += 1;
                    thread::sleep(Duration::from_millis(100));
                }
                (status, answer) => return Err(anyhow!("the server answered {status}: {answer}")),
            }
        };
        posts.push(Posted { sent, answered: Timer::now(), answer, again });
    }
}

/// Asks for progress until everything was posted and everything that was accepted is folded.
pub(crate) fn watch(client: &Client, done: &AtomicBool) -> anyhow::Result<Vec<Seen>> {
    let mut all = Vec::new();
    let mut deadline = None;
    loop {
        let last = done.load(Ordering::Acquire);
        let seen = Seen::ask(client)?;
        let folded = seen.waiting == 0 && seen.queryable() == seen.committed;
        all.push(seen);
        if last {
            if folded {
                return Ok(all);
            }
            let deadline = *deadline.get_or_insert_with(|| Timer::now() + PATIENCE);
            ensure!(Timer::now() < deadline, "the folds did not follow within {} s", PATIENCE.as_secs());
        }
        thread::sleep(LOOK);
    }
}

/// Which batch holds which records: by shard and incarnation, from the last sequence of each range to its batch.
pub(crate) struct Log(HashMap<(u64, u64), BTreeMap<u64, u64>>);

impl Log {
    /// Of a home, whoever owns it.
    pub(crate) async fn read(home: &Path) -> anyhow::Result<Self> {
        let database = Database::open_sqlite_read_only(home.join("db/log.db")).await?;
        let mut ranges: HashMap<(u64, u64), BTreeMap<u64, u64>> = HashMap::new();
        let mut after = BatchNo(0);
        loop {
            let mut tx = database.read().await?;
            let headers = store::batches_after(&mut tx, after, 1_000).await?;
            let Some((last, _)) = headers.last() else { break };
            after = last.batch_no;
            for (header, _) in &headers {
                for range in &header.ranges {
                    let shard = (u64::from(range.shard.number()), u64::from(range.incarnation.0));
                    ranges.entry(shard).or_default().insert(range.last.0, header.batch_no.0);
                }
            }
        }
        database.close().await;
        Ok(Self(ranges))
    }

    /// The last batch that holds a record of a post, from the positions that it was answered with.
    pub(crate) fn last_batch(&self, answer: &str) -> anyhow::Result<u64> {
        let answer: Value = serde_json::from_str(answer)?;
        let positions = answer.get("positions").and_then(Value::as_array).context("the answer names no positions")?;
        let mut last = 0;
        for position in positions {
            let parts: Vec<u64> = position.as_str().context("a position is text")?.split('/').map(str::parse).collect::<Result<_, _>>()?;
            let [shard, incarnation, sequence] = parts[..] else { return Err(anyhow!("{position} is no position")) };
            let batch = self.0.get(&(shard, incarnation)).and_then(|ranges| ranges.range(sequence..).next());
            last = last.max(*batch.with_context(|| format!("{position} is in no batch"))?.1);
        }
        Ok(last)
    }
}

fn phases_text(flood: &Phase, paced: &Phase) -> String {
    let cell = |samples: &Samples| format!("{:.0} / {:.0}", milliseconds(samples.median()), milliseconds(samples.percentile(99)));
    let row = |name: &str, of: &dyn Fn(&Phase) -> String| vec![name.to_owned(), of(flood), of(paced)];
    let rows = [
        vec!["HTTP, JSON".to_owned(), "flood".to_owned(), "paced".to_owned()],
        row("events", &|phase| phase.events.to_string()),
        row("events/s accepted", &|phase| per_second(phase.events, phase.accepted).to_string()),
        row("events/s committed", &|phase| per_second(phase.events, phase.committed).to_string()),
        row("events/s queryable", &|phase| per_second(phase.events, phase.queryable).to_string()),
        row("post to answer, p50 / p99 ms", &|phase| cell(&phase.answer)),
        row("answer to committed, p50 / p99 ms", &|phase| cell(&phase.to_commit)),
        row("answer to queryable, p50 / p99 ms", &|phase| cell(&phase.to_query)),
        row("server CPU s per million events", &|phase| {
            seconds_per_million(phase.server, phase.events).map_or_else(|| "-".to_owned(), |seconds| seconds.to_string())
        }),
        row("client CPU s per million events", &|phase| {
            seconds_per_million(phase.client, phase.events).map_or_else(|| "-".to_owned(), |seconds| seconds.to_string())
        }),
        row("processors busy, of that others", &|phase| format!("{} %, {} %", phase.busy, phase.others)),
    ];
    table(&rows)
}

fn samples_text(samples: Option<&Value>) -> String {
    let Some(samples) = samples else { return "perf gave no samples: it is not installed, or not permitted\n".to_owned() };
    let mut text = String::new();
    for (title, key) in [("with everything below", "roles"), ("alone, by crate", "crates"), ("alone, by function", "functions")] {
        text.push_str(&format!("processor time of the server, {title}:\n"));
        for row in samples.get(key).and_then(Value::as_array).into_iter().flatten() {
            let cell = |number: usize| row.get(number).and_then(Value::as_str).unwrap_or_default();
            text.push_str(&format!("  {:>8}  {}\n", cell(0), cell(1)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_batch_of_a_post_is_found_by_its_positions() {
        let ranges = [((3, 1), BTreeMap::from([(10, 1), (25, 2)])), ((5, 1), BTreeMap::from([(4, 3)]))];
        let log = Log(HashMap::from(ranges));
        let answer = |positions: Value| json!({"accepted": 1, "positions": positions}).to_string();
        for (positions, batch) in [(json!(["3/1/10"]), 1), (json!(["3/1/10", "3/1/11"]), 2), (json!(["3/1/1", "5/1/4"]), 3)] {
            assert_eq!(log.last_batch(&answer(positions)).unwrap(), batch);
        }
        let missing = log.last_batch(&answer(json!(["3/1/26"]))).unwrap_err();
        assert!(missing.to_string().contains("3/1/26"), "{missing}");
    }

    #[test]
    fn a_paced_load_has_as_many_events_as_its_rate_and_time() {
        let load = Load::paced(1, 1_000);
        let events: Vec<usize> = load.bodies.iter().map(|body| serde_json::from_str::<Vec<Value>>(body).unwrap().len()).collect();
        assert!(events.iter().rev().skip(1).all(|events| *events == PACED_POST));
        assert_eq!(u64::try_from(events.iter().sum::<usize>()).unwrap(), load.events);
        assert!(load.events >= 10_000 && load.every == Some(Duration::from_millis(100)));
    }
}
