//! `tally registry check|publish|show|import-litellm`: folders of documents become versions, and a public price list becomes a folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use platform_iam::Action;
use platform_registry::import::{BOOK, Import, ImportTerms, PriceMap, import};
use platform_registry::{Problem, SourceFile, Version};
use serde_json::json;
use shared_types::{Digest, Instant};

use super::Refused;
use super::owner::{Method, OwnerClient};
use crate::home::{Home, Store};
use crate::roles::{OnFailure, Running};
use crate::routes::platform_registry::{PublishFile, PublishRequest};
use crate::{Common, Format, Outcome, access};

/// What of the registry.
#[derive(Subcommand)]
pub enum RegistryCommand {
    /// Check a folder of documents; every problem with file, line and remedy.
    Check {
        /// Folder with `.toml` files, at any depth.
        folder: PathBuf,
    },
    /// Check a folder and put it in force behind everything accepted so far.
    Publish {
        /// Folder with `.toml` files, at any depth.
        folder: PathBuf,
        /// Rate again what was rated before and the version reaches back over; without it such a version is refused.
        #[arg(long)]
        rerate: bool,
    },
    /// Turn LiteLLM's map of model prices into a folder of documents; suspicious prices are held beside it.
    ImportLitellm {
        /// The map, `model_prices_and_context_window.json`.
        file: PathBuf,
        /// What a former import made: unchanged prices stay, changed ones get a row more.
        #[arg(long)]
        against: Option<PathBuf>,
        /// Where `book/`, `held.toml` and `refused.txt` are written; may be the folder of `--against`.
        #[arg(long)]
        out: PathBuf,
        /// From when new and changed prices are in force; when the map was made, if it says so.
        #[arg(long)]
        effective_at: Option<String>,
    },
    /// Print a published version as TOML, or list the versions.
    Show {
        /// Content address, or enough of its first digits; the one in force by default.
        address: Option<String>,
        /// List all versions instead.
        #[arg(long)]
        list: bool,
    },
}

/// Runs a registry command.
pub async fn run(command: RegistryCommand, common: &Common) -> anyhow::Result<Outcome> {
    match command {
        RegistryCommand::Check { folder } => check(&folder, common.format),
        RegistryCommand::Publish { folder, rerate } => publish(&folder, rerate, common).await,
        RegistryCommand::ImportLitellm { file, against, out, effective_at } => {
            import_litellm(&file, against.as_deref(), &out, effective_at.as_deref(), common.format)
        }
        RegistryCommand::Show { address, list } => show(address.as_deref(), list, common).await,
    }
}

/// Every `.toml` file below a folder, by path.
fn read_folder(folder: &Path) -> anyhow::Result<Vec<SourceFile>> {
    platform_registry::read_folder(folder).map_err(|problems| Refused(problems.to_string()).into())
}

/// The version that a folder makes, or every problem as one refusal.
pub fn read_version(folder: &Path) -> anyhow::Result<Version> {
    Version::check(&read_folder(folder)?).map_err(|problems| Refused(problems.to_string()).into())
}

fn check(folder: &Path, format: Format) -> anyhow::Result<Outcome> {
    match Version::check(&read_folder(folder)?) {
        Ok(version) => {
            match format {
                Format::Json => println!("{}", json!({"version": version.address(), "problems": []})),
                _ => println!("{} checks: version {}", folder.display(), version.address()),
            }
            Ok(Outcome::Done)
        }
        Err(problems) => {
            match format {
                Format::Json => println!("{}", json!({"problems": problems.0.iter().map(problem).collect::<Vec<_>>()})),
                _ => println!("{problems}"),
            }
            Ok(Outcome::Found)
        }
    }
}

fn problem(problem: &Problem) -> serde_json::Value {
    json!({
        "file": problem.file, "line": problem.line, "column": problem.column,
        "message": problem.message, "remedy": problem.remedy,
    })
}

fn import_litellm(file: &Path, against: Option<&Path>, out: &Path, effective_at: Option<&str>, format: Format) -> anyhow::Result<Outcome> {
    let text = std::fs::read_to_string(file).map_err(|error| Refused(format!("{} cannot be read: {error}", file.display())))?;
    let map = PriceMap::parse(&text).map_err(|error| Refused(format!("{:#}", anyhow::Error::new(error))))?;
    let effective_at = match effective_at {
        Some(text) => Instant::parse(text).map_err(|error| Refused(error.to_string()))?,
        None => map.updated_at.ok_or_else(|| Refused("the map does not say when it was made: give --effective-at".to_owned()))?,
    };
    let published = against.map(|folder| read_version(&folder.join(BOOK))).transpose()?;
    let made = import(&map, published.as_ref(), &ImportTerms::from(effective_at)?).map_err(|error| Refused(error.to_string()))?;
    let files = made.files();
    for file in &files {
        let path = out.join(&file.name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("could not create {}", folder.display()))?;
        }
        std::fs::write(&path, &file.text).with_context(|| format!("could not write {}", path.display()))?;
    }
    let version = read_version(&out.join(BOOK))?;
    match format {
        Format::Json => println!("{}", imported(&made, &version)),
        _ => {
            println!("{} new prices, {} changed, {} as they were", made.added, made.changed, made.unchanged);
            println!("{} models without a price, {} SKUs that the map no longer states", made.unpriced.len(), made.gone.len());
            println!("{} prices refused by name: {}", made.refused.len(), out.join("refused.txt").display());
            for held in &made.held {
                for reason in &held.reasons {
                    println!("{reason}: held");
                }
            }
            println!("{} prices held: {}", made.held.len(), out.join("held.toml").display());
            println!("{} checks: version {}", out.join(BOOK).display(), version.address());
        }
    }
    Ok(Outcome::Done)
}

