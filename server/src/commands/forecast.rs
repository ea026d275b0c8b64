//! `tally forecast`: what a running month will come to at its end. It books nothing.

use clap::Args;
use shared_types::{Instant, Month, OrganizationId};

use super::Refused;
use super::registry::version_or_folder;
use crate::book::IN_FORCE;
use crate::clock::now;
use crate::forecast::{self, Asked, NotForecast};
use crate::home::Home;
use crate::read_models::Readers;
use crate::{Common, Format, Outcome};

/// Arguments of `tally forecast`.
#[derive(Args)]
pub struct ForecastArguments {
    /// Only this organization.
    #[arg(long)]
    organization: Option<OrganizationId>,
    /// The month, `yyyy-mm`; the one that runs by default.
    #[arg(long, value_parser = Month::parse)]
    period: Option<Month>,
    /// Usage before this instant, or before this UTC date, has happened; now by default.
    #[arg(long, value_parser = forecast::instant_of)]
    as_of: Option<Instant>,
    /// Rate by this book instead of the one in force: a folder of documents, a draft such as draft-1, or a version by its address.
    #[arg(long)]
    book: Option<String>,
}

/// Prints the forecast.
pub async fn run(arguments: ForecastArguments, common: &Common) -> anyhow::Result<Outcome> {
    let ForecastArguments { organization, period, as_of, book } = arguments;
    let home = Home::open(&common.home)?;
    let readers = Readers::open(&home).await?;
    let version = version_or_folder(&home, book.as_deref().unwrap_or(IN_FORCE)).await?;
    let memory_bytes = home.settings.query.memory_bytes_max;
    let asked = Asked { organization, period, as_of: as_of.unwrap_or_else(now), version, memory_bytes };
    let made = forecast::of(&readers, &asked).await.map_err(|error| match error.downcast::<NotForecast>() {
        Ok(refused) => Refused(refused.to_string()).into(),
        Err(error) => error,
    })?;
    match common.format {
        Format::Json => println!("{}", serde_json::to_string(&made)?),
        _ => print!("{}", made.text()),
    }
    Ok(Outcome::Done)
}
