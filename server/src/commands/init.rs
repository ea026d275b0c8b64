//! `tally init`: a home folder with fresh secrets.

use serde_json::json;

use crate::home::Home;
use crate::roles::{OnFailure, Running};
use crate::{Common, Format, Outcome};

/// Creates the home.
pub async fn run(common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::create(&common.home)?;
    // One short reign creates stream and databases, so that every command that only reads finds them.
    Running::start(&home, OnFailure::End).await?.drain().await?;
    if common.format == Format::Json {
        println!("{}", json!({"home": home.root()}));
    } else {
        println!("created {}", home.root().display());
        println!("next: tally --home {} registry publish FOLDER", home.root().display());
    }
    Ok(Outcome::Done)
}
