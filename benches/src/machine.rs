//! The machine a figure belongs to: processor, memory, disk, versions, and what else ran meanwhile. Linux only: it reads `/proc`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant as Timer};

use anyhow::Context;
use serde_json::{Value, json};
use shared_db::{Database, Statement};

use crate::figures::percent;

/// A clock tick in `/proc`: USER_HZ is 100 on every Linux that Rust's standard library runs on.
const TICK_MS: u64 = 10;

const SQLITE_VERSION: Statement =
    Statement { name: "benches.sqlite_version", sqlite: "SELECT sqlite_version()", postgres: "SELECT version()" };

/// Dependencies whose versions matter to the figures.
const DEPENDENCIES: [&str; 9] = ["arrow", "axum", "fjall", "libsqlite3-sys", "parquet", "sha2", "sqlx", "tokio", "zstd-sys"];

/// What a result says of its machine.
pub async fn describe(scratch: &Path) -> anyhow::Result<Value> {
    let processor = field(&fs::read_to_string("/proc/cpuinfo")?, "model name", ':').unwrap_or_else(|| "unknown".to_owned());
    let memory = field(&fs::read_to_string("/proc/meminfo")?, "MemTotal", ':').unwrap_or_else(|| "unknown".to_owned());
    let cores = std::thread::available_parallelism()?.get();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
    Ok(json!({"processor": processor, "cores": cores, "memory": memory, "kernel": kernel, "file_system": file_system(scratch)?}))
}

/// Versions of the compiler, of this workspace, and of what it is built on.
pub async fn versions(scratch: &Path) -> anyhow::Result<Value> {
    let lock = include_str!("../../Cargo.lock");
    let dependencies: serde_json::Map<String, Value> =
        DEPENDENCIES.iter().map(|name| ((*name).to_owned(), json!(locked(lock, name)))).collect();
    let path = scratch.join("version.db");
    let database = Database::open_sqlite(&path, &[]).await?;
    let sqlite = database.read().await?.query_one(&SQLITE_VERSION, &[]).await?.text(0)?.to_owned();
    database.close().await;
    Ok(json!({
        "tallystick": env!("CARGO_PKG_VERSION"),
        "commit": said("git", &["describe", "--always", "--dirty", "--abbrev=12"]),
        "rustc": said("rustc", &["--version"]),
        "sqlite": sqlite,
        "dependencies": dependencies,
    }))
}

/// What was measured was built in this profile. A program cannot see it of itself: `cargo xtask bench` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// The one profile of demo, tests and CI.
    Dev,
    /// Everything at opt-level 3.
    Release,
}

impl Profile {
    /// For a result.
    pub fn described(self) -> &'static str {
        match self {
            Self::Dev => {
                "dev: crates of the path, this program, hashing, compression, SQLite, Parquet opt-level 3, our others 1, other dependencies 0; overflow checks"
            }
            Self::Release => "release: opt-level 3; no overflow checks",
        }
    }
}

/// Load averages over 1, 5 and 15 minutes.
pub fn load() -> anyhow::Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

/// Processor time that all processes together have used, and could have.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    all: Duration,
    possible: Duration,
}

impl Used {
    /// Until now, since the machine started.
    pub fn now() -> anyhow::Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().context("/proc/stat is empty")?;
        let counts: Vec<u64> = line.split_whitespace().skip(1).take(8).map(str::parse).collect::<Result<_, _>>()?;
        let possible: u64 = counts.iter().sum();
        // Fields 4 and 5: idle, waiting for the disk.
        let idle: u64 = counts.iter().skip(3).take(2).sum();
        Ok(Self { all: ticks(possible.saturating_sub(idle)), possible: ticks(possible) })
    }

    /// How busy the processors were since, in percent: with everything, and with what was not `ours`.
    pub fn since(&self, ours: Duration) -> anyhow::Result<(f64, f64)> {
        let now = Self::now()?;
        let (all, possible) = (now.all.saturating_sub(self.all), now.possible.saturating_sub(self.possible));
        Ok((percent(all, possible), percent(all.saturating_sub(ours), possible)))
    }
}

/// Waits until other programs leave the processors alone: less than a tenth of them over two seconds. Gives up after `patience`; the
/// result says in any case how busy they were.
pub fn wait_for_quiet(patience: Duration) -> anyhow::Result<()> {
    let began = Timer::now();
    while began.elapsed() < patience {
        let used = Used::now()?;
        std::thread::sleep(Duration::from_secs(2).min(patience));
        let (busy, _) = used.since(Duration::ZERO)?;
        if busy < 10.0 {
            break;
        }
    }
    Ok(())
}

