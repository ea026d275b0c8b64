//! The identity index: which identities were accepted, where, and with what content. Derived from the batch log, kept in `fjall`.
//! It knows no batch file and no stream: whoever opens it refills it from the batch after [`Opened::through`].
//!
//! What it promises: an answer is right, or there is none. An absent identity must not be reported while `through` says that its
//! batch is in, because the event would be counted twice. What the store itself guarantees does not reach that far:
//! - Journal batches and table blocks carry checksums, and a batch is atomic, so a torn journal tail loses whole batches together
//!   with their mark. Nothing is synced on `apply`: a power cut costs the tail, which is refilled.
//! - But a journal that is cut in its middle is taken for a torn tail even when a younger journal follows it, and the list of
//!   tables (`v*`, `current`) has no checksum: nothing there would tell that entries are missing while the mark survives.
//!
//! Therefore each write batch replaces, beside its entries, one mark: `through`, the number of entries and the XOR of a hash of
//! each. After a clean close (everything flushed, then a seal over the files: sizes, and contents of the small ones) the seal
//! is compared, which costs nothing; otherwise the whole index is scanned against the mark. Anything else than equality throws
//! the folder away.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant as Moment};

use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use parking_lot::Mutex;
use shared_types::{BatchNo, Digest, IdentityHash, Incarnation, Position, Sequence, ShardId};
use xxhash_rust::xxh3::xxh3_128;

/// Format of keys, values and mark; another one found means a rebuild.
const FORMAT: u8 = 1;
/// Key of the mark: behind all shards.
const MARK: [u8; 1] = [0xff];
const MARK_BYTES: usize = 5 + 32 + 8 + 32 + 8 + 16;
const ENTRY_BYTES: usize = 4 + 8 + 1 + 8;
/// Files up to this size are sealed by content; larger ones are tables and journals, sealed by size.
const SEALED_BYTES_MAX: u64 = 1 << 20;
/// How often an open may die without an error (killed, or out of memory over garbled lengths) before the folder is suspected.
const OPENS_DIED_MAX: usize = 2;

/// How the index is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexOptions {
    /// The deployment to which the identities belong; an index of another one is thrown away.
    pub deployment: String,
    /// Memory for blocks read, in bytes.
    pub cache_bytes: u64,
    /// Entries are written out as a table when they take this much memory, in bytes.
    pub memtable_bytes: u64,
}

impl IndexOptions {
    /// 64 MiB of cache, tables of 64 MiB.
    pub fn new(deployment: impl Into<String>) -> Self {
        Self { deployment: deployment.into(), cache_bytes: 64 << 20, memtable_bytes: 64 << 20 }
    }
}

/// What the first appearance of an identity was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryOutcome {
    /// Accepted, its readings rated.
    Accepted,
}

/// What is known of an identity. Its shard is part of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The life of the stream of the first appearance.
    pub incarnation: Incarnation,
    /// Its number there.
    pub sequence: Sequence,
    /// What it was.
    pub outcome: EntryOutcome,
    /// The first 8 bytes of its content digest.
    pub content: [u8; 8],
}

impl Entry {
    /// The entry of an event at a position.
    pub fn new(position: Position, outcome: EntryOutcome, content: &Digest) -> Self {
        Self { incarnation: position.incarnation, sequence: position.sequence, outcome, content: head(content) }
    }

    /// Where the first appearance stands.
    pub fn position(&self, shard: ShardId) -> Position {
        Position { shard, incarnation: self.incarnation, sequence: self.sequence }
    }

    /// Whether content with this digest is what was accepted, by 64 bits of it.
    pub fn same_content(&self, content: &Digest) -> bool {
        self.content == head(content)
    }

    fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let outcome = match self.outcome {
            EntryOutcome::Accepted => 1,
        };
        let parts = [&self.incarnation.0.to_be_bytes()[..], &self.sequence.0.to_be_bytes(), &[outcome], &self.content];
        fill(&mut bytes, &parts);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Parts(bytes);
        let incarnation = Incarnation(u32::from_be_bytes(reader.take()?));
        let sequence = Sequence(u64::from_be_bytes(reader.take()?));
        let outcome = match reader.take::<1>()? {
            [1] => EntryOutcome::Accepted,
            _ => return None,
        };
        let content = reader.take()?;
        reader.0.is_empty().then_some(Self { incarnation, sequence, outcome, content })
    }
}

