//! The crash loop: the real process is killed with -9 again and again while it ingests. The client's own log of what it sent and what was
//! acknowledged is the truth, and the totals of a model computed from that log; a fifth of everything is sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::tally::{Client, Tally, request, root};

/// SplitMix64 through the generator of the datasets: the same seed gives the same schedule.
use datasets::Random;

/// One thing that the client sent.
#[derive(Clone)]
struct Sent {
    body: String,
    organization: usize,
    input: u64,
    output: u64,
    broken: bool,
    acknowledged: bool,
}

/// What a run came to.
#[derive(Debug, Default)]
pub struct Counts {
    kills: u32,
    beyond: u32,
    sent: usize,
    again: usize,
    acknowledged: usize,
    checks: u32,
}

const ORGANIZATIONS: usize = 5;
/// Events in one POST.
const POST: usize = 20;

struct Campaign {
    tally: Tally,
    random: Random,
    log: Vec<Sent>,
    counts: Counts,
}

impl Campaign {
    fn new(tally: Tally, seed: u64) -> Self {
        tally.done(&["init"]);
        tally.done(&["registry", "publish", root().join("tests/registry").to_str().unwrap()]);
        Self { tally, random: Random::new(seed), log: Vec::new(), counts: Counts::default() }
    }

    /// The next post: new events, and about one in five sent before.
    fn next_post(&mut self) -> Vec<usize> {
        (0..POST)
            .map(|_| {
                if !self.log.is_empty() && self.random.below(5) == 0 {
                    self.counts.again += 1;
                    return usize::try_from(self.random.below(self.log.len() as u64)).unwrap();
                }
                let number = self.log.len();
                let organization = usize::try_from(self.random.below(ORGANIZATIONS as u64)).unwrap();
                let (input, output) = (1 + self.random.below(5_000), 1 + self.random.below(500));
                let broken = self.random.below(20) == 0;
                let day = 1 + self.random.below(28);
                let time = format!("2026-10-{day:02}T{:02}:00:00Z", self.random.below(24));
                let mut body = request(&format!("e{number}"), &format!("org-{organization}"), &time, input, output);
                if broken {
                    body = body.replace("llm.request", "llm.unknown");
                }
                self.log.push(Sent { body, organization, input, output, broken, acknowledged: false });
                number
            })
            .collect()
    }

    /// Sends until the time is over or the connection breaks.
    fn send_for(&mut self, client: &Client, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            let post = self.next_post();
            if !self.send(client, &post) {
                return;
            }
        }
    }

    fn send(&mut self, client: &Client, post: &[usize]) -> bool {
        let bodies: Vec<String> = post.iter().map(|at| self.log[*at].body.clone()).collect();
        match client.events(&bodies) {
            Ok(answer) if answer.status == 202 => {
                for at in post {
                    self.log[*at].acknowledged = true;
                }
                true
            }
            Ok(answer) => panic!("the server answered {}: {}", answer.status, answer.text),
            Err(_) => false,
        }
    }

    /// One life of the process.
    fn kill_once(&mut self) -> Result<(), String> {
        let server = self.tally.try_serve()?;
        let client = server.client();
        // Kill from beside while the client is in the middle of a post; another thread keeps the time.
        let life = Duration::from_millis(10 + self.random.below(400));
        let killer = std::thread::spawn(move || {
            std::thread::sleep(life);
            server.kill();
        });
        self.send_for(&client, Duration::from_secs(10));
        killer.join().map_err(|_| "the killer panicked".to_owned())?;
        self.counts.kills += 1;
        let waiting: i64 = self.tally.value("SELECT sum(waiting) FROM sys.positions").parse().map_err(|error| format!("{error}"))?;
        if waiting > 0 {
            self.counts.beyond += 1;
        }
        Ok(())
    }

    /// Sends what was never acknowledged, drains, and compares everything with the client's log.
    fn settle(&mut self) -> Result<(), String> {
        let before = self.acknowledged_are_there()?;
        let server = self.tally.try_serve()?;
        let client = server.client();
        let open: Vec<usize> = (0..self.log.len()).filter(|at| !self.log[*at].acknowledged).collect();
        for post in open.chunks(200) {
            assert!(self.send(&client, post), "the connection broke without a kill");
        }
        server.stop();
        self.tally.check()?;
        self.totals_are_the_model()?;
        self.counts.checks += 1;
        self.counts.sent = self.log.len();
        self.counts.acknowledged = before;
        Ok(())
    }

    /// Every acknowledged event has an outcome of its own: accepted once, or quarantined at least once.
    fn acknowledged_are_there(&mut self) -> Result<usize, String> {
        let drained = self.tally.run(&["drain"]);
        if !drained.status.success() {
            return Err(format!("drain failed: {}", crate::tally::err(&drained)));
        }
        let mut accepted = BTreeSet::new();
        let mut quarantined = BTreeSet::new();
        for row in self.tally.sql("SELECT event_id, outcome FROM usage.events WHERE outcome IN ('accepted', 'quarantined')") {
            let (id, outcome) = (row["event_id"].as_str().unwrap_or("").to_owned(), row["outcome"].as_str().unwrap_or("").to_owned());
            if outcome == "accepted" {
                if !accepted.insert(id.clone()) {
                    return Err(format!("{id} was accepted twice"));
                }
            } else {
                quarantined.insert(id);
            }
        }
        let mut acknowledged = 0;
        for (number, sent) in self.log.iter().enumerate().filter(|(_, sent)| sent.acknowledged) {
            acknowledged += 1;
            let id = format!("e{number}");
            let there = if sent.broken { quarantined.contains(&id) } else { accepted.contains(&id) };
            if !there {
                return Err(format!("{id} was acknowledged and is {}", if sent.broken { "not in quarantine" } else { "lost" }));
            }
        }
        Ok(acknowledged)
    }

    fn totals_are_the_model(&self) -> Result<(), String> {
        let mut model: BTreeMap<(usize, &str), i128> = BTreeMap::new();
        let mut sums = [(0_i128, 0_i128, 0_i128); ORGANIZATIONS];
        for sent in self.log.iter().filter(|sent| !sent.broken) {
            let sum = &mut sums[sent.organization];
            *sum = (sum.0 + i128::from(sent.input), sum.1 + i128::from(sent.output), sum.2 + 1);
        }
        for (organization, (input, output, requests)) in sums.into_iter().enumerate() {
            // Prices of tests/registry in 10^-10 money per 10^6 units; amounts in 10^-9.
            model.insert((organization, "input"), half_even(input * 1_500_000_005, 10_i128.pow(7)));
            let tiers = [(1_000, 6_000_000_000), (99_000, 5_000_000_005), (i128::MAX, 3_300_000_000)];
            let mut left = output;
            let mut owed = 0;
            for (size, price) in tiers {
                let here = left.min(size);
                owed += here * price;
                left -= here;
            }
            model.insert((organization, "output"), half_even(owed, 10_i128.pow(7)));
            model.insert((organization, "request"), requests * 100_000);
        }
        let mut found: BTreeMap<(usize, String), i128> = BTreeMap::new();
        let sql =
            "SELECT organization, sku_id, sum(amount) AS amount FROM usage.charges WHERE fate = 'charged' GROUP BY organization, sku_id";
        for row in self.tally.sql(sql) {
            let organization = row["organization"].as_str().unwrap().trim_start_matches("org-").parse().unwrap();
            let amount = nano(row["amount"].as_str().unwrap());
            found.insert((organization, row["sku_id"].as_str().unwrap().to_owned()), amount);
        }
        for ((organization, sku), wanted) in &model {
            let got = found.get(&(*organization, (*sku).to_owned())).copied().unwrap_or(0);
            if got != *wanted {
                return Err(format!("org-{organization} {sku}: {got} nano USD charged, the client's log makes {wanted}"));
            }
        }
        Ok(())
    }

    fn run(&mut self, kills: u32, settle_every: u32) -> Result<(), String> {
        for kill in 1..=kills {
            self.kill_once()?;
            if kill % settle_every == 0 || kill == kills {
                self.settle()?;
            }
        }
        Ok(())
    }
}

