//! The home folder: settings, secrets, the owner's lock, and where everything lies.
//! One process owns a home at a time; others may look at it. It knows no business rule.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shared_db::{Database, DbError};

/// Settings of a home: defaults < `tally.toml` < environment (`TALLY_<SECTION>_<FIELD>`) < flags.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The HTTP server.
    pub serve: ServeSettings,
    /// What one key may ask of it.
    pub access: AccessSettings,
    /// The embedded stream.
    pub stream: StreamSettings,
    /// How batches are cut.
    pub batch: BatchSettings,
    /// SQL.
    pub query: QuerySettings,
    /// The evidence log.
    pub evidence: EvidenceSettings,
    /// Invoices.
    pub billing: BillingSettings,
    /// Merging small files.
    pub compact: CompactSettings,
    /// How registry versions come into force.
    pub registry: RegistrySettings,
}

/// The HTTP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeSettings {
    /// Address and port; beyond loopback only with `behind_tls`.
    pub listen: String,
    /// Whether TLS ends in front of the server: without it keys would travel in clear beyond loopback.
    pub behind_tls: bool,
    /// Connections held at once; more wait to be taken.
    pub connections_max: usize,
    /// How long a connection may take to send the head of its next request; then it is closed.
    pub head_ms_max: u64,
    /// Largest request body in bytes; larger ones are answered with 413.
    pub body_bytes_max: usize,
    /// Requests worked on at once; more are answered with 503 and Retry-After.
    pub requests_max: usize,
    /// Events accepted but not yet committed; beyond it intake answers 503 and Retry-After.
    pub lag_events_max: u64,
}

/// Limits of one key; beyond them it is answered with 429 and Retry-After.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessSettings {
    /// Requests a second over time.
    pub requests_per_second: u64,
    /// Requests that may come at once after a pause.
    pub requests_burst: u64,
    /// Requests worked on at once.
    pub requests_max: usize,
    /// Body bytes a second over time; after a pause, as many at once.
    pub body_bytes_per_second: u64,
}

/// The embedded stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamSettings {
    /// A segment file is closed at this size.
    pub segment_bytes: u64,
    /// How unsynced writes are held.
    pub disk: DiskKind,
}

/// How the stream's unsynced writes are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskKind {
    /// In the operating system's page cache, as usual.
    Real,
    /// In this process until the sync: killing the process is then a power cut. For crash campaigns.
    UnsyncedInMemory,
}

/// How batches are cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchSettings {
    /// A batch waits at most this long for company.
    pub interval_ms: u64,
    /// Records in a batch at most.
    pub records_max: usize,
    /// Threads that rate a batch.
    pub threads: usize,
}

/// SQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuerySettings {
    /// Memory of one query in bytes.
    pub memory_bytes_max: usize,
    /// Wall time of one query.
    pub timeout_ms: u64,
    /// Rows of one answer.
    pub rows_max: usize,
    /// Bytes of one answer over HTTP; rows beyond are left out, and that is told.
    pub bytes_max: usize,
    /// Queries that run at once; further ones wait, and their time runs.
    pub concurrent_max: usize,
}

/// The evidence log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvidenceSettings {
    /// Origin line of the signed checkpoints: a name for this log without spaces, for ever.
    pub origin: String,
}

/// Invoices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BillingSettings {
    /// Who issues: numbers are gapless per issuer and read `<issuer>-000001`.
    pub issuer: String,
    /// When drafts get their numbers.
    pub issue: IssueWhen,
}

/// When drafts get their numbers and are booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssueWhen {
    /// As soon as the month's drafts are complete; the month stays provisional until the second opinion agrees.
    AtClose,
    /// When the second opinion on the month agrees.
    AfterSecondOpinion,
}

/// Merging small files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CompactSettings {
    /// Seconds between two looks for files to merge, while serving.
    pub interval_s: u64,
    /// Bytes of one table that go into one file at most.
    pub file_bytes_max: u64,
    /// Seconds for which DuckDB can travel back in time, and then as long again for whoever began to read before.
    pub keep_s: u64,
}

/// How registry versions come into force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistrySettings {
    /// Whether a version has to be a draft that was approved.
    pub review: ReviewWhen,
}

/// Whether a version has to be a draft that was approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewWhen {
    /// A folder may be published as it is: one person runs this home.
    Off,
    /// Only approved drafts are published.
    Required,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self { review: ReviewWhen::Off }
    }
}

