//! A file system in memory that forgets what was not synced when the power is cut, fails at a chosen operation, and can be full.
//! For tests only: it keeps everything in memory and checks no permissions.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Entry, EntryKind, Files};

/// See the module.
#[derive(Debug)]
pub struct SimulatedFiles {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    contents: Vec<Content>,
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    operations: u64,
    power_fails_at: Option<u64>,
    space: Option<u64>,
}

#[derive(Debug, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Folder,
    File(usize),
}

impl Default for SimulatedFiles {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedFiles {
    /// An empty file system with one folder, `/`, and no limits.
    pub fn new() -> Self {
        let root = BTreeMap::from([(PathBuf::from("/"), Node::Folder)]);
        Self {
            state: Mutex::new(State {
                contents: Vec::new(),
                names: root.clone(),
                durable_names: root,
                operations: 0,
                power_fails_at: None,
                space: None,
            }),
        }
    }

    /// From the `operation`-th changing operation on (counted from 0 since the last power cut), every one fails and changes nothing, except that
    /// the first of them, when it creates a file, leaves half of it.
    pub fn fail_from(&self, operation: u64) {
        self.state().power_fails_at = Some(operation);
    }

    /// How many changing operations were tried since the last power cut.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many bytes may still be written before the disk is full; `None` lifts the limit.
    pub fn limit_space(&self, bytes: Option<u64>) {
        self.state().space = bytes;
    }

    /// Cuts the power and comes back: of what was not synced, the seed decides what is lost, what is there, and what is there in part.
    pub fn power_cut(&self, seed: u64) {
        let mut state = self.state();
        let mut chance = Chance(seed.wrapping_mul(2).wrapping_add(1));
        let mut names = state.durable_names.clone();
        let tried: Vec<PathBuf> = state.names.keys().chain(state.durable_names.keys()).cloned().collect();
        for path in tried {
            let (now, durable) = (state.names.get(&path).copied(), state.durable_names.get(&path).copied());
            if now != durable && chance.next(2) == 0 {
                match now {
                    Some(node) => names.insert(path, node),
                    None => names.remove(&path),
                };
            }
        }
        let whole = names.clone();
        names.retain(|path, _| path.ancestors().skip(1).all(|folder| whole.get(folder) == Some(&Node::Folder)));
        for content in &mut state.contents {
            if content.now == content.durable {
                continue;
            }
            let length = content.now.len();
            content.durable = match chance.next(4) {
                0 => content.durable.clone(),
                1 => content.now.clone(),
                2 => vec![0; length],
                _ => content.now.iter().copied().take(chance.next(length.max(1))).collect(),
            };
        }
        for content in &mut state.contents {
            content.now = content.durable.clone();
        }
        state.names = names.clone();
        state.durable_names = names;
        state.operations = 0;
        state.power_fails_at = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// xorshift64: which of the possible outcomes of a power cut happens.
struct Chance(u64);

impl Chance {
    /// 0 to `end` - 1.
    fn next(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap_or(0) % end.max(1)
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl State {
    /// Counts a changing operation; true when it is the one during which the power fails.
    fn change(&mut self) -> io::Result<bool> {
        let number = self.operations;
        self.operations += 1;
        match self.power_fails_at {
            Some(from) if number > from => Err(io::Error::other("the power is out")),
            Some(from) => Ok(number == from),
            None => Ok(false),
        }
    }

    fn change_or_fail(&mut self) -> io::Result<()> {
        if self.change()? { Err(io::Error::other("the power went out")) } else { Ok(()) }
    }

    fn content(&mut self, path: &Path) -> io::Result<&mut Content> {
        match self.names.get(path) {
            Some(Node::File(number)) => self.contents.get_mut(*number).ok_or_else(missing),
            _ => Err(missing()),
        }
    }

    /// Checks that the name is free and its folder is there.
    fn free(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().ok_or_else(missing)?;
        if self.names.get(folder) != Some(&Node::Folder) {
            return Err(missing());
        }
        if self.names.contains_key(path) { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(()) }
    }
}

impl Files for SimulatedFiles {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        for folder in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            match state.names.get(folder) {
                Some(Node::Folder) if state.durable_names.contains_key(folder) => continue,
                Some(Node::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
                _ => {}
            }
            state.change_or_fail()?;
            state.names.insert(folder.to_owned(), Node::Folder);
            state.change_or_fail()?;
            state.durable_names.insert(folder.to_owned(), Node::Folder);
        }
        Ok(())
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let fails = state.change()?;
        state.free(path)?;
        let room = state.space.map_or(usize::MAX, |space| usize::try_from(space).unwrap_or(usize::MAX));
        let written = if fails { bytes.len() / 2 } else { bytes.len() }.min(room);
        let number = state.contents.len();
        state.contents.push(Content { now: bytes.iter().copied().take(written).collect(), durable: Vec::new() });
        state.names.insert(path.to_owned(), Node::File(number));
        state.space = state.space.map(|space| space.saturating_sub(u64::try_from(written).unwrap_or(u64::MAX)));
        if fails {
            Err(io::Error::other("the power went out"))
        } else if written < bytes.len() {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change_or_fail()?;
        let content = state.content(path)?;
        content.durable = content.now.clone();
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change_or_fail()?;
        state.free(to)?;
        let node = match state.names.get(from) {
            Some(Node::File(number)) => Node::File(*number),
            _ => return Err(missing()),
        };
        state.names.insert(to.to_owned(), node);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change_or_fail()?;
        match state.names.get(path) {
            Some(Node::File(_)) => state.names.remove(path),
            _ => return Err(missing()),
        };
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change_or_fail()?;
        if state.names.get(path) != Some(&Node::Folder) {
            return Err(missing());
        }
        let held = |name: &PathBuf| name.parent() == Some(path);
        let now: Vec<(PathBuf, Node)> =
            state.names.iter().filter(|(name, _)| held(name)).map(|(name, node)| (name.clone(), *node)).collect();
        state.durable_names.retain(|name, _| !held(name));
        state.durable_names.extend(now);
        Ok(())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.state().content(path)?.now.clone())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let state = self.state();
        let mut entries = Vec::new();
        for (name, node) in state.names.iter().filter(|(name, _)| name.parent() == Some(path)) {
            let kind = match node {
                Node::Folder => EntryKind::Folder,
                Node::File(number) => EntryKind::File { bytes: state.contents.get(*number).map_or(0, |content| content.now.len() as u64) },
            };
            let Some(name) = name.file_name().and_then(|name| name.to_str()) else { continue };
            entries.push(Entry { name: name.to_owned(), kind });
        }
        entries.sort();
        Ok(entries)
    }
}
