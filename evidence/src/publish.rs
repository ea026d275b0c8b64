//! The tiled log as files: c2sp.org/tlog-tiles (`checkpoint`, `tile/<level>/<n>[.p/<w>]`, `tile/entries/<n>[.p/<w>]`).
//! The database is the truth. Files are written after the commit, each once and atomically, the checkpoint last; a crash in between
//! leaves an older checkpoint, and the next call continues there. Delete `checkpoint` and everything is written again.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use shared_db::Transaction;
use tlog_tiles::Tile;

use crate::checkpoint::{LogKey, NoteError};
use crate::store::{self, StoreError};

/// Height of a tile: 256 hashes.
const HEIGHT: u8 = 8;

/// What a call wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// How many entries the published tree has.
    pub size: u64,
    /// How many files were written, the checkpoint included.
    pub files: u64,
}

/// Why files were not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The tables cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file cannot be read or written.
    #[error("could not write {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The published checkpoint is not one of ours.
    #[error("the published checkpoint {path} does not verify")]
    Note {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: NoteError,
    },
    /// The folder holds a longer or another history than the database: a fork, or a database restored from an old copy.
    #[error("{path} was published for {published} entries that the database, with {stored}, does not continue")]
    Fork {
        /// The published checkpoint.
        path: PathBuf,
        /// Size of the published tree.
        published: u64,
        /// Size of the tree in the database.
        stored: u64,
    },
    /// A published file would change.
    #[error("{path} is published with other content")]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// An entry is too long for an entry bundle.
    #[error("entry {index} has {bytes} bytes, more than a bundle holds")]
    EntryTooLong {
        /// Its index.
        index: u64,
        /// Its length.
        bytes: usize,
    },
}

/// Brings the files in `folder` (which must exist) up to the latest checkpoint.
///
/// - Nothing is written before the first checkpoint, nor when the folder is up to date.
/// - Partial tiles and bundles are removed once their full ones are published.
pub async fn publish(tx: &mut Transaction, folder: &Path, key: &LogKey) -> Result<Published, PublishError> {
    let Some(latest) = store::last_checkpoint(tx).await? else { return Ok(Published { size: 0, files: 0 }) };
    let path = folder.join("checkpoint");
    let published = published_size(tx, &path, latest.tree_size, key).await?;
    let mut files = Files { folder, written: 0 };
    if published == latest.tree_size {
        return Ok(Published { size: published, files: 0 });
    }
    let tiles = Tile::new_tiles(HEIGHT, published, latest.tree_size);
    for tile in &tiles {
        let (first, width) = (tile.level_index() << HEIGHT, u64::from(tile.width()));
        let hashes = store::nodes(tx, u32::from(tile.level()) * u32::from(HEIGHT), first, width).await?;
        files.write_once(&tile_path(tile, &tile.level().to_string()), &hashes.iter().flat_map(|hash| hash.0).collect::<Vec<_>>())?;
        if tile.level() == 0 {
            let bundle = entry_bundle(tx, first, tile.width()).await?;
            files.write_once(&tile_path(tile, "entries"), &bundle)?;
        }
    }
    files.write(&path, latest.note.as_bytes())?;
    for tile in tiles.iter().filter(|tile| tile.width() == 1 << HEIGHT) {
        files.remove_partials(&tile_path(tile, &tile.level().to_string()))?;
        if tile.level() == 0 {
            files.remove_partials(&tile_path(tile, "entries"))?;
        }
    }
    Ok(Published { size: latest.tree_size, files: files.written })
}

/// Size of the published tree after checking that the database continues it; 0 where nothing is published.
async fn published_size(tx: &mut Transaction, path: &Path, stored: u64, key: &LogKey) -> Result<u64, PublishError> {
    let note = match fs::read_to_string(path) {
        Ok(note) => note,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(source) => return Err(PublishError::File { path: path.to_owned(), source }),
    };
    let head = key.open(&note).map_err(|source| PublishError::Note { path: path.to_owned(), source })?;
    let fork = || PublishError::Fork { path: path.to_owned(), published: head.size, stored };
    if head.size > stored {
        return Err(fork());
    }
    if store::tiled_frontier(tx, head.size).await?.root() != head.root {
        return Err(fork());
    }
    Ok(head.size)
}

/// Entries `first..first + width`, each after its length as two bytes, big end first.
async fn entry_bundle(tx: &mut Transaction, first: u64, width: u32) -> Result<Vec<u8>, PublishError> {
    let mut bundle = Vec::new();
    for row in store::checkpoints_after(tx, first, width).await? {
        let bytes = row.entry.as_bytes();
        let length = u16::try_from(bytes.len())
            .map_err(|_| PublishError::EntryTooLong { index: row.tree_size.saturating_sub(1), bytes: bytes.len() })?;
        bundle.extend(length.to_be_bytes());
        bundle.extend(bytes);
    }
    Ok(bundle)
}

/// `tile/<level>/<n>[.p/<w>]`, n in groups of three digits, all but the last after an `x`.
fn tile_path(tile: &Tile, level: &str) -> String {
    let mut number = tile.level_index();
    let mut path = format!("{:03}", number % 1_000);
    while number >= 1_000 {
        number /= 1_000;
        path = format!("x{:03}/{path}", number % 1_000);
    }
    let partial = if tile.width() == 1 << HEIGHT { String::new() } else { format!(".p/{}", tile.width()) };
    format!("tile/{level}/{path}{partial}")
}

struct Files<'a> {
    folder: &'a Path,
    written: u64,
}

impl Files<'_> {
    /// Writes a file that never changes; the same content again is fine.
    fn write_once(&mut self, path: &str, content: &[u8]) -> Result<(), PublishError> {
        let path = self.folder.join(path);
        match fs::read(&path) {
            Ok(found) if found == content => Ok(()),
            Ok(_) => Err(PublishError::Changed { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.write(&path, content),
            Err(source) => Err(PublishError::File { path, source }),
        }
    }

    /// Writes a file so that it is either the old or the new one, and durable.
    fn write(&mut self, path: &Path, content: &[u8]) -> Result<(), PublishError> {
        let written = || -> io::Result<()> {
            let folder = path.parent().unwrap_or(self.folder);
            create_folders(self.folder, folder)?;
            let mut name = path.as_os_str().to_owned();
            name.push(".tmp");
            let mut file = File::create(&name)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&name, path)?;
            File::open(folder)?.sync_all()
        };
        written().map_err(|source| PublishError::File { path: path.to_owned(), source })?;
        self.written += 1;
        Ok(())
    }

    /// Removes the partial versions of a full tile or bundle.
    fn remove_partials(&self, path: &str) -> Result<(), PublishError> {
        let path = self.folder.join(format!("{path}.p"));
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PublishError::File { path, source: error }),
            _ => Ok(()),
        }
    }
}

/// Creates the folders from `top` down to `folder`; each new name is durable.
fn create_folders(top: &Path, folder: &Path) -> io::Result<()> {
    if folder == top || folder.is_dir() {
        return Ok(());
    }
    let Some(parent) = folder.parent() else { return Ok(()) };
    create_folders(top, parent)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => File::open(parent)?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_tlog_tiles() {
        for (number, width, path) in [
            (0, 1, "tile/entries/000.p/1"),
            (5, 256, "tile/entries/005"),
            (999, 255, "tile/entries/999.p/255"),
            (1_234_067, 256, "tile/entries/x001/x234/067"),
            (1_000, 8, "tile/entries/x001/000.p/8"),
        ] {
            assert_eq!(tile_path(&Tile::new(HEIGHT, 0, number, width, true), "entries"), path);
        }
    }
}