impl Settings {
    /// Refuses values with which nothing would work, by name.
    fn check(&self) -> Result<(), String> {
        let wide = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        for (name, value, least, most) in [
            ("serve.body_bytes_max", wide(self.serve.body_bytes_max), 1 << 10, 64 << 20),
            ("serve.requests_max", wide(self.serve.requests_max), 1, 65_536),
            ("serve.lag_events_max", self.serve.lag_events_max, 1, u64::MAX),
            ("serve.connections_max", wide(self.serve.connections_max), 1, 65_536),
            ("serve.head_ms_max", self.serve.head_ms_max, 100, 3_600_000),
            ("access.requests_per_second", self.access.requests_per_second, 1, 1_000_000),
            ("access.requests_burst", self.access.requests_burst, 1, 1_000_000),
            ("access.requests_max", wide(self.access.requests_max), 1, 65_536),
            ("access.body_bytes_per_second", self.access.body_bytes_per_second, 1 << 10, 1 << 40),
            ("stream.segment_bytes", self.stream.segment_bytes, 2 << 20, 1 << 30),
            ("batch.interval_ms", self.batch.interval_ms, 0, 60_000),
            ("batch.records_max", wide(self.batch.records_max), 1, 1_000_000),
            ("batch.threads", wide(self.batch.threads), 1, 1_024),
            ("query.memory_bytes_max", wide(self.query.memory_bytes_max), 1 << 20, 1 << 40),
            ("query.timeout_ms", self.query.timeout_ms, 1, 86_400_000),
            ("query.rows_max", wide(self.query.rows_max), 1, 1 << 40),
            ("query.bytes_max", wide(self.query.bytes_max), 1 << 10, 1 << 40),
            ("query.concurrent_max", wide(self.query.concurrent_max), 1, 1_024),
            ("compact.interval_s", self.compact.interval_s, 1, 86_400),
            ("compact.file_bytes_max", self.compact.file_bytes_max, 1 << 10, 1 << 30),
            ("compact.keep_s", self.compact.keep_s, 0, 315_360_000),
        ] {
            if !(least..=most).contains(&value) {
                return Err(format!("{name} = {value}: it must be {least} to {most}"));
            }
        }
        let issuer = &self.billing.issuer;
        if !(1..=32).contains(&issuer.len()) || !issuer.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(format!("billing.issuer = {issuer:?}: it must be 1 to 32 letters, digits or -"));
        }
        Ok(())
    }
}

impl Default for ServeSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7420".to_owned(),
            behind_tls: false,
            connections_max: 1_024,
            head_ms_max: 60_000,
            body_bytes_max: 16 << 20,
            requests_max: 256,
            lag_events_max: 2_000_000,
        }
    }
}

impl Default for AccessSettings {
    fn default() -> Self {
        Self { requests_per_second: 1_000, requests_burst: 2_000, requests_max: 64, body_bytes_per_second: 64 << 20 }
    }
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, disk: DiskKind::Real }
    }
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self { interval_ms: 200, records_max: 50_000, threads: 2 }
    }
}

impl Default for QuerySettings {
    fn default() -> Self {
        Self { memory_bytes_max: 1 << 30, timeout_ms: 60_000, rows_max: 1_000_000, bytes_max: 64 << 20, concurrent_max: 4 }
    }
}

impl Default for BillingSettings {
    fn default() -> Self {
        Self { issuer: "TALLY".to_owned(), issue: IssueWhen::AtClose }
    }
}

impl Default for CompactSettings {
    fn default() -> Self {
        Self { interval_s: 10, file_bytes_max: 64 << 20, keep_s: 3_600 }
    }
}

impl Default for EvidenceSettings {
    fn default() -> Self {
        Self { origin: "tallystick.local/log".to_owned() }
    }
}

/// Why a home cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// There is no home here.
    #[error("{path} is not a Tallystick home; create one with `tally --home {path} init`")]
    Missing {
        /// The folder.
        path: String,
    },
    /// There already is one.
    #[error("{path} is a Tallystick home already")]
    Exists {
        /// The folder.
        path: String,
    },
    /// Another process owns it.
    #[error("{path} is owned by process {owner}; stop it first, or use a command that only reads")]
    Locked {
        /// The folder.
        path: String,
        /// What the lock file says.
        owner: String,
    },
    /// A file cannot be used.
    #[error("could not {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The settings do not read.
    #[error("{path}: {why}")]
    Settings {
        /// Where the setting stands.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A database that cannot be rebuilt is not there.
    #[error("{path} is missing, and what it held cannot be rebuilt: restore the home from a backup")]
    Gone {
        /// The file.
        path: String,
    },
    /// A database cannot be opened.
    #[error("could not open {path}")]
    Database {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: DbError,
    },
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> HomeError {
    let path = path.display().to_string();
    move |source| HomeError::Io { action, path, source }
}

/// Where a database lies and whose tables it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// The batch log.
    Log,
    /// Registry, ledger, billing, who may do what, and the audit.
    Books,
    /// The DuckLake catalog.
    Lake,
    /// Usage buckets.
    Usage,
    /// Evidence logs and checkpoints.
    Evidence,
}

