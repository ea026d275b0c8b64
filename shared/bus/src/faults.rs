//! A disk in memory whose power can be cut and whose operations can fail, for tests of whatever writes through `Disk`.
//! Its power cuts are worse than a killed process: of what was not synced, any part may survive, any may be gone or zeros.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::disk::{Access, Disk, DiskFile, Lock};

/// What survives a power cut of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Nothing.
    Synced,
    /// Everything: as if only the process had been killed.
    All,
    /// An arbitrary part, determined by the seed: names come or go, files are torn at any byte, blocks are zeros.
    Torn {
        /// Chooses the part.
        seed: u64,
    },
}

/// What goes wrong. All counts are of operations from now on: 0 is the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The append that fails, after half of it was written.
    pub fail_append: Option<u64>,
    /// The sync (of a file or folder) that fails. What it should have synced stays unsynced.
    pub fail_sync: Option<u64>,
    /// The changing operation at which the power goes off: half of an append is written, anything else is not done.
    pub cut_power: Option<u64>,
    /// Bytes that all files together may have; an append beyond is written as far as it fits and fails.
    pub capacity: Option<u64>,
    /// Syncs answer that they succeeded and do nothing.
    pub lying_sync: bool,
    /// How long the sync of a file takes.
    pub sync_takes: Duration,
}

/// How often something went wrong since the disk was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Power cuts.
    pub cuts: u64,
    /// Files that a power cut left with only a part of their unsynced bytes.
    pub torn: u64,
    /// Appends and syncs that failed by plan.
    pub failed: u64,
    /// Appends that found no space.
    pub full: u64,
    /// Syncs of files that did not fail.
    pub syncs: u64,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    off: bool,
    /// Rises with each power cut: what was opened before is dead.
    life: u64,
    plan: Plan,
    tally: Tally,
    files: BTreeMap<PathBuf, Name>,
    /// Removed, but not durably.
    removed: BTreeMap<PathBuf, Name>,
    locks: BTreeMap<PathBuf, Weak<()>>,
}

#[derive(Clone, Debug)]
struct Name {
    durable: bool,
    content: Arc<Mutex<Content>>,
}

#[derive(Debug, Default)]
struct Content {
    written: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Debug)]
struct FaultyFile {
    state: Arc<Mutex<State>>,
    life: u64,
    content: Arc<Mutex<Content>>,
}

/// What an operation is to the plan.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Append,
    Sync,
    Other,
}

fn off() -> io::Error {
    io::Error::other("the power is off")
}

/// Counts down; true once, when the count is reached.
fn due(count: &mut Option<u64>) -> bool {
    match count {
        Some(0) => {
            *count = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

impl State {
    fn alive(&self, life: u64) -> io::Result<()> {
        if self.off || life != self.life { Err(off()) } else { Ok(()) }
    }

    /// Lets the plan have its way before a changing operation.
    fn before(&mut self, operation: Operation) -> io::Result<()> {
        if due(&mut self.plan.cut_power) {
            self.off = true;
            self.tally.cuts += 1;
            return Err(off());
        }
        let failing = match operation {
            Operation::Append => due(&mut self.plan.fail_append),
            Operation::Sync => due(&mut self.plan.fail_sync),
            Operation::Other => false,
        };
        if failing {
            self.tally.failed += 1;
            return Err(io::Error::other("failed by plan"));
        }
        Ok(())
    }

    fn used(&self) -> u64 {
        self.files.values().map(|name| name.content.lock().written.len() as u64).sum()
    }
}

/// SplitMix64: small, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `most`, both included.
    fn upto(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % (most as u64 + 1)).unwrap_or(most)
    }

    fn half(&mut self) -> bool {
        self.next().is_multiple_of(2)
    }
}

impl Content {
    /// What is left of the file after a power cut; says whether only a part of the unsynced bytes is.
    fn survive(&mut self, survival: Survival, chance: &mut Chance) -> bool {
        const BLOCK: usize = 64;
        let mut torn = false;
        let left = match survival {
            Survival::Synced => self.synced.clone(),
            Survival::All => self.written.clone(),
            Survival::Torn { .. } if self.written == self.synced => self.synced.clone(),
            Survival::Torn { .. } => {
                let shorter = self.written.len().min(self.synced.len());
                let longer = if self.written.len() > self.synced.len() { &self.written } else { &self.synced };
                let mut left = longer.clone();
                left.truncate(shorter + chance.upto(longer.len() - shorter));
                // Blocks whose length was recorded, but not what they hold. Often none, so that whole writes survive too.
                let holes = chance.half();
                for block in left.get_mut(shorter..).unwrap_or_default().chunks_mut(BLOCK) {
                    if holes && chance.half() {
                        block.fill(0);
                    }
                }
                torn = left != self.written;
                left
            }
        };
        self.written.clone_from(&left);
        self.synced = left;
        torn
    }
}

impl FaultyDisk {
    /// A disk on which nothing goes wrong yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What goes wrong from now on.
    pub fn plan(&self, plan: Plan) {
        self.state.lock().plan = plan;
    }

    /// Cuts the power now.
    pub fn cut_power(&self) {
        let mut state = self.state.lock();
        state.tally.cuts += u64::from(!state.off);
        state.off = true;
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        self.state.lock().off
    }

    /// Turns the power on again: what was open is dead, no plan is left, and of the unsynced what survives is decided. Without a power
    /// cut before it, it makes one.
    pub fn restore_power(&self, survival: Survival) {
        self.cut_power();
        let mut state = self.state.lock();
        let seed = if let Survival::Torn { seed } = survival { seed } else { 0 };
        let mut chance = Chance(seed);
        let mut survives = |durable: bool| match survival {
            Survival::Synced => durable,
            Survival::All => true,
            Survival::Torn { .. } => durable || chance.half(),
        };
        state.files.retain(|_, name| survives(name.durable));
        let removed = std::mem::take(&mut state.removed);
        if survival != Survival::All {
            let back = removed.into_iter().filter(|(_, name)| name.durable && (survival == Survival::Synced || survives(false)));
            for (path, name) in back {
                state.files.entry(path).or_insert(name);
            }
        }
        for name in state.files.values_mut() {
            name.durable = true;
        }
        let torn = state.files.values().map(|name| u64::from(name.content.lock().survive(survival, &mut chance))).sum::<u64>();
        state.tally.torn += torn;
        state.off = false;
        state.life += 1;
        state.plan = Plan::default();
        state.locks.clear();
    }

    /// How often something went wrong.
    pub fn tally(&self) -> Tally {
        self.state.lock().tally
    }

    /// Changes the bytes of a file behind everybody's back, durably.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let state = self.state.lock();
        let name = state.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        let mut content = name.content.lock();
        change(&mut content.written);
        content.synced = content.written.clone();
        Ok(())
    }

    /// The bytes of a file as they are read now, unsynced ones included.
    pub fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state.lock();
        let name = state.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(name.content.lock().written.clone())
    }

    fn file(&self, state: &State, content: &Arc<Mutex<Content>>) -> Arc<dyn DiskFile> {
        Arc::new(FaultyFile { state: Arc::clone(&self.state), life: state.life, content: Arc::clone(content) })
    }
}

