//! Drafts of registry versions in the books of an owned home: each step is one transaction with its audit record. Publishing a draft is the
//! billing role's, as every publication is. It opens the transactions; the rules are `platform-registry`'s.

use std::collections::BTreeMap;

use anyhow::bail;
use platform_iam::{Action, Permit};
use platform_registry::{Draft, DraftNo, Verdict, Version, drafts};
use shared_db::{Database, Transaction};
use shared_types::{Digest, Instant};

use crate::clock::now;

/// Cheap handle on the books.
#[derive(Clone)]
pub struct Proposals {
    books: Database,
}

impl Proposals {
    /// Over the books of an owned home.
    pub fn new(books: Database) -> Self {
        Self { books }
    }

    /// Records a version as a draft.
    pub async fn propose(&self, permit: &Permit, version: &Version, note: Option<&str>) -> anyhow::Result<Draft> {
        covered(permit, Action::DraftPropose)?;
        let (mut tx, at) = (self.books.begin().await?, now());
        let draft = drafts::propose(&mut tx, version, permit.principal().name(), note, at).await?;
        let detail = [("version", draft.version.to_string()), ("money", draft.money.to_string())];
        record(&mut tx, permit, &draft.draft_no.to_string(), detail, at).await?;
        tx.commit().await?;
        Ok(draft)
    }

    /// Records what was said of a draft.
    pub async fn review(&self, permit: &Permit, draft_no: DraftNo, verdict: Verdict, reason: &str) -> anyhow::Result<Draft> {
        covered(permit, Action::DraftReview)?;
        let (mut tx, at) = (self.books.begin().await?, now());
        let draft = drafts::review(&mut tx, draft_no, verdict, permit.principal().name(), reason, at).await?;
        let detail = [("version", draft.version.to_string()), ("verdict", verdict.name().to_owned()), ("reason", reason.trim().to_owned())];
        record(&mut tx, permit, &draft_no.to_string(), detail, at).await?;
        tx.commit().await?;
        Ok(draft)
    }

    /// Records that a version is not put in force again.
    pub async fn retire(&self, permit: &Permit, address: Digest, reason: &str) -> anyhow::Result<()> {
        covered(permit, Action::RegistryRetire)?;
        let (mut tx, at) = (self.books.begin().await?, now());
        drafts::retire(&mut tx, address, permit.principal().name(), reason, at).await?;
        record(&mut tx, permit, &address.to_string(), [("reason", reason.trim().to_owned())], at).await?;
        tx.commit().await?;
        Ok(())
    }
}

fn covered(permit: &Permit, wanted: Action) -> anyhow::Result<()> {
    if !permit.covers(wanted, None) {
        bail!("a permit to {} does not cover {wanted}", permit.action());
    }
    Ok(())
}

async fn record(
    tx: &mut Transaction,
    permit: &Permit,
    target: &str,
    detail: impl IntoIterator<Item = (&'static str, String)>,
    at: Instant,
) -> anyhow::Result<()> {
    let detail: BTreeMap<String, String> = detail.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
    platform_audit::record(tx, &permit.record(None, target, detail, at)).await?;
    Ok(())
}
