//! The lake fold: files of batches, and of merges in their place, enter the DuckLake catalog; headers and merges become objects beside them. It
//! writes no data file.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use platform_ingest::events::events_schema;
use platform_ingest::header::{Header, TableFile};
use platform_ingest::merge::{Level, Merge};
use platform_ingest::store;
use platform_rating::{charges_schema, totals_schema};
use shared_db::Database;
use shared_lake::ducklake::replace::{self, Replacement, TableReplacement};
use shared_lake::ducklake::{self, LakeCommit, TableSpec};
use shared_lake::{Orphan, RealFiles};
use shared_types::{BatchNo, Digest, Instant};

use super::{Fold, accepted_to, bounds, cursor_of, headers, page};
use crate::clock::now;
use crate::lake::{CHARGES, EVENTS, Lake, TABLES, TOTALS};

/// Batch files → DuckLake catalog, and each header as an object beside the files.
///
/// What is merged enters the catalog as it was merged: a catalog that is made anew shows the files that there are, not those that there were.
#[derive(Clone)]
pub struct LakeFold {
    log: Database,
    catalog: Database,
    lake: Lake,
    /// Whether headers and merges become objects beside the files.
    publishes: bool,
}

impl LakeFold {
    /// Into a catalog, whose tables are created if they are missing.
    pub async fn open(log: Database, catalog: Database, lake: Lake) -> anyhow::Result<Self> {
        let mut tx = catalog.begin().await?;
        let tables = [
            TableSpec { name: EVENTS.to_owned(), schema: events_schema() },
            TableSpec { name: CHARGES.to_owned(), schema: charges_schema() },
            TableSpec { name: TOTALS.to_owned(), schema: totals_schema() },
        ];
        ducklake::create_tables(&mut tx, &lake.root().canonicalize()?, &tables, Instant::EPOCH).await?;
        tx.commit().await?;
        Ok(Self { log, catalog, lake, publishes: true })
    }

    /// The same into the catalog alone: for whoever compares, beside an owner to whom the objects belong.
    pub fn catalog_only(self) -> Self {
        Self { publishes: false, ..self }
    }