impl Disk for FaultyDisk {
    fn create_directory(&self, _directory: &Path) -> io::Result<()> {
        let state = self.state.lock();
        state.alive(state.life)
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let mut state = self.state.lock();
        state.alive(state.life)?;
        if state.locks.get(path).is_some_and(|taken| taken.strong_count() > 0) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = Arc::new(());
        state.locks.insert(path.to_owned(), Arc::downgrade(&taken));
        Ok(Box::new(taken))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.alive(state.life)?;
        state.before(Operation::Other)?;
        if state.files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let content = Arc::new(Mutex::new(Content::default()));
        state.files.insert(path.to_owned(), Name { durable: false, content: Arc::clone(&content) });
        Ok(self.file(&state, &content))
    }

    fn open(&self, path: &Path, _access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state.lock();
        state.alive(state.life)?;
        let name = state.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(&state, &name.content))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        state.alive(state.life)?;
        let inside = state.files.keys().filter(|path| path.parent() == Some(directory));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive(state.life)?;
        state.before(Operation::Other)?;
        let name = state.files.remove(path).ok_or(io::ErrorKind::NotFound)?;
        if name.durable {
            state.removed.insert(path.to_owned(), name);
        }
        Ok(())
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive(state.life)?;
        state.before(Operation::Sync)?;
        if !state.plan.lying_sync {
            state.removed.retain(|path, _| path.parent() != Some(directory));
            let inside = state.files.iter_mut().filter(|(path, _)| path.parent() == Some(directory));
            inside.for_each(|(_, name)| name.durable = true);
        }
        Ok(())
    }
}

impl DiskFile for FaultyFile {
    fn length(&self) -> io::Result<u64> {
        self.state.lock().alive(self.life)?;
        Ok(self.content.lock().written.len() as u64)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive(self.life)?;
        if let Err(error) = state.before(Operation::Append) {
            self.content.lock().written.extend(bytes.iter().take(bytes.len() / 2));
            return Err(error);
        }
        let room = state.plan.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used()));
        let fitting = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        self.content.lock().written.extend(bytes.iter().take(fitting));
        if fitting < bytes.len() {
            state.tally.full += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive(self.life)?;
        state.before(Operation::Other)?;
        self.content.lock().written.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let takes = self.state.lock().plan.sync_takes;
        if !takes.is_zero() {
            std::thread::sleep(takes);
        }
        let mut state = self.state.lock();
        state.alive(self.life)?;
        state.before(Operation::Sync)?;
        state.tally.syncs += 1;
        if !state.plan.lying_sync {
            let mut content = self.content.lock();
            content.synced = content.written.clone();
        }
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.state.lock().alive(self.life)?;
        let content = self.content.lock();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = content.written.get(from..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(target), Some(source)) = (buffer.get_mut(..count), rest.get(..count)) {
            target.copy_from_slice(source);
        }
        Ok(count)
    }
}
