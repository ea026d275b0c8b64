//! `tally registry diff|price`: what differs between versions, and what price was believed when.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use clap::Args;
use platform_catalog::Scope;
use platform_registry::Version;
use serde_json::json;

use super::{named, read_version};
use crate::commands::Refused;
use crate::home::{Home, Store};
use crate::routes::platform_registry::{PriceQuery, believed, differences_view};
use crate::{Common, Format, Outcome};

/// Which price.
#[derive(Args)]
pub struct PriceArguments {
    /// Of this SKU.
    #[arg(long, required_unless_present = "meter", conflicts_with = "meter")]
    sku: Option<String>,
    /// Of a reading of this meter: whichever SKU takes it.
    #[arg(long)]
    meter: Option<String>,
    /// A dimension of the reading, `name=value`. May be given several times.
    #[arg(long = "dimension", requires = "meter", value_parser = pair)]
    dimensions: Vec<(String, String)>,
    /// For usage that starts at this instant, or at the beginning of this UTC date.
    #[arg(long)]
    at: String,
    /// By what was in force at this instant, or at the beginning of this UTC date; now by default.
    #[arg(long)]
    as_of: Option<String>,
    /// By the contract that binds this organization; by default, the contract of those without one of their own.
    #[arg(long, conflicts_with = "contract")]
    organization: Option<String>,
    /// By this contract.
    #[arg(long)]
    contract: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write a dimension as name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Prints what price was believed.
pub(super) async fn price(arguments: PriceArguments, common: &Common) -> anyhow::Result<Outcome> {
    let PriceArguments { sku, meter, dimensions, at, as_of, organization, contract } = arguments;
    let dimensions: BTreeMap<String, String> = dimensions.into_iter().collect();
    let dimensions = (!dimensions.is_empty()).then(|| json!(dimensions).to_string());
    let query = PriceQuery { sku, meter, dimensions, at, as_of, organization, contract };
    let home = Home::open(&common.home)?;
    let mut tx = home.database_read_only(Store::Books).await?.read().await?;
    let answer = believed(&mut tx, &Scope::Operator, &query).await.map_err(|error| Refused(error.to_string()))?;
    match common.format {
        Format::Json => println!("{}", serde_json::to_string(&answer)?),
        _ => {
            println!("{}", answer.text);
            println!("price {} of price book {} by contract {}", answer.price, answer.price_book, answer.contract);
            println!("believed at {} by version {}, in force since {}", answer.as_of, answer.version, answer.recorded_at);
        }
    }
    Ok(Outcome::Done)
}

/// Prints what differs.
pub(super) async fn diff(from: &str, to: &str, common: &Common) -> anyhow::Result<Outcome> {
    let (from, to) = (side(from, common).await?, side(to, common).await?);
    let view = differences_view(&from, &to);
    match common.format {
        Format::Json => println!("{}", serde_json::to_string(&view)?),
        _ => {
            for difference in &view.differences {
                println!("{}", difference.text);
            }
            let money = view.differences.iter().filter(|difference| difference.money).count();
            println!("{} differences, {money} of them about money: {} → {}", view.differences.len(), view.from, view.to);
        }
    }
    Ok(Outcome::Done)
}

/// A version by a folder or by what people call it; only the latter asks for a home.
async fn side(wanted: &str, common: &Common) -> anyhow::Result<Version> {
    if Path::new(wanted).is_dir() {
        return read_version(Path::new(wanted));
    }
    let home = Home::open(&common.home).with_context(|| format!("{wanted:?} is no folder, so it is looked up in the home"))?;
    let mut tx = home.database_read_only(Store::Books).await?.read().await?;
    named(&mut tx, wanted).await
}
