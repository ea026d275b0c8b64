//! `registry.versions`: what was published, and when.

use std::sync::Arc;

use arrow::datatypes::DataType;
use platform_catalog::{Audience, ReadModel};
use shared_types::ControlNo;

use super::Readers;
use super::rows::{instant, model};

/// All of them.
pub fn models(readers: &Readers) -> anyhow::Result<Vec<Arc<dyn ReadModel>>> {
    let books = readers.books.clone();
    let versions = model(
        "registry.versions",
        "platform-registry",
        "One row for each publication of a registry version.",
        Audience::Operator,
        &[
            ("control_no", DataType::Int64, false, "The control record that put it in force."),
            ("version", DataType::Utf8, false, "Content address: SHA-256 of the sorted canonical documents."),
            ("documents", DataType::Int64, false, "How many documents it has."),
            ("recorded_at", instant(), true, "When the version was first recorded."),
        ],
        move || {
            let books = books.clone();
            Box::pin(async move {
                let mut tx = books.read().await?;
                let mut rows = Vec::new();
                let versions = platform_registry::store::versions(&mut tx).await?;
                for control in platform_registry::store::controls_after(&mut tx, ControlNo(0)).await? {
                    let Some(address) = control.registry_version() else { continue };
                    let documents = platform_registry::store::version(&mut tx, address).await?.map_or(0, |found| found.entries().len());
                    rows.push(vec![
                        control.control_no.0.into(),
                        address.into(),
                        u64::try_from(documents)?.into(),
                        versions.iter().find(|found| found.address == address).map(|found| found.recorded_at).into(),
                    ]);
                }
                Ok(rows)
            })
        },
    )?;
    Ok(vec![versions])
}