/// n / d to the nearest, ties to even; both positive.
fn half_even(n: i128, d: i128) -> i128 {
    let (quotient, rest) = (n / d, n % d);
    match (2 * rest).cmp(&d) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Greater => quotient + 1,
        std::cmp::Ordering::Equal => quotient + quotient % 2,
    }
}

/// Decimal text in units of 10^-9.
fn nano(text: &str) -> i128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{fraction:0<9}").parse().unwrap()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn seed() -> u64 {
    number("TALLY_CRASH_SEED", std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs())
}

#[test]
fn the_killed_process_counts_everything_once() {
    let (kills, seed) = (u32::try_from(number("TALLY_CRASH_KILLS", 200)).unwrap(), seed());
    println!("seed {seed}");
    // Half of the kills with the operating system surviving, half as power cuts: unsynced writes of the stream die with the process.
    let mut total = Counts::default();
    for disk in ["real", "unsynced_in_memory"] {
        let tally = Tally::empty().with("TALLY_STREAM_DISK", disk);
        let mut campaign = Campaign::new(tally, seed);
        campaign.run(kills.div_ceil(2), 50).unwrap_or_else(|error| panic!("disk {disk}, seed {seed}, {:?}: {error}", campaign.counts));
        println!("disk {disk}: {:?}", campaign.counts);
        total.kills += campaign.counts.kills;
        total.beyond += campaign.counts.beyond;
        total.sent += campaign.counts.sent;
        total.again += campaign.counts.again;
        total.checks += campaign.counts.checks;
    }
    println!(
        "{} kills, {} of them with the stream's end beyond the committed position; {} events sent, {} sends repeated; {} full checks; nothing lost, \
         nothing counted twice",
        total.kills, total.beyond, total.sent, total.again, total.checks
    );
    assert!(total.beyond * 2 >= total.kills, "only {} of {} kills fell between append and commit", total.beyond, total.kills);
}

/// The campaign is worth something only if it fails when a bug is there.
fn finds(plant: &str) {
    let Some(binary) = std::env::var_os("TALLY_PLANTED_BIN").map(PathBuf::from) else {
        assert!(std::env::var_os("TALLY_REQUIRE_TOOLS").is_none(), "TALLY_PLANTED_BIN is not set");
        eprintln!("SKIPPED: TALLY_PLANTED_BIN is not set; run `cargo xtask test whole`");
        return;
    };
    let tally = Tally::empty().binary(binary).with("TALLY_STREAM_DISK", "unsynced_in_memory").with("TALLY_PLANT", plant);
    let mut campaign = Campaign::new(tally, 7);
    let found = campaign.run(40, 5);
    println!("{plant}: {found:?}");
    assert!(found.is_err(), "the campaign did not find the planted bug {plant}: {:?}", campaign.counts);
}

#[test]
fn the_campaign_finds_an_acknowledgement_before_the_sync() {
    finds("acknowledge-before-sync");
}

#[test]
fn the_campaign_finds_a_skipped_fence() {
    finds("skip-fence");
}

#[test]
fn the_campaign_finds_a_dropped_quarantine_row() {
    finds("drop-quarantine-row");
}
