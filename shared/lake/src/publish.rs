//! Gives bytes a name once: durable and whole when the call returns, never overwritten, never half there under the final name.
//! It knows no format.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::files::{EntryKind, Files};

/// What [`publish_object`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The name was free.
    Created,
    /// The name held exactly these bytes before.
    Existed,
}

/// Why bytes could not be given a name.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The name holds other bytes. They were left as they are.
    #[error("{path} exists with other contents")]
    Differs {
        /// The taken name.
        path: PathBuf,
    },
    /// An empty name, one with a folder in it, or one that begins with a dot.
    #[error("{name:?} is not the name of an object")]
    Name {
        /// The refused name.
        name: String,
    },
    /// The file system refused, for example because it is full. Nothing is there under the final name, or all of it.
    #[error("could not write {path}")]
    Write {
        /// The final name.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
}

/// Temporary names begin with this, so that a listing can tell them from objects.
const TEMPORARY: &str = ".new-";

static ATTEMPTS: AtomicU64 = AtomicU64::new(0);

/// Writes `folder/name` once. When it returns, the contents and the name are durable.
///
/// - The bytes go to a temporary name in the same folder, are synced, and are then linked to the final name, which fails when that is taken.
/// - A name that holds the same bytes is accepted: the same work done twice after a crash.
/// - Errors: [`PublishError::Differs`] when it holds other bytes; a failed write leaves the final name free (a temporary name may stay; the sweep
///   knows them).
pub fn publish_object(files: &dyn Files, folder: &Path, name: &str, bytes: &[u8]) -> Result<Published, PublishError> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
        return Err(PublishError::Name { name: name.to_owned() });
    }
    let path = folder.join(name);
    let failed = |source| PublishError::Write { path: path.clone(), source };
    files.create_folder(folder).map_err(failed)?;
    let temporary = create_temporary(files, folder, name, bytes).map_err(failed)?;
    let linked = files.sync(&temporary).and_then(|()| files.link(&temporary, &path));
    let removed = files.remove(&temporary);
    match linked {
        Ok(()) => {
            removed.and_then(|()| files.sync_folder(folder)).map_err(failed)?;
            Ok(Published::Created)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if files.read(&path).map_err(failed)? != bytes {
                return Err(PublishError::Differs { path });
            }
            files.sync(&path).and_then(|()| files.sync_folder(folder)).map_err(failed)?;
            Ok(Published::Existed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// The names of the objects in a folder, sorted, without temporary ones; none when there is no such folder.
pub fn objects(files: &dyn Files, folder: &Path) -> io::Result<Vec<String>> {
    let entries = files.list(folder)?;
    Ok(entries
        .into_iter()
        .filter(|entry| matches!(entry.kind, EntryKind::File { .. }) && !entry.name.starts_with('.'))
        .map(|entry| entry.name)
        .collect())
}

/// True for names that only [`publish_object`] uses on its way.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

fn create_temporary(files: &dyn Files, folder: &Path, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    loop {
        let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
        let temporary = folder.join(format!("{TEMPORARY}{}-{attempt}-{name}", std::process::id()));
        match files.create(&temporary, bytes) {
            Ok(()) => return Ok(temporary),
            // Left by a process that had the same number and crashed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                // Best effort: what cannot be removed now is swept later.
                let _ = files.remove(&temporary);
                return Err(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::RealFiles;
    use crate::files::simulated::SimulatedFiles;

    const FOLDER: &str = "/lake/headers";

    #[test]
    fn an_object_is_written_once_and_never_overwritten() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("a/b");
        let files = RealFiles;
        assert_eq!(publish_object(&files, &folder, "1.json", b"one").unwrap(), Published::Created);
        assert_eq!(publish_object(&files, &folder, "1.json", b"one").unwrap(), Published::Existed);
        let refused = publish_object(&files, &folder, "1.json", b"two").unwrap_err();
        assert!(matches!(refused, PublishError::Differs { .. }), "{refused}");
        assert_eq!(files.read(&folder.join("1.json")).unwrap(), b"one");
        assert_eq!(objects(&files, &folder).unwrap(), ["1.json"]);
        assert_eq!(files.list(&folder).unwrap().len(), 1, "no temporary name stays");
        for name in ["", ".hidden", "a/b", "..", "a\0b"] {
            assert!(matches!(publish_object(&files, &folder, name, b""), Err(PublishError::Name { .. })), "{name:?}");
        }
    }

    /// Cuts the power at every operation and with many outcomes: the final name holds everything or is free, and once the call had returned it stays.
    #[test]
    fn a_power_cut_never_leaves_half_an_object_under_its_name() {
        let bytes: Vec<u8> = (0..200_u8).collect();
        let path = Path::new(FOLDER).join("1.json");
        let all = {
            let files = SimulatedFiles::new();
            publish_object(&files, Path::new(FOLDER), "1.json", &bytes).unwrap();
            files.operations()
        };
        let mut kept = 0;
        for operation in 0..=all {
            for seed in 0..64 {
                let files = SimulatedFiles::new();
                files.fail_from(operation);
                let outcome = publish_object(&files, Path::new(FOLDER), "1.json", &bytes);
                files.power_cut(seed);
                match files.read(&path) {
                    Ok(found) => {
                        assert_eq!(found, bytes, "cut at operation {operation}, seed {seed}");
                        kept += 1;
                    }
                    Err(_) => assert!(outcome.is_err(), "lost after it was durable: operation {operation}, seed {seed}"),
                }
                // The next life finishes the work.
                publish_object(&files, Path::new(FOLDER), "1.json", &bytes).unwrap();
                assert_eq!(files.read(&path).unwrap(), bytes);
            }
        }
        assert!(kept > 64, "{kept}");
    }

    #[test]
    fn a_full_disk_is_an_error_and_leaves_the_name_free() {
        let files = SimulatedFiles::new();
        for room in 0..100 {
            files.limit_space(Some(room));
            let refused = publish_object(&files, Path::new(FOLDER), "1.json", &[7; 100]).unwrap_err();
            let PublishError::Write { source, .. } = refused else { panic!("{refused}") };
            assert_eq!(source.kind(), io::ErrorKind::StorageFull);
            assert_eq!(files.list(Path::new(FOLDER)).unwrap(), []);
        }
        files.limit_space(None);
        publish_object(&files, Path::new(FOLDER), "1.json", &[7; 100]).unwrap();
    }
}
