//! `GET /v1/registry/price`: what price was believed at one instant for usage at another.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use platform_catalog::Scope;
use platform_iam::Action;
use platform_registry::store::{self, Publication, StoreError};
use platform_registry::{DocumentError, NoPrice, Priced, StatedPrice, Under, Version, price_at};
use platform_usage::Dimensions;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared_db::{DbError, Transaction};
use shared_types::Instant;

use crate::access::Caller;
use crate::answers::Answers;
use crate::clock::now;
use crate::contract::{Operation, wire};
use crate::problem::{Parameters, Problem, internal};
use crate::routes::{named, scope_of};

wire! {
    /// Which price.
    #[derive(Clone, Default, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct PriceQuery {
        /// Of this SKU. Either this or `meter`.
        pub sku: Option<String>,
        /// Of a reading of this meter: whichever SKU takes it.
        pub meter: Option<String>,
        /// The reading's dimensions, an object of texts as JSON, for example `{"model":"m1"}`.
        pub dimensions: Option<String>,
        /// For usage that starts at this instant: an RFC 3339 instant, or a UTC date for its beginning.
        pub at: String,
        /// By what was in force at this instant; now unless given.
        pub as_of: Option<String>,
        /// By the contract that binds this organization. For a customer's key there is no other than its own.
        pub organization: Option<String>,
        /// By this contract. Without organization and contract: the one of every organization that has none of its own.
        pub contract: Option<String>,
    }
}

