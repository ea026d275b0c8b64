//! What must hold of files that stand for many batches: records of merges are chained and true, a merged file holds the rows of its batches
//! and no other, and the catalog shows each row once, whether in a batch's own file or in a merged one.
//! That a merged file reproduces the row digest of each batch is checked where batches are walked: they are read from it.

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use platform_ingest::header::{Header, TableFile};
use platform_ingest::merge::Merge;
use platform_ingest::store::{self, LogError};
use shared_lake::{RealFiles, RowDigest, ducklake};
use shared_types::{BatchNo, Digest};

use super::folds::catalogued_holds;
use super::{Gathered, Report, Snapshots};
use crate::lake::{EVENTS, TABLES, shape};
use crate::read_models::Readers;

/// The records of the merges are dense, chained and name the batches that there are; the files of those in use hold what they say.
pub(super) async fn merges_hold(readers: &Readers, gathered: &Gathered, report: &mut Report) -> anyhow::Result<()> {
    let digests: BTreeMap<BatchNo, Digest> = gathered.headers.iter().map(|(header, digest)| (header.batch_no, *digest)).collect();
    let (mut after, mut previous) = (0, Some(Digest::ZERO));
    let mut tx = readers.log.read().await?;
    loop {
        // One at a time: a record that does not read hides no other.
        let (merge, digest) = match store::merges_after(&mut tx, after, 1).await.map(|mut found| found.pop()) {
            Ok(Some(found)) => found,
            Ok(None) => break,
            Err(LogError::Merge { merge_no, .. }) => {
                report.add("merge-record", format!("merge {merge_no}"), "the stored record is not the one that its digest names");
                (after, previous) = (merge_no, None);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let subject = format!("merge {}", merge.merge_no);
        if merge.merge_no != after + 1 || previous.is_some_and(|previous| previous != merge.previous) {
            report.add("merge-record", &subject, format!("does not follow merge {after}"));
        }
        // A batch that does not read was named where it was read.
        if digests.get(&merge.last).is_some_and(|digest| *digest != merge.last_digest) {
            report.add("merge-record", &subject, format!("names another digest for batch {}", merge.last));
        }
        (after, previous) = (merge.merge_no, Some(digest));
    }
    for merge in readers.lake.merges().into_iter().filter(|merge| merge.last <= gathered.end) {
        for table in TABLES {
            let Some(file) = merge.table(table) else {
                report.add("merge-record", format!("merge {}", merge.merge_no), format!("names no {table}"));
                continue;
            };
            let held = gathered.headers.iter().filter(|(header, _)| merge.holds(header.batch_no));
            let wanted: u64 = held.filter_map(|(header, _)| header.table(table)).map(|file| file.rows).sum();
            if wanted != file.rows && report.unread.is_empty() {
                report.add("merge-file", &file.path, format!("is recorded with {} rows, its batches have {wanted}", file.rows));
            }
            // Nobody opens a file without rows, and it is removed before the others.
            if file.rows == 0 {
                continue;
            }
            let rows = match readers.lake.read_merged(&merge, table, None) {
                Ok(rows) => rows,
                Err(error) => {
                    if is_live(readers, &merge).await? {
                        report.add("merge-file", &file.path, format!("{error:#}"));
                    }
                    continue;
                }
            };
            let mut digest = RowDigest::new(shape(table).order);
            let found = digest.add(rows.rows()).and_then(|()| digest.finish());
            match found {
                Ok(found) if found == file.row_digest && u64::try_from(rows.rows().num_rows()) == Ok(file.rows) => {}
                Ok(found) => report.add(
                    "merge-file",
                    &file.path,
                    format!(
                        "has {} rows with digest {found}; {} rows with digest {} were recorded",
                        rows.rows().num_rows(),
                        file.rows,
                        file.row_digest
                    ),
                ),
                Err(error) => report.add("merge-file", &file.path, format!("{error:#}")),
            }
        }
    }
    Ok(())
}

/// Whether a merge still says where rows are. What is found wrong with another one is none of a reader's concern: an owner at work merged it
/// into a larger one meanwhile.
async fn is_live(readers: &Readers, merge: &Merge) -> anyhow::Result<bool> {
    readers.lake.refresh(&mut readers.log.read().await?).await?;
    Ok(readers.lake.merge_of(merge.first).is_some_and(|live| live.merge_no == merge.merge_no))
}

/// What the log says of a file.
struct Named {
    file: TableFile,
    first: BatchNo,
    last: BatchNo,
}

/// The catalog shows the rows of every batch that it folded exactly once, in files as they are; headers and merges are published beside them.
pub(super) async fn lake_equals(
    readers: &Readers,
    snapshots: &mut Snapshots,
    gathered: &Gathered,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (tx, through) = (&mut snapshots.catalog, snapshots.lake);
    let mut shown: BTreeMap<String, (&str, ducklake::LakeFile)> = BTreeMap::new();
    for table in TABLES {
        match ducklake::files(tx, table, None).await {
            Ok(files) => {
                for file in files {
                    if let Some((other, file)) = shown.insert(file.path.clone(), (table, file)) {
                        report.add("lake", &file.path, format!("is in the catalog twice: in {other} and in {table}"));
                    }
                }
            }
            Err(error) => report.add("lake", table, format!("{:#}", anyhow::Error::from(error))),
        }
    }
    let named = named(readers, gathered).await?;
    published(readers, gathered, through, &shown, report).await?;
    let mut covered: BTreeMap<&str, Vec<(BatchNo, BatchNo, String)>> = BTreeMap::new();
    for (path, (table, found)) in shown {
        let Some(of) = named.get(&path) else {
            report.add("lake", path, "is in the catalog but no batch names it");
            continue;
        };
        if of.last > through {
            report.add("lake", &path, format!("is in the catalog, which has folded up to batch {through} only"));
        }
        catalogued_holds(readers, &of.file, table, found, report);
        if let Some(table) = TABLES.into_iter().find(|table| *table == of.file.table) {
            covered.entry(table).or_default().push((of.first, of.last, path));
        }
    }
    for table in TABLES {
        let mut files = covered.remove(table).unwrap_or_default();
        files.sort_unstable();
        for (before, after) in files.iter().zip(files.iter().skip(1)) {
            if after.0 <= before.1 {
                report.add("lake", &after.2, format!("is in the catalog beside {}: both hold batch {}", before.2, after.0));
            }
        }
        for (header, _) in gathered.headers.iter().filter(|(header, _)| header.batch_no <= through) {
            let Some(file) = header.table(table).filter(|file| file.rows > 0) else { continue };
            let at = files.partition_point(|(first, _, _)| *first <= header.batch_no);
            let held = files.get(..at).unwrap_or_default().iter().rev().any(|(_, last, _)| *last >= header.batch_no);
            if !held {
                report.add("lake", &file.path, format!("of batch {} is not in the catalog, and no file that holds it", header.batch_no));
            }
        }
    }
    Ok(())
}

/// Every file with rows that the log ever named.
async fn named(readers: &Readers, gathered: &Gathered) -> anyhow::Result<HashMap<String, Named>> {
    let mut named = HashMap::new();
    let mut add = |files: &[TableFile], first, last| {
        for file in files.iter().filter(|file| file.rows > 0) {
            named.insert(file.path.clone(), Named { file: file.clone(), first, last });
        }
    };
    for (header, _) in &gathered.headers {
        add(&header.tables, header.batch_no, header.batch_no);
    }
    let mut tx = readers.log.read().await?;
    let mut after = 0;
    loop {
        match store::merges_after(&mut tx, after, 1).await.map(|mut found| found.pop()) {
            Ok(Some((merge, _))) => {
                add(&merge.tables, merge.first, merge.last);
                after = merge.merge_no;
            }
            Ok(None) => return Ok(named),
            // Named where the records are checked.
            Err(LogError::Merge { merge_no, .. }) => after = merge_no,
            Err(error) => return Err(error.into()),
        }
    }
}

/// The header objects.
#[derive(Default)]
struct Headers {
    /// Each header with the object that holds it.
    found: BTreeMap<BatchNo, (PathBuf, String)>,
    /// What does not read, and why.
    damaged: Vec<(PathBuf, String)>,
}

/// The header objects of a folder. None when one was gone before it was read: an owner at work put it into the one of its hour.
fn headers_published(folder: &Path) -> anyhow::Result<Option<Headers>> {
    let mut headers = Headers::default();
    for name in shared_lake::objects(&RealFiles, folder)? {
        let path = folder.join(&name);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(_) => String::new(),
        };
        if let Some(batch_no) = name.strip_suffix(".json").and_then(|number| number.parse().ok()) {
            headers.found.insert(BatchNo(batch_no), (path, text));
        } else if name.ends_with(".jsonl") {
            for (number, line) in text.lines().enumerate() {
                match Header::parse(line) {
                    Ok(header) => {
                        headers.found.entry(header.batch_no).or_insert_with(|| (path.clone(), line.to_owned()));
                    }
                    Err(error) => headers.damaged.push((path.clone(), format!("line {} does not read: {error}", number + 1))),
                }
            }
        }
    }
    Ok(Some(headers))
}

/// Headers, alone or those of an hour in one object, and the records of the merges that the catalog shows.
async fn published(
    readers: &Readers,
    gathered: &Gathered,
    through: BatchNo,
    shown: &BTreeMap<String, (&str, ducklake::LakeFile)>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let folder = readers.lake.root().join("headers");
    let mut headers = loop {
        if let Some(headers) = headers_published(&folder)? {
            break headers;
        }
    };
    for (path, detail) in headers.damaged {
        report.add("lake-header", path.display(), detail);
    }
    for (header, _) in gathered.headers.iter().filter(|(header, _)| header.batch_no <= through) {
        let alone = folder.join(format!("{:020}.json", header.batch_no.0));
        match headers.found.remove(&header.batch_no) {
            Some((_, text)) if text == header.canonical()? => {}
            Some((path, _)) => {
                report.add(
                    "lake-header",
                    path.display(),
                    format!("is not the published header of its batch: that of batch {}", header.batch_no),
                );
            }
            None => {
                report.add("lake-header", alone.display(), format!("is missing: the header of batch {} is not published", header.batch_no))
            }
        }
    }
    for merge in readers.lake.merges() {
        if !merge.table(EVENTS).is_some_and(|file| shown.contains_key(&file.path)) {
            continue;
        }
        let path = readers.lake.root().join("merges").join(format!("{:020}-{:020}.json", merge.first.0, merge.last.0));
        if std::fs::read_to_string(&path).ok() != Some(merge.canonical()?) && is_live(readers, &merge).await? {
            report.add("lake-merge", path.display(), format!("is not the published record of merge {}", merge.merge_no));
        }
    }
    Ok(())
}