impl Store {
    /// File name without its ending.
    pub fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Books => "books",
            Self::Lake => "lake",
            Self::Usage => "usage",
            Self::Evidence => "evidence",
        }
    }

    /// Whether it follows from the batch log alone and may be made anew.
    pub fn derived(self) -> bool {
        matches!(self, Self::Lake | Self::Usage)
    }

    /// Whose migrations it holds.
    pub fn owners(self) -> &'static [&'static str] {
        match self {
            Self::Log => &["platform-ingest"],
            Self::Books => &["platform-registry", "platform-ledger", "platform-billing", "platform-iam", "platform-audit"],
            Self::Lake => &["shared-lake"],
            Self::Usage => &["platform-catalog"],
            Self::Evidence => &["platform-evidence"],
        }
    }
}

/// A home folder that exists.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
    /// Made by this process: its databases may be created.
    fresh: bool,
    /// Its settings.
    pub settings: Settings,
}

/// The secrets of a home: 32 random bytes each, mode 0600.
#[derive(Clone)]
pub struct Secrets {
    /// Keys the identity hashes.
    pub identity: [u8; 32],
    /// Derives the salts of evidence.
    pub salt: [u8; 32],
    /// Signs checkpoints (Ed25519 seed).
    pub log: [u8; 32],
    /// Keys the hashes of API keys.
    pub pepper: [u8; 32],
    /// Signs bundles (Ed25519 seed).
    pub bundle: [u8; 32],
}

/// The owner's lock; freed when dropped or when the process ends in any way.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

const SECRETS: [&str; 5] = ["identity.key", "salt.key", "log.key", "pepper.key", "bundle.key"];

/// The key of the OS user while a server owns the home: beside the lock, for commands that ask the server.
const LOCAL_KEY: &str = "local.key";