wire! {
    /// A price that was believed.
    #[derive(Serialize)]
    pub struct PriceView {
        /// For usage that starts at this instant.
        pub at: String,
        /// By what was in force at this instant.
        pub as_of: String,
        /// Content address of the version that was in force then.
        pub version: String,
        /// When that version was put in force.
        pub recorded_at: String,
        /// The contract.
        pub contract: String,
        /// Its price book.
        pub price_book: String,
        /// The book's currency.
        pub currency: String,
        /// What is priced.
        pub sku: String,
        /// Name of the price.
        pub price: String,
        /// In force for usage that starts at or after this instant.
        pub effective_at: String,
        /// Until the book states another price; absent where none follows.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub until: Option<String>,
        /// The model, as in the documents of the version.
        pub model: Value,
        /// The price in words.
        pub text: String,
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PriceError {
    /// A parameter does not read.
    #[error("{0}")]
    Parameter(String),
    /// Nothing was in force yet.
    #[error("no registry version was in force at {0}")]
    Nothing(Instant),
    /// What was in force states no such price.
    #[error("by version {version}, in force since {recorded_at}: {source}")]
    NoPrice {
        /// The version.
        version: String,
        /// When it was put in force.
        recorded_at: Instant,
        /// What it lacks.
        source: NoPrice,
    },
    /// The books could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A version could not be shown.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

impl From<DbError> for PriceError {
    fn from(error: DbError) -> Self {
        Self::Store(error.into())
    }
}

pub(super) fn operation() -> Operation {
    Operation::get("/v1/registry/price", "get_price", "What price was believed at one instant for usage at another.")
        .about("`as_of` is a matter of what had been recorded, `at` of when the usage starts: a price that is corrected later differs by `as_of`.")
        .query::<PriceQuery>()
        .answers::<PriceView>(200, "The price.")
        .problem(400, "A parameter does not read; detail names it.")
        .problem(404, "No such price was believed; detail says what was missing.")
}

/// What price was believed at one instant for usage at another.
pub async fn get_price(
    State(answers): State<Answers>,
    caller: Caller,
    Parameters(query): Parameters<PriceQuery>,
) -> Result<Json<PriceView>, Problem> {
    let organization = named(query.organization.as_deref()).map_err(|error| problem(&PriceError::Parameter(error.to_string())))?;
    let permit = caller.authorize(Action::RegistryRead, caller.target(organization))?;
    let mut tx = answers.readers.books.read().await.map_err(|error| internal(&error))?;
    believed(&mut tx, &scope_of(&permit), &query).await.map(Json).map_err(|error| problem(&error))
}

fn problem(error: &PriceError) -> Problem {
    let (status, code, title) = match error {
        PriceError::Parameter(_) => (StatusCode::BAD_REQUEST, "REGISTRY-0004", "The request does not read."),
        PriceError::Nothing(_) | PriceError::NoPrice { .. } => (StatusCode::NOT_FOUND, "REGISTRY-0005", "No such price was believed."),
        PriceError::Store(_) | PriceError::Document(_) => return internal(error),
    };
    Problem::new(status, code, title, error.to_string())
}

/// Answers the question from the books, as far as the scope sees them.
pub async fn believed(tx: &mut Transaction, scope: &Scope, query: &PriceQuery) -> Result<PriceView, PriceError> {
    let (priced, under) = (priced(query)?, under(query, scope)?);
    let at = instant("at", &query.at)?;
    let as_of = query.as_of.as_deref().map(|text| instant("as_of", text)).transpose()?.unwrap_or_else(now);
    let (publication, version) = in_force(tx, scope, as_of).await?.ok_or(PriceError::Nothing(as_of))?;
    let (address, recorded_at) = (publication.address.to_string(), publication.recorded_at);
    let stated = price_at(&version, &priced, &under, at);
    let stated = stated.map_err(|source| PriceError::NoPrice { version: address.clone(), recorded_at, source })?;
    let StatedPrice { contract, price_book, currency, row, until, words } = stated;
    Ok(PriceView {
        at: at.to_string(),
        as_of: as_of.to_string(),
        version: address,
        recorded_at: recorded_at.to_string(),
        contract: contract.to_string(),
        price_book,
        currency: currency.to_string(),
        sku: row.sku.to_string(),
        price: row.id.to_string(),
        effective_at: row.effective_at.to_string(),
        until: until.map(|until| until.to_string()),
        model: serde_json::to_value(&row.model).map_err(DocumentError::from)?,
        text: words,
    })
}

/// What was in force at an instant of recording. An organization is shown the first of all versions in a row that say the same to it.
async fn in_force(tx: &mut Transaction, scope: &Scope, as_of: Instant) -> Result<Option<(Publication, Version)>, PriceError> {
    let publications = store::publications(tx, as_of).await?;
    let Scope::Organization(organization) = scope else {
        let Some(last) = publications.last() else { return Ok(None) };
        return Ok(store::version(tx, last.address).await?.map(|version| (*last, version)));
    };
    let mut believed: Option<(Publication, Version)> = None;
    for publication in publications {
        let Some(version) = store::version(tx, publication.address).await? else { continue };
        let seen = version.view_of(organization)?;
        if believed.as_ref().is_none_or(|(_, before)| before.address() != seen.address()) {
            believed = Some((publication, seen));
        }
    }
    Ok(believed)
}

fn priced(query: &PriceQuery) -> Result<Priced, PriceError> {
    let refused = |why: &str| Err(PriceError::Parameter(why.to_owned()));
    match (&query.sku, &query.meter) {
        (Some(_), None) if query.dimensions.is_some() => refused("dimensions go with meter: a SKU names its own"),
        (Some(sku), None) => Ok(Priced::Sku(read("sku", sku)?)),
        (None, Some(meter)) => {
            let dimensions: BTreeMap<String, String> = match query.dimensions.as_deref() {
                None => BTreeMap::new(),
                Some(text) => serde_json::from_str(text).map_err(|error| {
                    PriceError::Parameter(format!("dimensions is no object of texts such as {{\"model\":\"m1\"}}: {error}"))
                })?,
            };
            let pairs = dimensions.into_iter().map(|(name, value)| (Arc::from(name), Arc::from(value)));
            Ok(Priced::Reading(read("meter", meter)?, Dimensions::new(pairs)))
        }
        _ => refused("name either sku or meter"),
    }
}

fn under(query: &PriceQuery, scope: &Scope) -> Result<Under, PriceError> {
    match (&query.organization, &query.contract, scope) {
        (Some(_), Some(_), _) => Err(PriceError::Parameter("name either organization or contract".to_owned())),
        (_, Some(contract), _) => Ok(Under::Contract(read("contract", contract)?)),
        (Some(organization), None, _) => Ok(Under::Organization(read("organization", organization)?)),
        (None, None, Scope::Organization(organization)) => Ok(Under::Organization(organization.clone())),
        (None, None, Scope::Operator) => Ok(Under::Default),
    }
}

fn read<T: std::str::FromStr<Err: std::fmt::Display>>(name: &str, text: &str) -> Result<T, PriceError> {
    text.parse().map_err(|error| PriceError::Parameter(format!("{name}: {error}")))
}

/// An instant, or the beginning of a day in UTC.
fn instant(name: &str, text: &str) -> Result<Instant, PriceError> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    Instant::parse(&whole).map_err(|_| {
        PriceError::Parameter(format!("{name} = {text:?} is neither a date such as 2026-10-01 nor an instant such as 2026-10-01T08:00:00Z"))
    })
}
