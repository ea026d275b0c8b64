//! Staleness and forks: the bundle's checkpoint beside one that someone kept.

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::finding::{Findings, Stage};
use crate::note::{Head, Key};
use crate::tree::{self, Hash};

/// Staleness and forks, against a checkpoint that someone kept.
pub(super) fn against_kept(kept: &str, key: &Key, head: &Head, log: Option<&Path>, findings: &mut Findings) -> anyhow::Result<()> {
    let text = key.open(kept).context("the kept checkpoint is not signed by the log's key")?;
    let kept = Head::parse(text.trim_end_matches('\n')).context("the kept checkpoint")?;
    let (stage, file) = (Stage::Signatures, "log/checkpoint");
    if head.size < kept.size {
        findings.add(stage, file, "", "size", format!("{} or more, as the kept checkpoint has", kept.size), head.size);
        return Ok(());
    }
    if head.size == kept.size {
        findings.compare(stage, file, "", "root", &hex::encode(kept.root), &hex::encode(head.root));
        return Ok(());
    }
    let Some(log) = log else {
        bail!(
            "the kept checkpoint has {} entries, the bundle's {}: give the log's files with --log to see whether one continues the other",
            kept.size,
            head.size
        );
    };
    let hashes = entry_hashes(log, head.size)?;
    for (what, size, root) in [("root of the kept checkpoint", kept.size, kept.root), ("root", head.size, head.root)] {
        let first = usize::try_from(size).context("the log is too large")?;
        let found = tree::root(hashes.get(..first).unwrap_or_default());
        findings.compare(stage, file, "", &format!("{what}, by the log's files"), &hex::encode(found), &hex::encode(root));
    }
    Ok(())
}

/// Hashes of the first entries, from the bundles of entries of a tiled log (c2sp.org/tlog-tiles).
fn entry_hashes(log: &Path, size: u64) -> anyhow::Result<Vec<Hash>> {
    let mut hashes = Vec::new();
    let mut number = 0_u64;
    while number * 256 < size {
        let width = (size - number * 256).min(256);
        let mut name = format!("{:03}", number % 1_000);
        let mut rest = number / 1_000;
        while rest > 0 {
            name = format!("x{:03}/{name}", rest % 1_000);
            rest /= 1_000;
        }
        let full = log.join(format!("tile/entries/{name}"));
        // A newer, fuller bundle holds the same entries in front.
        let folder = log.join(format!("tile/entries/{name}.p"));
        let partial =
            std::fs::read_dir(&folder).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok());
        let path =
            if full.is_file() { full } else { folder.join(partial.filter(|found| *found >= width).max().unwrap_or(width).to_string()) };
        let bytes = std::fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
        let mut rest = bytes.as_slice();
        for _ in 0..width {
            let entry =
                rest.split_first_chunk::<2>().and_then(|(length, after)| after.split_at_checked(u16::from_be_bytes(*length).into()));
            let (entry, after) = entry.with_context(|| format!("{} holds fewer than {width} entries", path.display()))?;
            hashes.push(tree::leaf(entry));
            rest = after;
        }
        number += 1;
    }
    Ok(hashes)
}