    /// Folds exactly these batches as one snapshot.
    pub async fn fold(&self, headers: &[(Header, Digest)]) -> anyhow::Result<()> {
        let (first, last) = bounds(headers)?;
        let mut files = Vec::new();
        for (header, _) in headers {
            self.publish_header(header)?;
            for table in TABLES {
                let file = header.table(table).with_context(|| format!("batch {} names no {table}", header.batch_no))?;
                if file.rows > 0 {
                    let meta = shared_lake::describe_file(&RealFiles, self.lake.root(), &file.path)?;
                    files.push((table.to_owned(), meta));
                }
            }
        }
        let commit = LakeCommit {
            author: "tallystick".to_owned(),
            message: format!("batches {first} to {last}"),
            extra_info: headers.last().map(|(_, digest)| digest.to_string()),
            at: accepted_to(headers),
            files,
        };
        let mut tx = self.catalog.begin().await?;
        ducklake::append(&mut tx, &commit).await?;
        shared_db::advance(&mut tx, self.name(), BatchNo(first.0.saturating_sub(1)), last).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Publishes every recorded merge that the catalog does not show yet: what a process left that died in between.
    pub async fn catch_up(&self) -> anyhow::Result<()> {
        let mut tx = self.catalog.read().await?;
        let cursor = shared_db::cursor(&mut tx, self.name()).await?;
        // Every batch has events, so every merge has a file of them.
        let mut merges: Vec<Arc<Merge>> = self.lake.merges().into_iter().filter(|merge| merge.first <= cursor).collect();
        let paths: Vec<String> = merges.iter().filter_map(|merge| Some(merge.table(EVENTS)?.path.clone())).collect();
        let shown = replace::shown(&mut tx, EVENTS, &paths).await?;
        drop(tx);
        merges.retain(|merge| merge.table(EVENTS).is_some_and(|file| shown.binary_search(&file.path).is_err()));
        for merge in &merges {
            self.merge(merge).await?;
        }
        Ok(())
    }

    /// Publishes a recorded merge: one snapshot ends the files of its batches and adds the merged ones. Batches that were not folded yet
    /// are folded with it.
    pub async fn merge(&self, merge: &Merge) -> anyhow::Result<()> {
        let mut log = self.log.read().await?;
        let within = store::merges_within(&mut log, merge.first, merge.last).await?;
        drop(log);
        let mut replaced: HashSet<String> = HashSet::new();
        for other in within.iter().filter(|other| other.merge_no != merge.merge_no) {
            replaced.extend(other.tables.iter().map(|file| file.path.clone()));
        }
        let mut unfolded: Vec<(BatchNo, Vec<TableFile>)> = Vec::new();
        let folded = self.cursor().await?;
        let published = if folded < merge.last { self.published_headers()? } else { Vec::new() };
        let mut after = BatchNo(merge.first.0.saturating_sub(1));
        while after < merge.last {
            let headers = page(&self.log, after, merge.last, 1_000).await?;
            after = headers.last().map(|(header, _)| header.batch_no).context("a merge of batches that the log does not hold")?;
            for (header, _) in headers {
                replaced.extend(header.tables.iter().map(|file| file.path.clone()));
                if header.batch_no > folded && !published.iter().any(|(first, last)| (*first..=*last).contains(&header.batch_no)) {
                    self.publish_header(&header)?;
                }
                unfolded.push((header.batch_no, header.tables));
            }
        }
        self.publish_merge(merge, &within)?;
        let mut added = BTreeMap::new();
        for file in &merge.tables {
            added.insert(file.table.clone(), shared_lake::describe_file(&RealFiles, self.lake.root(), &file.path)?);
        }
        let mut tx = self.catalog.begin().await?;
        let cursor = shared_db::cursor(&mut tx, self.name()).await?;
        unfolded.retain(|(batch_no, _)| *batch_no > cursor);
        let mut tables = Vec::new();
        for (table, added) in added {
            let asked: Vec<String> = replaced.iter().chain([&added.path]).cloned().collect();
            let ended = replace::shown(&mut tx, &table, &asked).await?;
            if ended.contains(&added.path) {
                return Ok(());
            }
            let gained = unfolded.iter().flat_map(|(_, files)| files).filter(|file| file.table == table).map(|file| file.rows).sum();
            tables.push(TableReplacement { table, ended, added, gained });
        }
        let replacement = Replacement {
            author: "tallystick".to_owned(),
            message: format!("merge {} of batches {} to {}", merge.merge_no, merge.first, merge.last),
            extra_info: Some(merge.last_digest.to_string()),
            at: now(),
            tables,
        };
        replace::replace(&mut tx, &replacement).await?;
        if cursor < merge.last {
            shared_db::advance(&mut tx, self.name(), cursor, merge.last).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    fn publish_header(&self, header: &Header) -> anyhow::Result<()> {
        if !self.publishes {
            return Ok(());
        }
        let name = format!("{:020}.json", header.batch_no.0);
        shared_lake::publish_object(&RealFiles, &self.lake.root().join("headers"), &name, header.canonical()?.as_bytes())?;
        Ok(())
    }

    /// First and last batch of each object that holds the headers of many.
    fn published_headers(&self) -> anyhow::Result<Vec<(BatchNo, BatchNo)>> {
        let names = shared_lake::objects(&RealFiles, &self.lake.root().join("headers"))?;
        let range = |name: &str| {
            let (first, last) = name.strip_suffix(".jsonl")?.split_once('-')?;
            Some((BatchNo(first.parse().ok()?), BatchNo(last.parse().ok()?)))
        };
        Ok(names.iter().filter_map(|name| range(name)).collect())
    }

    /// The record as an object beside the headers, in the place of those of the merges that it holds. The headers of an hour become one object.
    fn publish_merge(&self, merge: &Merge, within: &[Merge]) -> anyhow::Result<()> {
        if !self.publishes {
            return Ok(());
        }
        let name = |merge: &Merge| format!("{:020}-{:020}.json", merge.first.0, merge.last.0);
        let root = self.lake.root();
        let folder = root.join("merges");
        shared_lake::publish_object(&RealFiles, &folder, &name(merge), merge.canonical()?.as_bytes())?;
        let mut gone: Vec<Orphan> = Vec::new();
        for other in within.iter().filter(|other| other.merge_no != merge.merge_no) {
            gone.push(Orphan { path: format!("merges/{}", name(other)), bytes: 0 });
        }
        if merge.level > Level::Part {
            let single: Vec<(BatchNo, String)> = shared_lake::objects(&RealFiles, &root.join("headers"))?
                .into_iter()
                .filter_map(|name| Some((BatchNo(name.strip_suffix(".json")?.parse().ok()?), name)))
                .filter(|(batch_no, _)| merge.holds(*batch_no))
                .collect();
            let mut text = String::new();
            for (_, name) in &single {
                text.push_str(&std::fs::read_to_string(root.join("headers").join(name))?);
                text.push('\n');
            }
            if let (Some((first, _)), Some((last, _))) = (single.first(), single.last()) {
                let bundle = format!("{:020}-{:020}.jsonl", first.0, last.0);
                shared_lake::publish_object(&RealFiles, &root.join("headers"), &bundle, text.as_bytes())?;
            }
            gone.extend(single.into_iter().map(|(_, name)| Orphan { path: format!("headers/{name}"), bytes: 0 }));
        }
        shared_lake::sweep::remove(&RealFiles, root, &gone)?;
        Ok(())
    }
}

#[async_trait]
impl Fold for LakeFold {
    fn name(&self) -> &'static str {
        "lake"
    }

    async fn cursor(&self) -> anyhow::Result<BatchNo> {
        cursor_of(&self.catalog, self.name()).await
    }

    async fn cut(&mut self, end: BatchNo) -> anyhow::Result<BatchNo> {
        let cursor = self.cursor().await?;
        if let Some(merge) = cursor.next().and_then(|next| self.lake.merge_of(next)) {
            self.merge(&merge).await?;
            return Ok(merge.last);
        }
        let merged_from = self.lake.merges().into_iter().map(|merge| merge.first).find(|first| *first > cursor);
        let end = merged_from.map_or(end, |first| end.min(BatchNo(first.0.saturating_sub(1))));
        let headers = headers(&self.log, cursor, end).await?;
        self.fold(&headers).await?;
        Ok(bounds(&headers)?.1)
    }
}