impl Home {
    /// Creates a home with fresh secrets. Refuses a folder that is one already; other files there are left alone.
    pub fn create(root: &Path) -> Result<Self, HomeError> {
        if root.join("tally.toml").exists() {
            return Err(HomeError::Exists { path: root.display().to_string() });
        }
        // Settings from the environment are checked before anything is made.
        let environment = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        read_settings(SETTINGS_TEXT, &root.join("tally.toml").display().to_string(), environment)?;
        for folder in ["secrets", "stream", "lake/events", "lake/charges", "lake/totals", "lake/headers", "db", "ingest", "tiles"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(io("create", &path))?;
        }
        let secrets = root.join("secrets");
        fs::set_permissions(&secrets, fs::Permissions::from_mode(0o700)).map_err(io("protect", &secrets))?;
        for name in SECRETS {
            let path = secrets.join(name);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(io("create", &path))?;
            let text = hex::encode(rand::random::<[u8; 32]>());
            file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io("write", &path))?;
        }
        let path = secrets.join("digest");
        fs::write(&path, digest_of(root)?).map_err(io("write", &path))?;
        // The settings come last: a home without them was not finished and can be created again after removing it.
        let path = root.join("tally.toml");
        fs::write(&path, SETTINGS_TEXT).map_err(io("write", &path))?;
        File::open(root).and_then(|folder| folder.sync_all()).map_err(io("sync", root))?;
        Ok(Self { fresh: true, ..Self::open(root)? })
    }

    /// Opens a home and reads its settings.
    pub fn open(root: &Path) -> Result<Self, HomeError> {
        let path = root.join("tally.toml");
        if !path.is_file() {
            return Err(HomeError::Missing { path: root.display().to_string() });
        }
        let text = fs::read_to_string(&path).map_err(io("read", &path))?;
        // Variables that are not text are nobody's settings.
        let environment = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let settings = read_settings(&text, &path.display().to_string(), environment)?;
        Ok(Self { root: root.to_owned(), settings, fresh: false })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path inside the home.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Takes the owner's lock and says in it who owns the home and where it listens.
    pub fn lock(&self, listen: Option<&str>) -> Result<Lock, HomeError> {
        let path = self.path("lock");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io("open", &path))?;
        // A reader that asks who owns the home holds the lock for a moment: one refusal is not yet an owner.
        let taken = (0..5).any(|attempt| {
            if attempt > 0 {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            file.try_lock().is_ok()
        });
        if !taken {
            let mut owner = String::new();
            // An owner that has not written its line yet is still an owner.
            let _ = file.read_to_string(&mut owner);
            return Err(HomeError::Locked { path: self.root.display().to_string(), owner: owner.trim().to_owned() });
        }
        let lock = Lock { file };
        lock.describe(listen).map_err(io("write", &path))?;
        Ok(lock)
    }

    /// Where the owning process listens, if one owns the home and listens.
    pub fn owner(&self) -> Option<Owner> {
        let path = self.path("lock");
        let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
        if file.try_lock().is_ok() {
            return None;
        }
        let mut text = String::new();
        (&file).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// The secrets.
    ///
    /// - Errors: keys other than those the home was created with: under them every event would be new and every proof void.
    pub fn secrets(&self) -> Result<Secrets, HomeError> {
        let path = self.path("secrets/digest");
        let created_with = fs::read_to_string(&path).map_err(io("read", &path))?;
        if created_with.trim() != digest_of(&self.root)? {
            return Err(HomeError::Settings {
                path: self.path("secrets").display().to_string(),
                why: "the keys are not those that the home was created with; restore them from a backup".to_owned(),
            });
        }
        let read = |name: &str| {
            let path = self.path("secrets").join(name);
            let text = fs::read_to_string(&path).map_err(io("read", &path))?;
            let mut key = [0; 32];
            hex::decode_to_slice(text.trim(), &mut key).map_err(|_| HomeError::Settings {
                path: path.display().to_string(),
                why: "is not 64 hex digits; restore it from a backup".to_owned(),
            })?;
            Ok(key)
        };
        let [identity, salt, log, pepper, bundle] = SECRETS;
        Ok(Secrets { identity: read(identity)?, salt: read(salt)?, log: read(log)?, pepper: read(pepper)?, bundle: read(bundle)? })
    }

    /// Offers a key to whoever can read the home, until the owner ends or the next one offers another.
    pub fn offer_local_key(&self, _owner: &Lock, key: &str) -> Result<LocalKeyFile, HomeError> {
        let (path, fresh) = (self.path(LOCAL_KEY), self.path("local.key.new"));
        // What a killed owner left half done is in the way of a file that only its maker may read.
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io("remove", &fresh)(error)),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).map_err(io("create", &fresh))?;
        file.write_all(key.as_bytes()).map_err(io("write", &fresh))?;
        fs::rename(&fresh, &path).map_err(io("rename", &fresh))?;
        Ok(LocalKeyFile { path })
    }

    /// The key that the owner offers.
    pub fn local_key(&self) -> Result<String, HomeError> {
        let path = self.path(LOCAL_KEY);
        Ok(fs::read_to_string(&path).map_err(io("read", &path))?.trim().to_owned())
    }

    fn database_path(&self, store: Store) -> PathBuf {
        self.path("db").join(format!("{}.db", store.name()))
    }

    /// Opens a database as the owner and brings its schema up to date.
    ///
    /// - Errors: a database that holds facts and is missing is not begun anew: that would be a second history beside the first.
    pub async fn database(&self, store: Store) -> Result<Database, HomeError> {
        let path = self.database_path(store);
        if !self.fresh && !store.derived() && !path.exists() {
            return Err(HomeError::Gone { path: path.display().to_string() });
        }
        Database::open_sqlite(&path, store.owners())
            .await
            .map_err(|source| HomeError::Database { path: path.display().to_string(), source })
    }

    /// Opens a database for reading, beside an owner or without one.
    pub async fn database_read_only(&self, store: Store) -> Result<Database, HomeError> {
        let path = self.database_path(store);
        Database::open_sqlite_read_only(&path).await.map_err(|source| HomeError::Database { path: path.display().to_string(), source })
    }

    /// The path of a database file.
    pub fn database_file(&self, store: Store) -> PathBuf {
        self.database_path(store)
    }
}