fn head(digest: &Digest) -> [u8; 8] {
    let mut bytes = [0; 8];
    fill(&mut bytes, &[&digest.0]);
    bytes
}

/// Copies the parts one after the other, as far as they fit.
fn fill(target: &mut [u8], parts: &[&[u8]]) {
    for (slot, byte) in target.iter_mut().zip(parts.iter().copied().flatten()) {
        *slot = *byte;
    }
}

/// Bytes read from the front.
struct Parts<'a>(&'a [u8]);

impl Parts<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
}

/// What stands in the store, as one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    deployment: Digest,
    through: BatchNo,
    digest: Digest,
    entries: u64,
    /// XOR of [`hash`] over all entries.
    sum: u128,
}

impl Mark {
    fn empty(deployment: Digest) -> Self {
        Self { deployment, through: BatchNo(0), digest: Digest::ZERO, entries: 0, sum: 0 }
    }

    fn encode(&self) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        let parts = [
            &b"TSIX"[..],
            &[FORMAT],
            &self.deployment.0,
            &self.through.0.to_be_bytes(),
            &self.digest.0,
            &self.entries.to_be_bytes(),
            &self.sum.to_be_bytes(),
        ];
        fill(&mut bytes, &parts);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Parts(bytes);
        if reader.take()? != *b"TSIX" || reader.take()? != [FORMAT] {
            return None;
        }
        let mark = Self {
            deployment: Digest(reader.take()?),
            through: BatchNo(u64::from_be_bytes(reader.take()?)),
            digest: Digest(reader.take()?),
            entries: u64::from_be_bytes(reader.take()?),
            sum: u128::from_be_bytes(reader.take()?),
        };
        reader.0.is_empty().then_some(mark)
    }
}

type Key = [u8; 17];

fn key(shard: ShardId, identity: &IdentityHash) -> Key {
    let mut bytes = [0; 17];
    fill(&mut bytes, &[&[shard.number()], &identity.0]);
    bytes
}

fn hash(key: &[u8], value: &[u8]) -> u128 {
    let mut bytes = [0; 17 + ENTRY_BYTES];
    fill(&mut bytes, &[key, value]);
    xxh3_128(&bytes)
}

/// Why the index did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The store gave an error or nonsense. Nothing it says can be used any more: drop it and open it again.
    #[error("the identity index is damaged: {what}; it must be opened again, which rebuilds it")]
    Damaged {
        /// What was found.
        what: String,
    },
    /// The folder belongs to somebody else at the moment.
    #[error("the identity index in {} is in use by another process", dir.display())]
    Busy {
        /// The folder.
        dir: PathBuf,
    },
    /// Batches come once and in order.
    #[error("batch {through} cannot be applied: the index stands at batch {at}")]
    Order {
        /// The batch offered.
        through: BatchNo,
        /// Where the index stands.
        at: BatchNo,
    },
    /// The environment failed: rights, space, files open. The folder was left as it is.
    #[error("could not use the identity index in {}", dir.display())]
    Io {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// An index ready to be refilled.
#[derive(Debug)]
pub struct Opened {
    /// The index.
    pub index: Index,
    /// The last batch that is in; 0 for an empty index.
    pub through: BatchNo,
    /// That batch's digest. When the log has another one, the index comes from another history: [`Index::discard`] it.
    pub digest: Digest,
    /// Whether an existing folder was thrown away.
    pub rebuilt: bool,
}

/// The open index. Dropped without [`Index::close`] it is whole, but the next open scans it.
pub struct Index {
    dir: PathBuf,
    database: Database,
    entries: Keyspace,
    mark: Mutex<Mark>,
    damaged: AtomicBool,
    /// Held locked while the index is open.
    _owner: File,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("dir", &self.dir).field("mark", &*self.mark.lock()).finish_non_exhaustive()
    }
}

