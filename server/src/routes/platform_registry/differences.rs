//! `GET /v1/registry/versions/{version}/diff/{other}`: what differs between two versions, in words and as data.

use axum::Json;
use axum::extract::{Path, State};
use platform_iam::Action;
use platform_registry::{Difference, Version, diff};
use serde::Serialize;

use super::{published, seen};
use crate::access::Caller;
use crate::answers::Answers;
use crate::contract::{Operation, wire};
use crate::problem::{Problem, internal};
use crate::routes::scope_of;

wire! {
    /// What differs between two versions.
    #[derive(Serialize)]
    pub struct DifferencesView {
        /// Content address of the one.
        pub from: String,
        /// Content address of the other.
        pub to: String,
        /// By kind and id of the document; prices by SKU and instant. An organization sees those of its own prices.
        pub differences: Vec<DifferenceView>,
    }
}

wire! {
    /// One difference.
    #[derive(Serialize)]
    pub struct DifferenceView {
        /// Kind of the document, for example `price_book`.
        pub kind: String,
        /// Its name.
        pub id: String,
        /// `added`, `removed` or `altered`: what became of the document, or of the part of it.
        pub change: String,
        /// The part; absent where it is all of the document.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub field: Option<String>,
        /// Whose price.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub sku: Option<String>,
        /// What it was, in words; absent where there was nothing.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub before: Option<String>,
        /// What it is, in words; absent where there is nothing.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub after: Option<String>,
        /// Of a price: for usage that starts at or after this instant.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub effective_at: Option<String>,
        /// Of a price: for usage that starts before this instant; absent where there is no end.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub until: Option<String>,
        /// Whether it can alter an amount or where one is booked.
        pub money: bool,
        /// All of it in one sentence.
        pub text: String,
    }
}

pub(super) fn operation() -> Operation {
    Operation::get("/v1/registry/versions/{version}/diff/{other}", "diff_versions", "What differs between two versions, in words.")
        .about("Prices are compared as what is in force when. An organization sees what differs in its own prices.")
        .in_path("version", "Content address of the one, 64 hex digits.")
        .in_path("other", "Content address of the other, 64 hex digits.")
        .answers::<DifferencesView>(200, "The differences; none where both are the same for the key.")
        .problem(404, "There is no such version.")
}

/// What differs between two versions, in words.
pub async fn diff_versions(
    State(answers): State<Answers>,
    caller: Caller,
    Path((version, other)): Path<(String, String)>,
) -> Result<Json<DifferencesView>, Problem> {
    let permit = caller.authorize(Action::RegistryRead, caller.target(None))?;
    let scope = scope_of(&permit);
    let mut tx = answers.readers.books.read().await.map_err(|error| internal(&error))?;
    let from = seen(published(&mut tx, &version).await?, &scope)?;
    let to = seen(published(&mut tx, &other).await?, &scope)?;
    Ok(Json(DifferencesView { from: version, to: other, ..view(&from, &to) }))
}

/// The differences between two versions, under their own addresses.
pub fn view(from: &Version, to: &Version) -> DifferencesView {
    let differences = diff(from, to).into_iter().map(difference).collect();
    DifferencesView { from: from.address().to_string(), to: to.address().to_string(), differences }
}

fn difference(found: Difference) -> DifferenceView {
    DifferenceView {
        kind: found.kind.to_string(),
        id: found.id,
        change: found.change.name().to_owned(),
        field: found.field,
        sku: found.sku.map(|sku| sku.to_string()),
        before: found.before,
        after: found.after,
        effective_at: found.effective_at.map(|at| at.to_string()),
        until: found.until.map(|until| until.to_string()),
        money: found.money,
        text: found.text,
    }
}
