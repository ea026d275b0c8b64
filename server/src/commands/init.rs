//! `tally init`: a home folder with fresh secrets.

use serde_json::json;

use crate::home::Home;
use crate::{Common, Format, Outcome};

/// Creates the home.
pub fn run(common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::create(&common.home)?;
    if common.format == Format::Json {
        println!("{}", json!({"home": home.root()}));
    } else {
        println!("created {}", home.root().display());
        println!("next: tally --home {} registry publish FOLDER", home.root().display());
    }
    Ok(Outcome::Done)
}
