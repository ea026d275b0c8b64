//! The few things the stream asks of a disk, behind a trait so that tests can drop, tear and fail them, and the real disk.
//! It knows no format. Nothing is durable before `sync`, and no new or removed name before `sync_directory`.

mod unsynced;

use std::any::Any;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

pub use unsynced::UnsyncedInMemory;

/// Held as long as a lock is; dropping it, or the end of the process, releases the lock.
pub type Lock = Box<dyn Any + Send + Sync>;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To be read only.
    Read,
    /// To be read, appended to and truncated.
    Write,
}

/// A disk, as far as the stream needs one.
pub trait Disk: Debug + Send + Sync {
    /// Creates a folder and its parents where they are missing; their names are durable when it answers.
    fn create_directory(&self, directory: &Path) -> io::Result<()>;

    /// Takes the lock file at a path for one owner; `WouldBlock` when somebody has it.
    fn lock(&self, path: &Path) -> io::Result<Lock>;

    /// Creates a file that must not exist; its name is durable after `sync_directory`.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file that must exist.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>>;

    /// The names of the files of a folder, in no order.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// Removes a file, durably after `sync_directory`; those who have it open can go on reading it.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names created and removed in a folder durable.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Its length in bytes, unsynced ones included.
    fn length(&self) -> io::Result<u64>;

    /// Writes all bytes at the end. After an error any prefix of them may have been written.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;

    /// Cuts it to a length that it has; durable after `sync`.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// Makes everything written so far durable.
    fn sync(&self) -> io::Result<()>;

    /// Reads bytes at an offset; how many is as in `pread`: 0 only at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// Fills as much of the buffer as the file has at an offset, and says how much that was.
pub(crate) fn read_full_at(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest @ [_, ..]) = buffer.get_mut(filled..) {
        match file.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The disk of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = directory.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.is_dir()).collect();
        fs::create_dir_all(directory)?;
        for created in missing {
            match created.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => self.sync_directory(parent)?,
                _ => self.sync_directory(Path::new("."))?,
            }
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(OpenOptions::new().read(true).append(true).create_new(true).open(path)?)))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(OpenOptions::new().read(true).append(access == Access::Write).open(path)?)))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string());
            }
        }
        Ok(names)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }
}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.0).write_all(bytes)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
}