/// SHA-256 over the key files, in their order.
fn digest_of(root: &Path) -> Result<String, HomeError> {
    let mut keys = Vec::new();
    for name in SECRETS {
        let path = root.join("secrets").join(name);
        keys.extend(fs::read(&path).map_err(io("read", &path))?);
        keys.push(b'\n');
    }
    Ok(shared_types::Digest::of(&keys).to_string())
}

/// The file with the key of the OS user; gone with the owner that offers it.
#[derive(Debug)]
pub struct LocalKeyFile {
    path: PathBuf,
}

impl Drop for LocalKeyFile {
    fn drop(&mut self) {
        // A file that stays is worth nothing: the next owner has another key.
        let _ = fs::remove_file(&self.path);
    }
}

/// What the lock file says of the owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its process id.
    pub pid: u32,
    /// Where it listens, if it does.
    pub listen: Option<String>,
}

impl Lock {
    /// Rewrites the owner's line, for example once the port is known.
    pub fn describe(&self, listen: Option<&str>) -> std::io::Result<()> {
        use std::os::unix::fs::FileExt;
        let owner = Owner { pid: std::process::id(), listen: listen.map(ToOwned::to_owned) };
        let text = serde_json::to_string(&owner)?;
        self.file.set_len(0)?;
        self.file.write_all_at(text.as_bytes(), 0)
    }
}

const SETTINGS_TEXT: &str = "\
# Settings of this Tallystick home. Every field has a default; environment variables such as TALLY_SERVE_LISTEN win over this file,
# flags win over both. `docs/guide/operator.md` lists them all.

[serve]
listen = \"127.0.0.1:7420\"
";

/// Settings from text with the environment laid over it.
fn read_settings(text: &str, path: &str, environment: impl Iterator<Item = (String, String)>) -> Result<Settings, HomeError> {
    let wrong = |why: String| HomeError::Settings { path: path.to_owned(), why };
    let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    let known = toml::Table::try_from(Settings::default()).map_err(|error| wrong(error.to_string()))?;
    for (name, value) in environment {
        let Some(rest) = name.strip_prefix("TALLY_") else { continue };
        let Some((section, field)) = rest.split_once('_') else { continue };
        let (section, field) = (section.to_ascii_lowercase(), field.to_ascii_lowercase());
        let Some(fields) = known.get(&section).and_then(toml::Value::as_table) else { continue };
        let Some(default) = fields.get(&field) else {
            let all: Vec<&str> = fields.keys().map(String::as_str).collect();
            return Err(wrong(format!("environment variable {name}: section {section} has no {field}; it has {}", all.join(", "))));
        };
        let parsed = match default {
            toml::Value::Integer(_) => value
                .parse()
                .map(toml::Value::Integer)
                .map_err(|_| wrong(format!("environment variable {name}: {value:?} is not a whole number")))?,
            _ => toml::Value::String(value),
        };
        if let Some(fields) = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new())).as_table_mut() {
            fields.insert(field, parsed);
        }
    }
    let settings: Settings = table.try_into().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    settings.check().map_err(wrong)?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins_over_the_file_and_unknown_settings_are_refused() {
        let environment = [("TALLY_BATCH_INTERVAL_MS".to_owned(), "50".to_owned()), ("TALLY_HOME".to_owned(), "x".to_owned())];
        let settings = read_settings("[batch]\ninterval_ms = 10\nthreads = 1\n", "t", environment.into_iter()).unwrap();
        assert_eq!((settings.batch.interval_ms, settings.batch.threads), (50, 1));
        let error = read_settings("[batch]\nintervall_ms = 10\n", "tally.toml", std::iter::empty()).unwrap_err();
        assert!(error.to_string().contains("intervall_ms"), "{error}");
        let environment = [("TALLY_BATCH_INTERVAL_MS".to_owned(), "soon".to_owned())];
        let error = read_settings("", "tally.toml", environment.into_iter()).unwrap_err();
        assert!(error.to_string().contains("TALLY_BATCH_INTERVAL_MS"), "{error}");
    }

    #[test]
    fn a_home_has_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::create(folder.path()).unwrap();
        assert!(matches!(Home::create(folder.path()), Err(HomeError::Exists { .. })));
        assert_eq!(home.owner(), None);
        let lock = home.lock(Some("127.0.0.1:1")).unwrap();
        assert!(matches!(home.lock(None), Err(HomeError::Locked { .. })));
        assert_eq!(home.owner().unwrap().listen.as_deref(), Some("127.0.0.1:1"));
        drop(lock);
        assert_eq!(home.owner(), None);
    }
}
