//! The few file operations that the lake needs, behind a trait, so that tests can cut the power and fill the disk.
//! It knows no format: bytes and names only.

use std::fmt::Debug;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

pub mod simulated;

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The last part of the path. Names that are not UTF-8 are not ours and are never listed.
    pub name: String,
    /// A folder or a file with its length.
    pub kind: EntryKind,
}

/// What an [`Entry`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A folder.
    Folder,
    /// A file.
    File {
        /// Its length in bytes.
        bytes: u64,
    },
}

/// File operations. What is not synced may be lost, wholly or in part, when the power goes: contents by [`Files::sync`], names by
/// [`Files::sync_folder`].
pub trait Files: Debug + Send + Sync {
    /// Creates the folder and those above it, durably. One that exists is left as it is.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Creates a file of these bytes; `AlreadyExists` when the name is taken. A failed call may leave a part of the file behind.
    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Makes the contents of a file durable.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Gives a file a second name; `AlreadyExists` when that is taken.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes a file's name away.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// The contents of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The names in a folder, sorted; none when the folder does not exist.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;
}

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFiles;

impl Files for RealFiles {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let Some(parent) = path.parent() else { return Ok(()) };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        if !path.is_dir() {
            self.create_folder(parent)?;
            match fs::create_dir(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => return Err(error),
                _ => {}
            }
        }
        // Also when it exists: whoever created it may have died before this line. Those above it were synced before it was created.
        self.sync_folder(parent)
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::OpenOptions::new().write(true).create_new(true).open(path)?.write_all(bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let folder = match fs::read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            folder => folder?,
        };
        let mut entries = Vec::new();
        for entry in folder {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let about = entry.metadata()?;
            if about.is_dir() {
                entries.push(Entry { name, kind: EntryKind::Folder });
            } else if about.is_file() {
                entries.push(Entry { name, kind: EntryKind::File { bytes: about.len() } });
            }
        }
        entries.sort();
        Ok(entries)
    }
}