fn imported(made: &Import, version: &Version) -> serde_json::Value {
    let held = made.held.iter().map(|held| {
        let reasons: Vec<_> = held.reasons.iter().map(|reason| json!({"rule": reason.rule.name(), "text": reason.text})).collect();
        json!({
            "model": held.model, "field": held.field, "before": held.before.map(|price| price.to_string()),
            "price": held.price.to_string(), "reasons": reasons,
        })
    });
    let refused = made.refused.iter().map(|refused| json!({"model": refused.model, "field": refused.field, "why": refused.why}));
    json!({
        "version": version.address(), "added": made.added, "changed": made.changed, "unchanged": made.unchanged,
        "held": held.collect::<Vec<_>>(), "refused": refused.collect::<Vec<_>>(), "unpriced": made.unpriced,
        "gone": made.gone.iter().map(|sku| sku.as_str()).collect::<Vec<_>>(),
    })
}

async fn publish(folder: &Path, rerate: bool, common: &Common) -> anyhow::Result<Outcome> {
    let (address, control_no, changed) = put_in_force(&Home::open(&common.home)?, folder, rerate).await?;
    match common.format {
        Format::Json => println!("{}", json!({"version": address, "control_no": control_no, "changed": changed})),
        _ if changed => println!("version {address} is in force (control record {control_no})"),
        _ => println!("version {address} was in force already; nothing changed"),
    }
    Ok(Outcome::Done)
}

/// Publishes a folder, by the owner of the home or as its owner: address, control record, and whether anything changed.
///
/// - `rerate`: whether usage that was rated before and that the version reaches back over is rated again.
pub async fn put_in_force(home: &Home, folder: &Path, rerate: bool) -> anyhow::Result<(String, u64, bool)> {
    let version = read_version(folder)?;
    match OwnerClient::of(home)? {
        Some(owner) => publish_to_owner(folder, rerate, &owner).await,
        None => {
            let running = Running::start(home, OnFailure::End).await?;
            let permit = access::local(Action::RegistryPublish)?;
            let published = running.publish(permit, version, rerate).await.map_err(|error| Refused(format!("{error:#}")))?;
            running.drain().await?;
            Ok((published.address.to_string(), published.control_no.0, published.changed))
        }
    }
}

async fn publish_to_owner(folder: &Path, rerate: bool, owner: &OwnerClient) -> anyhow::Result<(String, u64, bool)> {
    let files = read_folder(folder)?.into_iter().map(|file| PublishFile { name: file.name, text: file.text }).collect();
    let answer =
        owner.ask(Method::Post(serde_json::to_value(PublishRequest { files, rerate: Some(rerate) })?), "/v1/registry/versions").await?;
    let read = || -> Option<(String, u64, bool)> {
        Some((answer.get("version")?.as_str()?.to_owned(), answer.get("control_no")?.as_u64()?, answer.get("changed")?.as_bool()?))
    };
    read().with_context(|| format!("the owner of the home answered {answer}"))
}

async fn show(wanted: Option<&str>, list: bool, common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    let mut tx = home.database_read_only(Store::Books).await?.read().await?;
    let versions = platform_registry::store::versions(&mut tx).await?;
    if list {
        match common.format {
            Format::Json => {
                let all: Vec<_> =
                    versions.iter().map(|found| json!({"version": found.address, "recorded_at": found.recorded_at})).collect();
                println!("{}", json!(all));
            }
            _ => {
                for found in &versions {
                    println!("{}  recorded {}", found.address, found.recorded_at);
                }
            }
        }
        return Ok(Outcome::Done);
    }
    let address: Digest = match wanted {
        None => platform_registry::store::active(&mut tx)
            .await?
            .map(|version| version.address())
            .ok_or_else(|| Refused("no registry version is published yet".to_owned()))?,
        Some(prefix) => {
            let mut fits = versions.iter().filter(|found| found.address.to_string().starts_with(prefix));
            match (fits.next(), fits.next()) {
                (Some(found), None) => found.address,
                (None, _) => {
                    bail!(Refused(format!("no published version begins with {prefix:?}; `tally registry show --list` lists them")))
                }
                (Some(_), Some(_)) => bail!(Refused(format!("more than one version begins with {prefix:?}; give more digits"))),
            }
        }
    };
    let version =
        platform_registry::store::version(&mut tx, address).await?.with_context(|| format!("version {address} is not in the books"))?;
    match common.format {
        Format::Json => println!("{}", version.canonical()),
        _ => print!("{}", version.to_toml()),
    }
    Ok(Outcome::Done)
}
