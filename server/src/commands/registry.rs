//! `tally registry …`: folders of documents become versions, and a public price list becomes a folder.

mod questions;
pub mod workflow;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use platform_registry::import::{BOOK, Import, ImportTerms, PriceMap, import};
use platform_registry::{Problem, SourceFile, Version};
use serde_json::json;
use shared_db::Transaction;

use super::Refused;
use crate::book::{self, IN_FORCE};
use crate::home::{Home, Store};
use crate::{Common, Format, Outcome};

/// What of the registry.
#[derive(Subcommand)]
pub enum RegistryCommand {
    /// Check a folder of documents; every problem with file, line and remedy.
    Check {
        /// Folder with `.toml` files, at any depth.
        folder: PathBuf,
    },
    /// Check a folder and put it in force behind everything accepted so far; or do so with an approved draft.
    Publish {
        /// Folder with `.toml` files, at any depth, or a draft, for example `draft-1`.
        what: String,
        /// Rate again what was rated before and the version reaches back over; without it such a version is refused.
        #[arg(long)]
        rerate: bool,
    },
    /// Check a folder and record it as a draft, for somebody to review.
    Propose {
        /// Folder with `.toml` files, at any depth.
        folder: PathBuf,
        /// Why.
        #[arg(long)]
        note: Option<String>,
    },
    /// List drafts, or show one with what it changes, in words.
    Drafts {
        /// The draft, for example `draft-1`.
        draft: Option<String>,
    },
    /// Approve or reject a draft, once. Where money is concerned, whoever proposed it does not approve it.
    #[command(group = clap::ArgGroup::new("verdict").required(true).args(["approve", "reject"]))]
    Review {
        /// The draft, for example `draft-1`.
        draft: String,
        /// It may be published.
        #[arg(long)]
        approve: bool,
        /// It is never published.
        #[arg(long)]
        reject: bool,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Retire a version that is not in force: it is not put in force again. It stays, and so does what was rated by it.
    Retire {
        /// Content address, or enough of its first digits.
        version: String,
        /// Why.
        #[arg(long)]
        reason: String,
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
        /// From when new and changed prices are in force: a UTC date or an instant; when the map was made, if it says so.
        #[arg(long)]
        effective_at: Option<String>,
    },
    /// What differs between two versions, in words.
    ///
    /// A version is named by a folder of documents, by `in-force`, by a draft such as `draft-1`, or by its content address, or enough of
    /// its first digits.
    Diff {
        /// The one.
        from: String,
        /// The other.
        to: String,
    },
    /// What price was believed at one instant for usage at another.
    Price(questions::PriceArguments),
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
        RegistryCommand::Publish { what, rerate } => workflow::publish(&what, rerate, common).await,
        RegistryCommand::Propose { folder, note } => workflow::propose(&folder, note, common).await,
        RegistryCommand::Drafts { draft } => workflow::drafts(draft.as_deref(), common).await,
        RegistryCommand::Review { draft, approve, reject: _, reason } => workflow::review(&draft, approve, reason, common).await,
        RegistryCommand::Retire { version, reason } => workflow::retire(&version, reason, common).await,
        RegistryCommand::ImportLitellm { file, against, out, effective_at } => {
            import_litellm(&file, against.as_deref(), &out, effective_at.as_deref(), common.format)
        }
        RegistryCommand::Diff { from, to } => questions::diff(&from, &to, common).await,
        RegistryCommand::Price(arguments) => questions::price(arguments, common).await,
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
        Some(text) => crate::forecast::instant_of(text).map_err(Refused)?,
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
    let version = named(&mut tx, wanted.unwrap_or(IN_FORCE)).await?;
    match common.format {
        Format::Json => println!("{}", version.canonical()),
        _ => print!("{}", version.to_toml()),
    }
    Ok(Outcome::Done)
}

/// A version by what people call it; [`book::named`].
async fn named(tx: &mut Transaction, wanted: &str) -> anyhow::Result<Version> {
    book::named(tx, wanted).await.map_err(|error| Refused(error.to_string()).into())
}

/// A version by what people call it, or a folder of documents.
pub async fn version_or_folder(home: &Home, wanted: &str) -> anyhow::Result<Version> {
    if Path::new(wanted).is_dir() {
        return read_version(Path::new(wanted));
    }
    named(&mut home.database_read_only(Store::Books).await?.read().await?, wanted).await
}
