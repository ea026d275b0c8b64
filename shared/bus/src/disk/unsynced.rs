//! A disk that keeps every unsynced write, name and removal in the memory of this process and passes it to the real disk, with a real
//! sync, only when it is synced. So killing the process is a power cut that loses all that was not synced.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Access, Disk, DiskFile, Lock, RealDisk};

/// See the module: selectable in a server to make `kill -9` as bad as a power cut. One value of it per folder and process.
#[derive(Debug, Default)]
pub struct UnsyncedInMemory {
    names: Mutex<Names>,
}

#[derive(Debug, Default)]
struct Names {
    /// Files opened or created through this disk. Those created since the last sync of their folder exist only here.
    files: BTreeMap<PathBuf, Arc<Unsynced>>,
    /// Removed here, but on the real disk until their folder is synced.
    removed: Vec<PathBuf>,
}

/// One file: the first `kept` bytes are on the real disk, then comes `tail`.
#[derive(Debug, Default)]
struct Unsynced(Mutex<Content>);

#[derive(Debug, Default)]
struct Content {
    /// `None` until the name is durable.
    real: Option<File>,
    kept: u64,
    tail: Vec<u8>,
    /// While the name is not durable: how much of the tail was synced.
    synced: usize,
}

impl UnsyncedInMemory {
    /// A disk with nothing unsynced.
    pub fn new() -> Self {
        Self::default()
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for UnsyncedInMemory {
    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        RealDisk.create_directory(directory)
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        RealDisk.lock(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut names = self.names.lock();
        let removed = names.removed.iter().any(|name| name == path);
        if names.files.contains_key(path) || (path.exists() && !removed) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(Unsynced::default());
        names.files.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, path: &Path, _access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut names = self.names.lock();
        if let Some(file) = names.files.get(path) {
            let file: Arc<Unsynced> = Arc::clone(file);
            return Ok(file);
        }
        if names.removed.iter().any(|name| name == path) {
            return Err(missing());
        }
        let real = File::options().read(true).append(true).open(path)?;
        let kept = real.metadata()?.len();
        let file = Arc::new(Unsynced(Mutex::new(Content { real: Some(real), kept, tail: Vec::new(), synced: 0 })));
        names.files.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let names = self.names.lock();
        let mut found = RealDisk.list(directory)?;
        found.retain(|name| !names.removed.contains(&directory.join(name)));
        for path in names.files.keys().filter(|path| path.parent() == Some(directory)) {
            if let Some(name) = path.file_name().and_then(|name| name.to_str())
                && !found.iter().any(|known| known == name)
            {
                found.push(name.to_owned());
            }
        }
        Ok(found)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut names = self.names.lock();
        let known = names.files.remove(path);
        let on_disk = path.exists() && !names.removed.iter().any(|name| name == path);
        if on_disk {
            names.removed.push(path.to_owned());
        } else if known.is_none() {
            return Err(missing());
        }
        Ok(())
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let mut names = self.names.lock();
        let inside = |path: &Path| path.parent() == Some(directory);
        for path in names.removed.iter().filter(|path| inside(path)) {
            RealDisk.remove(path)?;
        }
        names.removed.retain(|path| !inside(path));
        for (path, file) in names.files.iter().filter(|(path, _)| inside(path)) {
            file.0.lock().name(path)?;
        }
        RealDisk.sync_directory(directory)
    }
}

impl Content {
    fn length(&self) -> u64 {
        self.kept + self.tail.len() as u64
    }

    /// Gives the file its name on the real disk, with what was synced of it.
    fn name(&mut self, path: &Path) -> io::Result<()> {
        if self.real.is_some() {
            return Ok(());
        }
        let mut real = File::options().read(true).append(true).create_new(true).open(path)?;
        let rest = self.tail.split_off(self.synced.min(self.tail.len()));
        real.write_all(&self.tail)?;
        real.sync_all()?;
        self.kept = self.tail.len() as u64;
        self.tail = rest;
        self.synced = 0;
        self.real = Some(real);
        Ok(())
    }
}

impl DiskFile for Unsynced {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.lock().length())
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().tail.extend_from_slice(bytes);
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut content = self.0.lock();
        if length > content.length() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let rest = length.saturating_sub(content.kept);
        content.kept = content.kept.min(length);
        content.tail.truncate(usize::try_from(rest).unwrap_or(usize::MAX));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut guard = self.0.lock();
        let content = &mut *guard;
        match &mut content.real {
            Some(real) => {
                if real.metadata()?.len() > content.kept {
                    real.set_len(content.kept)?;
                }
                real.write_all(&content.tail)?;
                real.sync_data()?;
                content.kept += content.tail.len() as u64;
                content.tail.clear();
            }
            None => content.synced = content.tail.len(),
        }
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.0.lock();
        if let Some(real) = &content.real
            && offset < content.kept
        {
            let most = usize::try_from(content.kept - offset).unwrap_or(usize::MAX).min(buffer.len());
            return real.read_at(buffer.get_mut(..most).unwrap_or_default(), offset);
        }
        let from = usize::try_from(offset - content.kept.min(offset)).unwrap_or(usize::MAX);
        let rest = content.tail.get(from..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(target), Some(source)) = (buffer.get_mut(..count), rest.get(..count)) {
            target.copy_from_slice(source);
        }
        Ok(count)
    }
}
