//! `tally registry publish|propose|drafts|review|retire`: how a version comes into force. Beside a server they ask it, without one they write
//! the books themselves.

use std::path::Path;

use anyhow::Context;
use platform_iam::Action;
use platform_registry::{DraftNo, Published, Verdict};
use serde::Serialize;
use serde_json::{Value, json};

use super::{named, read_folder, read_version};
use crate::book::{draft_no, draft_of};
use crate::commands::Refused;
use crate::commands::owner::{Method, OwnerClient};
use crate::home::{Home, Store};
use crate::roles::proposals::Proposals;
use crate::roles::{OnFailure, Running};
use crate::routes::platform_registry::{
    ProposeRequest, PublishDraftRequest, PublishFile, PublishRequest, RetireRequest, ReviewRequest, changes, draft_view,
};
use crate::{Common, Format, Outcome, access};

fn wanted(text: &str) -> anyhow::Result<DraftNo> {
    draft_of(text).ok_or_else(|| Refused(format!("{text:?} is no draft such as draft-1 or 1; `tally registry drafts` lists them")).into())
}

/// Puts a folder or an approved draft in force.
///
/// - `rerate`: whether usage that was rated before and that it reaches back over is rated again.
pub(super) async fn publish(what: &str, rerate: bool, common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    let (address, control_no, changed) = put_in_force(&home, what, rerate).await?;
    match common.format {
        Format::Json => println!("{}", json!({"version": address, "control_no": control_no, "changed": changed})),
        _ if changed => println!("version {address} is in force (control record {control_no})"),
        _ => println!("version {address} was in force already; nothing changed"),
    }
    Ok(Outcome::Done)
}

/// Publishes a folder or an approved draft, by the owner of the home or as its owner: address, control record, and whether anything changed.
///
/// - `rerate`: whether usage that was rated before and that the version reaches back over is rated again.
pub async fn put_in_force(home: &Home, what: &str, rerate: bool) -> anyhow::Result<(String, u64, bool)> {
    let folder = Path::new(what);
    if let Some(draft) = draft_no(what).filter(|_| !folder.is_dir()) {
        return match OwnerClient::of(home)? {
            Some(owner) => {
                let request = PublishDraftRequest { rerate: Some(rerate) };
                published_by(&owner, format!("/v1/registry/drafts/{draft}/publish"), &request).await
            }
            None => {
                let running = Running::start(home, OnFailure::End).await?;
                let published = running.publisher().publish_draft(access::local(Action::RegistryPublish)?, draft, rerate).await;
                drained(running, published).await
            }
        };
    }
    let version = read_version(folder)?;
    match OwnerClient::of(home)? {
        Some(owner) => {
            let request = PublishRequest { files: files(folder)?, rerate: Some(rerate) };
            published_by(&owner, "/v1/registry/versions".to_owned(), &request).await
        }
        None => {
            let running = Running::start(home, OnFailure::End).await?;
            let published = running.publish(access::local(Action::RegistryPublish)?, version, rerate).await;
            drained(running, published).await
        }
    }
}

async fn drained(running: Running, published: anyhow::Result<Published>) -> anyhow::Result<(String, u64, bool)> {
    let Published { address, control_no, changed } = published.map_err(|error| refused(&error))?;
    running.drain().await?;
    Ok((address.to_string(), control_no.0, changed))
}

async fn published_by(owner: &OwnerClient, route: String, request: &impl Serialize) -> anyhow::Result<(String, u64, bool)> {
    let answer = owner.ask(Method::Post(serde_json::to_value(request)?), &route).await?;
    let read = || -> Option<(String, u64, bool)> {
        Some((answer.get("version")?.as_str()?.to_owned(), answer.get("control_no")?.as_u64()?, answer.get("changed")?.as_bool()?))
    };
    read().with_context(|| format!("the owner of the home answered {answer}"))
}

fn files(folder: &Path) -> anyhow::Result<Vec<PublishFile>> {
    Ok(read_folder(folder)?.into_iter().map(|file| PublishFile { name: file.name, text: file.text }).collect())
}

fn refused(error: &anyhow::Error) -> Refused {
    Refused(format!("{error:#}"))
}

/// Where the books are written.
enum Books {
    /// By the server that owns the home.
    Owner(OwnerClient),
    /// Here; the home is owned meanwhile.
    Own(Proposals, crate::home::Lock),
}

impl Books {
    async fn open(home: &Home) -> anyhow::Result<Self> {
        if let Some(owner) = OwnerClient::of(home)? {
            return Ok(Self::Owner(owner));
        }
        let lock = home.lock(None)?;
        Ok(Self::Own(Proposals::new(home.database(Store::Books).await?), lock))
    }
}

