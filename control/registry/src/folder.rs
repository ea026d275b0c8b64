//! A folder of TOML files on disk, within limits. It does not read what the files say.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::problem::Findings;
use crate::{Problems, Version};

/// Largest file, in bytes.
pub const FILE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most files in a folder.
pub const FILES_MAX: usize = 10_000;
/// Most bytes of all files together.
pub const FOLDER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Deepest nesting of folders.
const DEPTH_MAX: usize = 32;

/// One file of documents, wherever it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Its name in problems, for example `prices/tokens.toml`.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl Version {
    /// Reads and checks the `.toml` files of a folder and its subfolders.
    pub fn read(folder: &Path) -> Result<Self, Problems> {
        Self::check(&read_folder(folder)?)
    }
}

/// The `.toml` files of a folder and its subfolders, by name relative to it with `/` between folders.
///
/// - Names that begin with a dot and other extensions are passed over. A link to a file is followed; one to a folder is refused.
/// - Errors: what cannot be read, is not UTF-8 or is beyond the limits; a folder without any `.toml` file.
pub fn read_folder(folder: &Path) -> Result<Vec<SourceFile>, Problems> {
    let mut findings = Findings::new(Vec::new());
    let mut paths = Vec::new();
    collect(folder, "", 0, &mut paths, &mut findings);
    paths.sort();
    if paths.len() > FILES_MAX {
        findings.add_whole(
            &folder.display().to_string(),
            format!("more than {FILES_MAX} .toml files"),
            "put more documents into each file: a file holds any number of them",
        );
        paths.clear();
    } else if paths.is_empty() && findings.len() == 0 {
        findings.add_whole(
            &folder.display().to_string(),
            "the folder holds no .toml file",
            "name the folder that holds the registry documents",
        );
    }
    let mut files = Vec::with_capacity(paths.len());
    let mut bytes = 0_usize;
    for (name, path) in paths {
        match read_file(&path) {
            Ok(text) => {
                bytes = bytes.saturating_add(text.len());
                files.push(SourceFile { name, text });
            }
            Err(Unreadable::TooLarge) => findings.add_whole(&name, too_large(), SPLIT),
            Err(Unreadable::NotUtf8) => findings.add_whole(&name, "the file is not UTF-8", "save it as UTF-8 text"),
            Err(Unreadable::Io(error)) => {
                findings.add_whole(&name, format!("the file cannot be read: {error}"), "check that it is a file and that you may read it");
            }
        }
        if bytes > FOLDER_BYTES_MAX {
            findings.add_whole(
                &folder.display().to_string(),
                format!("the files together are larger than {} MiB", FOLDER_BYTES_MAX / 1024 / 1024),
                "name a folder that holds registry documents only",
            );
            break;
        }
    }
    findings.into_result()?;
    Ok(files)
}

/// Remedy for a file over [`FILE_BYTES_MAX`].
pub(crate) const SPLIT: &str = "split it: documents may lie in any number of files";

/// Message for a file over [`FILE_BYTES_MAX`].
pub(crate) fn too_large() -> String {
    format!("the file is larger than {} MiB", FILE_BYTES_MAX / 1024 / 1024)
}

enum Unreadable {
    TooLarge,
    NotUtf8,
    Io(io::Error),
}

fn read_file(path: &Path) -> Result<String, Unreadable> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(Unreadable::Io)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(Unreadable::TooLarge);
    }
    String::from_utf8(bytes).map_err(|_| Unreadable::NotUtf8)
}

fn collect(folder: &Path, prefix: &str, depth: usize, paths: &mut Vec<(String, PathBuf)>, findings: &mut Findings) {
    let shown = if prefix.is_empty() { folder.display().to_string() } else { prefix.trim_end_matches('/').to_owned() };
    let entries = match fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(entries) => entries,
        Err(error) => {
            findings.add_whole(
                &shown,
                format!("the folder cannot be read: {error}"),
                "name an existing folder of registry documents that you may read",
            );
            return;
        }
    };
    for entry in entries {
        // No more than one beyond the limit: enough to say so.
        if paths.len() > FILES_MAX {
            return;
        }
        let path = entry.path();
        let file_name = entry.file_name();
        let Some(file_name) = file_name.to_str() else {
            findings.add_whole(&format!("{prefix}{}", file_name.display()), "the name is not UTF-8", "give it another name");
            continue;
        };
        if file_name.starts_with('.') {
            continue;
        }
        let name = format!("{prefix}{file_name}");
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() && is_link => {
                findings.add_whole(&name, "this is a link to a folder", "copy the folder here");
            }
            Ok(metadata) if metadata.is_dir() && depth >= DEPTH_MAX => {
                findings.add_whole(&name, format!("folders are nested more than {DEPTH_MAX} deep"), "move the files up");
            }
            Ok(metadata) if metadata.is_dir() => collect(&path, &format!("{name}/"), depth + 1, paths, findings),
            Ok(_) | Err(_) if is_toml(&path) => paths.push((name, path)),
            Ok(_) | Err(_) => {}
        }
    }
}

fn is_toml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"))
}
