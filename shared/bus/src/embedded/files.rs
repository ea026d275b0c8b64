//! The segment files of a stream: their names, reading them through a window, and a bounded number of them open. It knows no frame.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::BusError;
use crate::disk::{Access, Disk, DiskFile, read_full_at};

const SUFFIX: &str = ".segment";
/// How many segment files may be open for reading.
const OPEN: usize = 64;

/// The file of a segment.
pub fn path_of(directory: &Path, segment: u64) -> PathBuf {
    directory.join(format!("{segment:020}{SUFFIX}"))
}

/// The segments of a folder, ascending. Other names are ignored.
pub fn segments_of(disk: &dyn Disk, directory: &Path) -> Result<Vec<u64>, BusError> {
    let names = disk.list(directory).map_err(failed("list", directory))?;
    let number = |name: &String| name.strip_suffix(SUFFIX).filter(|digits| digits.len() == 20)?.parse().ok();
    let mut segments: Vec<u64> = names.iter().filter_map(number).collect();
    segments.sort_unstable();
    Ok(segments)
}

/// Turns an I/O error into one that says what was attempted with which file.
pub fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BusError {
    move |source| BusError::Io { action, path: path.to_owned(), source: Arc::new(source) }
}

/// The segments that are open for reading: the last used ones.
#[derive(Debug)]
pub struct Files {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    open: Mutex<VecDeque<(u64, Arc<dyn DiskFile>)>>,
}

impl Files {
    pub fn new(disk: Arc<dyn Disk>, directory: PathBuf) -> Self {
        Self { disk, directory, open: Mutex::new(VecDeque::new()) }
    }

    pub fn path_of(&self, segment: u64) -> PathBuf {
        path_of(&self.directory, segment)
    }

    /// The file of a segment, opened if it is not.
    pub fn segment(&self, segment: u64) -> Result<Arc<dyn DiskFile>, BusError> {
        let mut open = self.open.lock();
        let found = open.iter().position(|(number, _)| *number == segment).and_then(|at| open.remove(at));
        let (_, file) = match found {
            Some(entry) => entry,
            None => {
                let path = self.path_of(segment);
                (segment, self.disk.open(&path, Access::Read).map_err(failed("open", &path))?)
            }
        };
        open.push_back((segment, Arc::clone(&file)));
        if open.len() > OPEN {
            open.pop_front();
        }
        Ok(file)
    }

    /// Closes the segments before the oldest kept one.
    pub fn forget_before(&self, oldest: u64) {
        self.open.lock().retain(|(segment, _)| *segment >= oldest);
    }
}

/// A part of a file in memory that moves forward.
#[derive(Debug)]
pub struct Window {
    file: Arc<dyn DiskFile>,
    limit: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// A window on the first `limit` bytes of a file.
    pub fn new(file: Arc<dyn DiskFile>, limit: u64) -> Self {
        Self { file, limit, start: 0, bytes: Vec::new() }
    }

    fn inside(&self, offset: u64, wanted: usize) -> Option<usize> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        (from.checked_add(wanted)? <= self.bytes.len()).then_some(from)
    }

    /// Whether so many bytes at an offset are in memory.
    pub fn holds(&self, offset: u64, wanted: usize) -> bool {
        self.inside(offset, wanted).is_some()
    }

    /// The bytes from an offset: at least `wanted`, fewer only where the file or its limit ends. When they are not in memory, at least
    /// `ahead` bytes are read.
    pub fn at(&mut self, offset: u64, wanted: usize, ahead: usize) -> io::Result<&[u8]> {
        let from = match self.inside(offset, wanted) {
            Some(from) => from,
            None => {
                let rest = usize::try_from(self.limit.saturating_sub(offset)).unwrap_or(usize::MAX);
                self.bytes.resize(wanted.max(ahead).min(rest), 0);
                let filled = read_full_at(self.file.as_ref(), &mut self.bytes, offset)?;
                self.bytes.truncate(filled);
                self.start = offset;
                0
            }
        };
        Ok(self.bytes.get(from..).unwrap_or_default())
    }
}