/// Processor time of a process, user and system, to 10 ms.
pub fn processor_time(process: u32) -> anyhow::Result<Duration> {
    stat_times(&process.to_string(), 13)
}

/// Processor time of this process.
pub fn own_time() -> anyhow::Result<Duration> {
    stat_times("self", 13)
}

/// Processor time of the thread that made it, as far as the scheduler has counted it: to some milliseconds. Zero where the kernel does not
/// say.
pub struct ThreadClock(Option<File>);

impl ThreadClock {
    /// Of the calling thread.
    pub fn new() -> Self {
        Self(File::open("/proc/thread-self/schedstat").ok())
    }

    /// Until now.
    pub fn now(&self) -> Duration {
        let mut text = [0; 64];
        let length = self.0.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
        let digits = text.get(..length).unwrap_or_default().split(|byte| *byte == b' ').next().unwrap_or_default();
        let nanos = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        Duration::from_nanos(nanos.unwrap_or_default())
    }
}

impl Default for ThreadClock {
    fn default() -> Self {
        Self::new()
    }
}

/// Processor time of the children of this process that have ended.
pub fn ended_children_time() -> anyhow::Result<Duration> {
    stat_times("self", 15)
}

/// The most memory that this process has held at once, in MB of 1,000,000 bytes.
pub fn own_peak_mb() -> anyhow::Result<u64> {
    peak_mb(std::process::id())
}

/// The most memory that a process has held at once since it started or since [`forget_peak`], in MB of 1,000,000 bytes.
pub fn peak_mb(process: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{process}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {path}"))?;
    let peak = field(&text, "VmHWM", ':').with_context(|| format!("{path} names no VmHWM"))?;
    let kib: u64 = peak.trim_end_matches(" kB").parse()?;
    Ok(kib * 1_024 / 1_000_000)
}

/// Has the kernel take a process's peak of memory anew from now on.
pub fn forget_peak(process: u32) -> anyhow::Result<()> {
    let path = format!("/proc/{process}/clear_refs");
    fs::write(&path, "5").with_context(|| format!("could not write {path}"))
}

/// Two neighbouring fields of `/proc/<process>/stat`, counted from 0.
fn stat_times(process: &str, first: usize) -> anyhow::Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {path}"))?;
    // The name, field 1, may hold spaces and ends at the last parenthesis.
    let (_, rest) = text.rsplit_once(')').with_context(|| format!("{path} does not read"))?;
    Ok(ticks(rest.split_whitespace().skip(first - 2).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?))
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count.saturating_mul(TICK_MS))
}

/// Kind and device of the file system that a path lies on.
fn file_system(path: &Path) -> anyhow::Result<String> {
    let path = path.canonicalize()?;
    let mounts = fs::read_to_string("/proc/mounts")?;
    let found = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (device, point, kind) = (words.next()?, words.next()?, words.next()?);
            path.starts_with(point).then(|| (point.len(), format!("{kind} on {device}")))
        })
        .max();
    Ok(found.map_or_else(|| "unknown".to_owned(), |(_, text)| text))
}

fn field(text: &str, name: &str, separator: char) -> Option<String> {
    let (_, value) = text.lines().filter_map(|line| line.split_once(separator)).find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_owned())
}

/// The version that `Cargo.lock` holds of a package.
fn locked(lock: &str, package: &str) -> Option<String> {
    let mut lines = lock.lines().skip_while(|line| *line != format!("name = \"{package}\"")).skip(1);
    Some(lines.next()?.strip_prefix("version = ")?.trim_matches('"').to_owned())
}

/// What a program says on standard output; none when it cannot be run.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_of_this_machine_read() {
        let used = Used::now().unwrap();
        assert!(used.all > Duration::ZERO && used.possible >= used.all);
        assert!(own_time().unwrap() <= processor_time(std::process::id()).unwrap());
        let clock = ThreadClock::new();
        let began = Timer::now();
        while began.elapsed() < Duration::from_millis(50) && clock.now() == Duration::ZERO {}
        assert!(clock.now() > Duration::ZERO);
        assert!(load().unwrap().split(' ').count() == 3);
        assert!(locked(include_str!("../../Cargo.lock"), "tokio").unwrap().starts_with("1."));
    }
}
