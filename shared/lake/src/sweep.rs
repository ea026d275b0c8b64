//! Finds data files that no published list names and removes them: the files of batches that were never committed.
//! It knows no list: the names to keep come in as an argument. Layout: `<folder>/<writer epoch>/<name>.parquet`.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use shared_types::WriterEpoch;

use crate::files::{EntryKind, Files};
use crate::publish::is_temporary;

/// A file that nothing names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Orphan {
    /// The path below the lake's folder, with `/`.
    pub path: String,
    /// Its length.
    pub bytes: u64,
}

/// A folder could not be listed, or a file not removed.
#[derive(Debug, thiserror::Error)]
#[error("could not sweep {}", path.display())]
pub struct SweepError {
    /// The folder or file.
    pub path: PathBuf,
    /// What the file system said.
    #[source]
    pub source: io::Error,
}

/// The data files and left-over temporary files of writers older than `below` in the named folders of the lake that are not in `published`
/// (paths below the lake's folder, as in a file's `FileMeta::path`). Sorted by path.
///
/// - Only epochs below `below` are looked at: their writers are fenced and can commit nothing any more. Call it with the own epoch.
/// - Files and folders of other forms are not ours and are left out.
pub fn orphans(
    files: &dyn Files,
    lake: &Path,
    folders: &[&str],
    published: &HashSet<String>,
    below: WriterEpoch,
) -> Result<Vec<Orphan>, SweepError> {
    let list = |path: &Path| files.list(path).map_err(|source| SweepError { path: path.to_owned(), source });
    let mut found = Vec::new();
    for folder in folders {
        for epoch in list(&lake.join(folder))? {
            let number: Option<u64> = epoch.name.parse().ok();
            if epoch.kind != EntryKind::Folder || !number.is_some_and(|number| number < below.0 && number.to_string() == epoch.name) {
                continue;
            }
            for entry in list(&lake.join(folder).join(&epoch.name))? {
                let EntryKind::File { bytes } = entry.kind else { continue };
                let path = format!("{folder}/{}/{}", epoch.name, entry.name);
                let data = entry.name.ends_with(".parquet") && !entry.name.starts_with('.');
                if is_temporary(&entry.name) || (data && !published.contains(&path)) {
                    found.push(Orphan { path, bytes });
                }
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Removes orphans, durably. One that is gone already is no error.
pub fn remove(files: &dyn Files, lake: &Path, orphans: &[Orphan]) -> Result<(), SweepError> {
    let mut folders = BTreeSet::new();
    for orphan in orphans {
        let path = lake.join(&orphan.path);
        match files.remove(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(SweepError { path, source }),
            _ => {}
        }
        folders.extend(path.parent().map(Path::to_owned));
    }
    for path in folders {
        files.sync_folder(&path).map_err(|source| SweepError { path, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::simulated::SimulatedFiles;

    #[test]
    fn only_unnamed_files_of_fenced_writers_are_swept() {
        let files = SimulatedFiles::new();
        let lake = Path::new("/lake");
        for path in [
            "a/1/kept.parquet",
            "a/1/lost.parquet",
            "a/1/.new-9-0-lost.parquet",
            "a/1/notes.txt",
            "a/2/lost.parquet",
            "a/3/now.parquet",
            "a/01/odd.parquet",
            "a/x/odd.parquet",
            "b/1/lost.parquet",
            "headers/1/other.parquet",
        ] {
            let path = lake.join(path);
            files.create_folder(path.parent().unwrap()).unwrap();
            files.create(&path, b"rows").unwrap();
        }
        let published = HashSet::from(["a/1/kept.parquet".to_owned()]);
        let look = || orphans(&files, lake, &["a", "b", "missing"], &published, WriterEpoch(3)).unwrap();
        let found = look();
        let paths: Vec<&str> = found.iter().map(|orphan| orphan.path.as_str()).collect();
        assert_eq!(paths, ["a/1/.new-9-0-lost.parquet", "a/1/lost.parquet", "a/2/lost.parquet", "b/1/lost.parquet"]);
        assert!(found.iter().all(|orphan| orphan.bytes == 4));
        remove(&files, lake, &found).unwrap();
        remove(&files, lake, &found).unwrap();
        assert_eq!(look(), []);
        assert!(files.read(&lake.join("a/1/kept.parquet")).is_ok());
        assert!(files.read(&lake.join("a/3/now.parquet")).is_ok());
    }
}
