//! The price of something in one version, for usage at an instant. With the version that was in force at another instant it answers what
//! price was believed on day X for usage on day Y. A pure function; it knows no quantity.

use platform_usage::Dimensions;
use shared_types::{AssetId, ContractId, Instant, MeterId, OrganizationId, SkuId};

use crate::diff::words::{Terms, day, price};
use crate::diff::{sold, unit};
use crate::document::{Contract, Covers, PriceBook, PriceRow};
use crate::{CompileError, Version, compile};

/// What is priced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Priced {
    /// A SKU.
    Sku(SkuId),
    /// A reading of a meter with these dimensions: whichever SKU takes it.
    Reading(MeterId, Dimensions),
}

/// By whose prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Under {
    /// The contract that binds this organization at the instant of the usage.
    Organization(OrganizationId),
    /// This contract.
    Contract(ContractId),
    /// The contract of every organization that has none of its own.
    Default,
}

/// A price that a version states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatedPrice {
    /// The contract.
    pub contract: ContractId,
    /// Its price book.
    pub price_book: String,
    /// The book's currency.
    pub currency: AssetId,
    /// The row in force.
    pub row: PriceRow,
    /// From when on the book states another price of the SKU; none where none follows.
    pub until: Option<Instant>,
    /// The price in words, for example `0.15 USD per 1M token`.
    pub words: String,
}

/// Why a version states no price.
#[derive(Debug, thiserror::Error)]
pub enum NoPrice {
    /// Nobody is bound at that instant.
    #[error("no contract binds {whom} for usage at {at}")]
    NoContract {
        /// Whom.
        whom: String,
        /// The instant.
        at: Instant,
    },
    /// The version has no such contract.
    #[error("there is no contract {id:?} in the version")]
    UnknownContract {
        /// What was asked for.
        id: String,
    },
    /// The contract begins later.
    #[error("contract {id:?} begins at {begins}: it prices no usage at {at}")]
    NotYet {
        /// The contract.
        id: String,
        /// Its first instant.
        begins: Instant,
        /// The instant that was asked about.
        at: Instant,
    },
    /// The version has no such SKU.
    #[error("there is no sku {id:?} in the version")]
    UnknownSku {
        /// What was asked for.
        id: String,
    },
    /// The version has no such meter.
    #[error("there is no meter {id:?} in the version")]
    UnknownMeter {
        /// What was asked for.
        id: String,
    },
    /// The book prices no SKU that takes the reading.
    #[error("price book {book:?} prices no sku that takes such a reading of meter {meter:?}: it is unpriced")]
    NoSku {
        /// The book.
        book: String,
        /// The meter.
        meter: String,
    },
    /// The book does not price the SKU at that instant.
    #[error("price book {book:?} has no price of sku {sku:?} for usage at {at}: it is unpriced")]
    Unpriced {
        /// The book.
        book: String,
        /// What is sold.
        sku: String,
        /// The instant.
        at: Instant,
    },
    /// The version cannot be used at all.
    #[error(transparent)]
    Compile(#[from] CompileError),
}

/// The price for usage that starts at `at`: contract, then book, then SKU, then row, each as rating takes them.
pub fn price_at(version: &Version, priced: &Priced, under: &Under, at: Instant) -> Result<StatedPrice, NoPrice> {
    let contract = contract(version, under, at)?;
    let book = version.price_books().find(|book| book.id == contract.price_book);
    let book = book.ok_or_else(|| NoPrice::NoContract { whom: format!("price book {:?}", contract.price_book), at })?;
    let sku = match priced {
        Priced::Sku(sku) => version.skus().find(|found| found.id == *sku).map(|found| found.id.clone()),
        Priced::Reading(meter, dimensions) => Some(taker(version, book, meter, dimensions)?),
    };
    let sku = sku.ok_or_else(|| NoPrice::UnknownSku { id: if let Priced::Sku(sku) = priced { sku.to_string() } else { String::new() } })?;
    let rows = || book.prices.iter().filter(|row| row.sku == sku);
    let row = rows().filter(|row| row.effective_at <= at).max_by_key(|row| row.effective_at);
    let row = row.ok_or_else(|| NoPrice::Unpriced { book: book.id.clone(), sku: sku.to_string(), at })?;
    let until = rows().map(|row| row.effective_at).filter(|start| *start > at).min();
    let sold = sold(version, &sku).unwrap_or_else(|| sku.to_string());
    let terms = Terms { currency: &book.currency, unit: unit(version, &sku, &sold) };
    let ends = until.map(|until| format!(" until {}", day(until))).unwrap_or_default();
    let words = format!("{sold}: {} from {}{ends}", price(&row.model, terms), day(row.effective_at));
    Ok(StatedPrice {
        contract: contract.id.clone(),
        price_book: book.id.clone(),
        currency: book.currency.clone(),
        row: row.clone(),
        until,
        words,
    })
}

fn contract<'v>(version: &'v Version, under: &Under, at: Instant) -> Result<&'v Contract, NoPrice> {
    let binding = |binds: &dyn Fn(&Contract) -> bool| -> Vec<&'v Contract> { version.contracts().filter(|found| binds(found)).collect() };
    let default = || binding(&|contract| contract.covers == Covers::Default);
    let (contracts, whom) = match under {
        Under::Contract(id) => {
            let found = version.contracts().find(|found| found.id == *id);
            let found = found.ok_or_else(|| NoPrice::UnknownContract { id: id.to_string() })?;
            if found.effective_at > at {
                return Err(NoPrice::NotYet { id: id.to_string(), begins: found.effective_at, at });
            }
            return Ok(found);
        }
        // Contracts of its own hide the default ones altogether.
        Under::Organization(organization) => {
            let own = binding(&|contract| matches!(&contract.covers, Covers::Organizations(all) if all.contains(organization)));
            (if own.is_empty() { default() } else { own }, format!("organization {organization}"))
        }
        Under::Default => (default(), "organizations without a contract of their own".to_owned()),
    };
    let in_force = contracts.into_iter().filter(|contract| contract.effective_at <= at).max_by_key(|contract| contract.effective_at);
    in_force.ok_or(NoPrice::NoContract { whom, at })
}

/// The SKU that takes a reading, by the plan that rating uses.
fn taker(version: &Version, book: &PriceBook, meter: &MeterId, dimensions: &Dimensions) -> Result<SkuId, NoPrice> {
    if !version.meters().any(|found| found.id == *meter) {
        return Err(NoPrice::UnknownMeter { id: meter.to_string() });
    }
    let plan = compile(version)?.plan;
    let place = version.price_books().position(|found| found.id == book.id);
    let line = place.and_then(|place| plan.books.get(place)).and_then(|book| book.line(meter, dimensions));
    line.map(|line| line.sku.clone()).ok_or_else(|| NoPrice::NoSku { book: book.id.clone(), meter: meter.to_string() })
}