/// Records a folder as a draft.
pub(super) async fn propose(folder: &Path, note: Option<String>, common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    let version = read_version(folder)?;
    let draft = match Books::open(&home).await? {
        Books::Owner(owner) => {
            let request = ProposeRequest { files: files(folder)?, note };
            owner.ask(Method::Post(serde_json::to_value(request)?), "/v1/registry/drafts").await?
        }
        Books::Own(proposals, _lock) => {
            let permit = access::local(Action::DraftPropose)?;
            let draft = proposals.propose(&permit, &version, note.as_deref()).await.map_err(|error| refused(&error))?;
            serde_json::to_value(draft_view(draft))?
        }
    };
    show(&draft, common);
    Ok(Outcome::Done)
}

/// Says of a draft whether it may be published.
pub(super) async fn review(draft: &str, approve: bool, reason: String, common: &Common) -> anyhow::Result<Outcome> {
    let (draft_no, home) = (wanted(draft)?, Home::open(&common.home)?);
    let verdict = if approve { Verdict::Approved } else { Verdict::Rejected };
    let draft = match Books::open(&home).await? {
        Books::Owner(owner) => {
            let request = ReviewRequest { verdict: verdict.name().to_owned(), reason };
            owner.ask(Method::Post(serde_json::to_value(request)?), &format!("/v1/registry/drafts/{draft_no}/review")).await?
        }
        Books::Own(proposals, _lock) => {
            let permit = access::local(Action::DraftReview)?;
            let draft = proposals.review(&permit, draft_no, verdict, &reason).await.map_err(|error| refused(&error))?;
            serde_json::to_value(draft_view(draft))?
        }
    };
    show(&draft, common);
    Ok(Outcome::Done)
}

/// Retires a version.
pub(super) async fn retire(version: &str, reason: String, common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    let mut tx = home.database_read_only(Store::Books).await?.read().await?;
    let address = named(&mut tx, version).await?.address();
    drop(tx);
    match Books::open(&home).await? {
        Books::Owner(owner) => {
            let request = serde_json::to_value(RetireRequest { reason })?;
            owner.ask(Method::Post(request), &format!("/v1/registry/versions/{address}/retire")).await?;
        }
        Books::Own(proposals, _lock) => {
            let permit = access::local(Action::RegistryRetire)?;
            proposals.retire(&permit, address, &reason).await.map_err(|error| refused(&error))?;
        }
    }
    match common.format {
        Format::Json => println!("{}", json!({"version": address})),
        _ => println!("version {address} is retired: it is not put in force again"),
    }
    Ok(Outcome::Done)
}

/// Lists drafts, or shows one with what it changes.
pub(super) async fn drafts(draft: Option<&str>, common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    let mut tx = home.database_read_only(Store::Books).await?.read().await?;
    let Some(draft) = draft else {
        let drafts = platform_registry::drafts::drafts(&mut tx).await?.into_iter().map(|draft| serde_json::to_value(draft_view(draft)));
        let drafts: Vec<Value> = drafts.collect::<Result<_, _>>()?;
        match common.format {
            Format::Json => println!("{}", json!(drafts)),
            _ => drafts.iter().for_each(|draft| show(draft, common)),
        }
        return Ok(Outcome::Done);
    };
    let found = changes(&mut tx, wanted(draft)?).await.map_err(|error| Refused(error.to_string()))?;
    match common.format {
        Format::Json => println!("{}", serde_json::to_string(&found)?),
        _ => {
            show(&serde_json::to_value(&found.draft)?, common);
            match &found.differences {
                None => println!("the first version of this home"),
                Some(differences) => differences.iter().for_each(|difference| println!("{}", difference.text)),
            }
        }
    }
    Ok(Outcome::Done)
}

/// One draft, as JSON or in a sentence.
fn show(draft: &Value, common: &Common) {
    if matches!(common.format, Format::Json) {
        println!("{draft}");
        return;
    }
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let money = if draft.get("money").and_then(Value::as_bool) == Some(true) { ", about money" } else { "" };
    let note = draft.get("note").map(|note| format!(" ({})", text(Some(note)))).unwrap_or_default();
    let number = draft.get("draft").and_then(Value::as_u64).unwrap_or_default();
    let (state, by) = (text(draft.get("state")), text(draft.get("proposed_by")));
    println!("draft-{number} is {state}: version {} proposed by {by}{note}{money}", text(draft.get("version")));
    if let Some(review) = draft.get("review") {
        println!("    {} by {}: {}", text(review.get("verdict")), text(review.get("reviewed_by")), text(review.get("reason")));
    }
}
