//! Prints registry versions for foreign programs: the TOML texts that make each, and its canonical content. Arguments are folders of
//! documents and price maps of LiteLLM (`.json`), which are imported first.

use std::error::Error;
use std::path::Path;

use platform_registry::import::{BOOK, ImportTerms, PriceMap, import};
use platform_registry::{SourceFile, Version, read_folder};
use serde_json::{Value, json};
use shared_types::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let versions = std::env::args().skip(1).map(|name| made(Path::new(&name)));
    println!("{}", Value::Array(versions.collect::<Result<_, _>>()?));
    Ok(())
}

fn made(path: &Path) -> Result<Value, Box<dyn Error>> {
    let files = if path.is_dir() { read_folder(path)? } else { imported(path)? };
    let content: Value = serde_json::from_str(&Version::check(&files)?.canonical())?;
    let texts: Vec<&str> = files.iter().map(|file| file.text.as_str()).collect();
    Ok(json!({"name": path.display().to_string(), "texts": texts, "content": content}))
}

/// The book that a map becomes.
fn imported(path: &Path) -> Result<Vec<SourceFile>, Box<dyn Error>> {
    let map = PriceMap::parse(&std::fs::read_to_string(path)?)?;
    let made = import(&map, None, &ImportTerms::from(map.updated_at.unwrap_or(Instant::EPOCH))?)?;
    Ok(made.files().into_iter().filter(|file| file.name.starts_with(BOOK)).collect())
}
