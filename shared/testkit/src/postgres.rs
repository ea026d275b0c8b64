//! A real PostgreSQL server for tests: found on this machine, shared by all test processes of this user, gone half a minute after the last.
//! It stores nothing worth keeping (fsync is off) and listens on a unix socket in a folder that only its user can enter.
//!
//! Test processes hold a shared lock on a file for as long as they live, however they end; a watchdog shell (`postgres/watchdog.sh`)
//! stops the server and removes its folder once nobody has held that lock for 30 seconds.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, process};

use anyhow::{Context as _, Result, bail, ensure};

const WATCHDOG: &str = include_str!("postgres/watchdog.sh");
const SOCKET: &str = ".s.PGSQL.5432";
const PROGRAMS: [&str; 2] = ["initdb", "postgres"];

/// Roles of the server: `tally_owner` (no superuser) owns what tests create and may become `tally_writer`.
const ROLES: &str = "CREATE ROLE tally_owner LOGIN;
CREATE ROLE tally_writer NOLOGIN;
GRANT tally_writer TO tally_owner;
CREATE DATABASE tally OWNER tally_owner ENCODING 'UTF8' TEMPLATE template0;
";

/// A running server. It runs at least as long as this value lives.
#[derive(Debug)]
pub struct Postgres {
    socket_folder: PathBuf,
    /// Locked for as long as this process uses the server.
    _in_use: File,
}

/// A schema that nobody else uses. It does not exist yet: opening a database creates it.
#[derive(Debug, Clone)]
pub struct Schema {
    /// Connects as `tally_owner`.
    pub url: String,
    /// Connects as the superuser.
    pub superuser_url: String,
    /// The schema's name.
    pub name: String,
}

impl Postgres {
    /// The server, started if it does not run yet; `None` with a loud line on stderr where no PostgreSQL is installed.
    ///
    /// - Looks in the folder `TALLY_PGBIN` (for example of PyPI's `pgserver`), then `/usr/lib/postgresql/*/bin`, then `PATH`.
    /// - Panics instead of answering `None` when `TALLY_REQUIRE_TOOLS=1`; panics when an installed server does not start.
    #[expect(clippy::panic, reason = "a test whose server does not start has failed")]
    pub fn start() -> Option<Self> {
        let Some(programs) = find_programs() else {
            let message = "no PostgreSQL found: apt-get install postgresql, or set TALLY_PGBIN to a folder with initdb and postgres";
            if env::var_os("TALLY_REQUIRE_TOOLS").is_some_and(|value| value == "1") {
                panic!("{message}");
            }
            eprintln!("\n*** SKIPPED: {message} ***\n");
            return None;
        };
        match start(&programs) {
            Ok(server) => Some(server),
            Err(error) => panic!("cannot start PostgreSQL from {}: {error:#}", programs.display()),
        }
    }

    /// A name and urls for a schema that does not exist yet.
    pub fn fresh_schema(&self) -> Schema {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let name = format!("t{}_{}_{nanos}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Schema { url: self.url("tally_owner"), superuser_url: self.url("tally_superuser"), name }
    }

    fn url(&self, user: &str) -> String {
        format!("postgres://{user}@localhost/tally?host={}", self.socket_folder.display())
    }
}

/// The folder that holds `initdb` and `postgres`.
fn find_programs() -> Option<PathBuf> {
    let complete = |folder: &PathBuf| PROGRAMS.iter().all(|program| folder.join(program).is_file());
    let named = env::var_os("TALLY_PGBIN").map(PathBuf::from);
    let mut installed: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| {
            entries
                .filter_map(|entry| {
                    let entry = entry.ok()?;
                    Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
                })
                .collect()
        })
        .unwrap_or_default();
    installed.sort();
    let path = env::var_os("PATH").unwrap_or_default();
    named.into_iter().chain(installed.into_iter().rev().map(|(_, folder)| folder)).chain(env::split_paths(&path)).find(complete)
}

fn start(programs: &Path) -> Result<Postgres> {
    let probe = tempfile::NamedTempFile::new()?;
    let user = probe.as_file().metadata()?.uid();
    let label: String = programs.to_string_lossy().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let label = label.get(label.len().saturating_sub(40)..).unwrap_or_default();
    // /tmp and not TMPDIR: the socket's path must stay below 100 bytes and its folder open to the server's user
    let base = PathBuf::from("/tmp").join(format!("tally-postgres-{user}{label}"));
    fs::create_dir_all(&base)?;
    ensure!(fs::metadata(&base)?.uid() == user, "{} belongs to another user", base.display());
    fs::set_permissions(&base, fs::Permissions::from_mode(0o755))?;

    let in_use = File::options().create(true).append(true).open(base.join("users"))?;
    in_use.lock_shared()?;
    let starting = File::options().create(true).append(true).open(base.join("starting"))?;
    starting.lock()?;
    let socket_folder = base.join("socket");
    if UnixStream::connect(socket_folder.join(SOCKET)).is_err() {
        create(programs, &base, user == 0)?;
    }
    Ok(Postgres { socket_folder, _in_use: in_use })
}

/// Makes a cluster and starts its watchdog, which starts the server.
fn create(programs: &Path, base: &Path, as_root: bool) -> Result<()> {
    ensure!(succeeds(Command::new("flock").arg("--version")), "flock (util-linux) is missing: the watchdog needs it");
    let (data, socket, log) = (base.join("data"), base.join("socket"), base.join("log"));
    for folder in [&data, &socket] {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        fs::create_dir(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    // PostgreSQL refuses to run as root
    let become_user: Vec<&str> = if as_root {
        let user = if succeeds(Command::new("id").args(["-u", "postgres"])) { "postgres" } else { "nobody" };
        for folder in [&data, &socket] {
            ensure!(succeeds(Command::new("chown").arg(user).arg(folder)), "cannot give {} to {user}", folder.display());
        }
        if succeeds(Command::new("setpriv").arg("--version")) {
            if user == "postgres" {
                vec!["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            } else {
                vec!["setpriv", "--reuid=nobody", "--regid=65534", "--clear-groups"]
            }
        } else {
            vec!["runuser", "-u", user, "--"]
        }
    } else {
        Vec::new()
    };
    let program = |name: &str| {
        let mut words = become_user.iter().map(|word| (*word).to_owned()).chain([programs.join(name).display().to_string()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).current_dir("/").env("LC_ALL", "C");
        command
    };
    run(
        program("initdb")
            .args(["--username=tally_superuser", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&data),
        "",
    )?;
    run(program("postgres").args(["--single", "-D"]).arg(&data).arg("postgres"), ROLES)?;
    let log_file = File::create(&log)?;
    Command::new("sh")
        .args(["-c", WATCHDOG, "tally-postgres-watchdog"])
        .arg(base)
        .args(&become_user)
        .arg(programs.join("postgres"))
        .current_dir("/")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(log_file.try_clone()?)
        .stderr(log_file)
        .process_group(0)
        .spawn()
        .context("cannot start the watchdog")?;
    for _ in 0..300 {
        if UnixStream::connect(socket.join(SOCKET)).is_ok() && fs::read_to_string(&log)?.contains("ready to accept connections") {
            return Ok(());
        }
        sleep(Duration::from_millis(100));
    }
    bail!("the server did not come up in 30 s: {}", fs::read_to_string(&log)?)
}

fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn run(command: &mut Command, input: &str) -> Result<()> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {shown}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && !errors.contains("ERROR:"), "{shown}: {errors}");
    Ok(())
}