/// Why a folder did not open.
enum Fault {
    /// The folder is at fault.
    Damaged(String),
    /// Something else is: the folder stays.
    Refused(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let refused = matches!(
            error.kind(),
            Kind::PermissionDenied | Kind::StorageFull | Kind::QuotaExceeded | Kind::ReadOnlyFilesystem | Kind::OutOfMemory
        );
        // ENFILE and EMFILE have no kind of their own.
        if refused || matches!(error.raw_os_error(), Some(23 | 24)) { Self::Refused(error) } else { Self::Damaged(error.to_string()) }
    }
}

impl From<fjall::Error> for Fault {
    fn from(error: fjall::Error) -> Self {
        match error {
            fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => Self::from(error),
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// Runs what calls into the store. Its readers assert on garbled content; such a panic is damage, not the end of the process.
fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Fault::Damaged(format!("the store panicked: {}", text.unwrap_or("without a message"))))
    })
}

impl Index {
    /// Opens or creates the index in a folder of its own.
    ///
    /// - A folder that is damaged, of another format or of another deployment is deleted with a warning and begun anew.
    /// - Cost: the unflushed journal after a clean close, else a scan of all entries (about a million a second on two cores).
    /// - Errors: `Busy`, `Io`.
    pub fn open(dir: &Path, options: &IndexOptions) -> Result<Opened, IndexError> {
        let failed = |source| IndexError::Io { dir: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        let owner = File::options().create(true).truncate(false).write(true).open(dir.join("owner")).map_err(failed)?;
        match owner.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(IndexError::Busy { dir: dir.to_owned() }),
            Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        let mut rebuilt = false;
        let (database, entries, mark) = match open_checked(dir, options) {
            Ok(opened) => opened,
            Err(Fault::Refused(source)) => return Err(failed(source)),
            Err(Fault::Damaged(why)) => {
                tracing::warn!(
                    dir = %dir.display(),
                    why,
                    "identity index thrown away; it is rebuilt from the batch log, and nothing is ingested until that is done"
                );
                rebuilt = true;
                throw_away(dir).map_err(failed)?;
                open_checked(dir, options).map_err(|fault| {
                    failed(match fault {
                        Fault::Refused(source) => source,
                        Fault::Damaged(why) => io::Error::other(why),
                    })
                })?
            }
        };
        let (through, digest) = (mark.through, mark.digest);
        let index = Self { dir: dir.to_owned(), database, entries, mark: Mutex::new(mark), damaged: AtomicBool::new(false), _owner: owner };
        Ok(Opened { index, through, digest, rebuilt })
    }

    /// What is known of each identity, in the order asked.
    ///
    /// - Errors: `Damaged`.
    pub fn get_many(&self, identities: &[(ShardId, IdentityHash)]) -> Result<Vec<Option<Entry>>, IndexError> {
        self.sound()?;
        let found = guarded(|| {
            let mut found = Vec::with_capacity(identities.len());
            for (shard, identity) in identities {
                found.push(match self.entries.get(key(*shard, identity))? {
                    None => None,
                    Some(value) => Some(decoded(&value)?),
                });
            }
            Ok(found)
        });
        found.map_err(|fault| self.damaged(fault))
    }

    /// Adds the identities accepted by the batches up to `through`, whose digest is given; all of them and the mark, or nothing.
    ///
    /// - The caller offers each batch once and skips none; each identity is new.
    /// - Durability: survives the process at once, a power cut later; [`Opened::through`] says what did.
    /// - Errors: `Order`; `Damaged`, after which the index must be opened again.
    pub fn apply(&self, entries: &[(ShardId, IdentityHash, Entry)], through: BatchNo, digest: &Digest) -> Result<(), IndexError> {
        self.sound()?;
        let mut mark = self.mark.lock();
        if through <= mark.through {
            return Err(IndexError::Order { through, at: mark.through });
        }
        let mut next = Mark { through, digest: *digest, ..*mark };
        let written = guarded(|| {
            let mut batch = self.database.batch();
            for (shard, identity, entry) in entries {
                let (key, value) = (key(*shard, identity), entry.encode());
                next.entries = next.entries.wrapping_add(1);
                next.sum ^= hash(&key, &value);
                batch.insert(&self.entries, key, value);
            }
            batch.insert(&self.entries, MARK, next.encode());
            Ok(batch.commit()?)
        });
        written.map_err(|fault| self.damaged(fault))?;
        *mark = next;
        Ok(())
    }

    /// The last batch that is in, and its digest.
    pub fn through(&self) -> (BatchNo, Digest) {
        let mark = self.mark.lock();
        (mark.through, mark.digest)
    }

    /// How many identities are in.
    pub fn entries(&self) -> u64 {
        self.mark.lock().entries
    }

    /// Writes everything out and seals the files, so that the next open need not scan.
    /// A store that is damaged or does not come to rest within 30 seconds is closed without a seal.
    ///
    /// - Errors: `Io` when the seal cannot be written; the index is whole all the same.
    pub fn close(self) -> Result<(), IndexError> {
        let Self { dir, database, entries, damaged, _owner, .. } = self;
        let flushed = !damaged.load(Ordering::Acquire) && flush(&entries);
        drop(entries);
        drop(database);
        if !flushed {
            return Ok(());
        }
        write_seal(&dir).map_err(|source| IndexError::Io { dir, source })
    }

    /// Deletes the index: for one that comes from another history than the batch log.
    pub fn discard(self) -> Result<(), IndexError> {
        let Self { dir, database, entries, _owner, .. } = self;
        drop(entries);
        drop(database);
        throw_away(&dir).map_err(|source| IndexError::Io { dir, source })
    }

    fn sound(&self) -> Result<(), IndexError> {
        if self.damaged.load(Ordering::Acquire) {
            return Err(IndexError::Damaged { what: "it failed before".to_owned() });
        }
        Ok(())
    }

    /// From now on nothing is answered, whatever the fault was: what a failed write left behind is unknown.
    fn damaged(&self, fault: Fault) -> IndexError {
        self.damaged.store(true, Ordering::Release);
        let what = match fault {
            Fault::Damaged(what) => what,
            Fault::Refused(error) => error.to_string(),
        };
        tracing::error!(dir = %self.dir.display(), what, "identity index damaged");
        IndexError::Damaged { what }
    }
}

fn store(dir: &Path) -> PathBuf {
    dir.join("fjall")
}

fn seal(dir: &Path) -> PathBuf {
    dir.join("seal")
}

fn attempts(dir: &Path) -> PathBuf {
    dir.join("opening")
}

fn decoded(value: &[u8]) -> Result<Entry, Fault> {
    Entry::decode(value).ok_or_else(|| Fault::Damaged(format!("an entry reads {}", hex::encode(value))))
}

/// Opens the store and proves it against its mark.
fn open_checked(dir: &Path, options: &IndexOptions) -> Result<(Database, Keyspace, Mark), Fault> {
    let died = fs::read(attempts(dir)).map_or(0, |attempts| attempts.len());
    if died >= OPENS_DIED_MAX {
        return Err(Fault::Damaged(format!("opening it ended the process {died} times")));
    }
    let sealed = check_seal(dir)?;
    fs::write(attempts(dir), "x".repeat(died.saturating_add(1)))?;
    remove(&seal(dir))?;
    sync_folder(dir)?;
    let opened = guarded(|| {
        let database = Database::builder(store(dir)).cache_size(options.cache_bytes).worker_threads(2).open()?;
        let entries = database.keyspace("identities", || KeyspaceCreateOptions::default().max_memtable_size(options.memtable_bytes))?;
        let mark = read_mark(&entries, Digest::of(options.deployment.as_bytes()))?;
        if !sealed {
            scan(&entries, &mark)?;
        }
        Ok((database, entries, mark))
    });
    // Only a process that dies on the way leaves its attempt behind.
    remove(&attempts(dir))?;
    opened
}

fn read_mark(entries: &Keyspace, deployment: Digest) -> Result<Mark, Fault> {
    let Some(value) = entries.get(MARK)? else { return Ok(Mark::empty(deployment)) };
    let mark = Mark::decode(&value).ok_or_else(|| Fault::Damaged("its mark has another format".to_owned()))?;
    if mark.deployment != deployment {
        return Err(Fault::Damaged("it belongs to another deployment".to_owned()));
    }
    Ok(mark)
}

/// Reads all entries and compares their number and sum with the mark, shards divided among the cores.
fn scan(entries: &Keyspace, mark: &Mark) -> Result<(), Fault> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let parts: Vec<Result<(u64, u128), Fault>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|at| {
                scope.spawn(move || {
                    guarded(|| ShardId::all().skip(at).step_by(threads).try_fold((0, 0), |sum, shard| scan_shard(entries, shard, sum)))
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err(Fault::Damaged("a scan died".to_owned())))).collect()
    });
    let (mut count, mut sum) = (0_u64, 0_u128);
    for part in parts {
        let part = part?;
        count = count.wrapping_add(part.0);
        sum ^= part.1;
    }
    if (count, sum) == (mark.entries, mark.sum) {
        Ok(())
    } else {
        Err(Fault::Damaged(format!("it holds {count} entries where its mark says {}, or other ones", mark.entries)))
    }
}

fn scan_shard(entries: &Keyspace, shard: ShardId, (mut count, mut sum): (u64, u128)) -> Result<(u64, u128), Fault> {
    for item in entries.prefix([shard.number()]) {
        let (key, value) = item.into_inner()?;
        decoded(&value)?;
        if key.len() != 17 {
            return Err(Fault::Damaged(format!("a key reads {}", hex::encode(&key))));
        }
        count = count.wrapping_add(1);
        sum ^= hash(&key, &value);
    }
    Ok((count, sum))
}

/// Writes what is in memory into tables; false when the store does not come to rest.
fn flush(entries: &Keyspace) -> bool {
    let flushed = guarded(|| {
        entries.rotate_memtable()?;
        let deadline = Moment::now() + Duration::from_secs(30);
        while entries.sealed_memtable_count() > 0 {
            if Moment::now() > deadline {
                return Err(Fault::Damaged("it does not come to rest".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    });
    flushed.is_ok()
}

/// Names, sizes and, of small files, contents of the closed store, as one digest. A journal's content does not count: all of it
/// has been written out.
fn fingerprint(dir: &Path) -> io::Result<Digest> {
    let mut lines = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(folder)? {
            let item = item?;
            let path = item.path();
            let metadata = item.metadata()?;
            if metadata.is_dir() {
                folders.push(path);
                continue;
            }
            let journal = path.extension().is_some_and(|extension| extension == "jnl");
            let content = match metadata.len() {
                bytes if bytes > SEALED_BYTES_MAX || journal => Digest::ZERO,
                _ => Digest::of(&fs::read(&path)?),
            };
            let name = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned();
            lines.push(format!("{name:?} {} {content}\n", metadata.len()));
        }
    }
    lines.sort_unstable();
    Ok(Digest::of(lines.concat().as_bytes()))
}

/// Whether the store is as [`Index::close`] left it: false without a seal, an error when the seal is broken.
fn check_seal(dir: &Path) -> Result<bool, Fault> {
    match fs::read_to_string(seal(dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
        Ok(text) if text == fingerprint(&store(dir))?.to_string() => Ok(true),
        Ok(_) => Err(Fault::Damaged("its files are not as they were closed".to_owned())),
    }
}

fn write_seal(dir: &Path) -> io::Result<()> {
    let text = fingerprint(&store(dir))?.to_string();
    let draft = dir.join("seal.draft");
    fs::write(&draft, text)?;
    File::open(&draft)?.sync_all()?;
    fs::rename(&draft, seal(dir))?;
    sync_folder(dir)
}

fn throw_away(dir: &Path) -> io::Result<()> {
    remove(&seal(dir))?;
    sync_folder(dir)?;
    match fs::remove_dir_all(store(dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    remove(&attempts(dir))?;
    sync_folder(dir)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests;
