//! Commitments of prices for each window: meters that have windows, and prices and contracts that begin with one, so that no window is promised
//! twice. It knows no usage.

use std::collections::{BTreeMap, BTreeSet};

use platform_rating::{Measure, Then};
use platform_usage::billable::BAND;
use shared_types::{Instant, OrganizationId, Quantity, SkuId};

use super::{Checker, book, contract, documents};
use crate::Kind;
use crate::compile::measure;
use crate::document::{Contract, Covers, Document, PriceBook, PriceRow, Promised, Sku, WindowCommitment, WindowTrueUp};
use crate::problem::At;
use crate::read::Located;

/// What prices and contracts must begin with. The order is the one of strictness.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Grain {
    /// A window of so many seconds.
    Window(u32),
    /// A service period.
    Month,
}

impl Grain {
    fn begins(self, at: Instant) -> bool {
        match self {
            // Windows divide days, and days begin the epoch and every month.
            Self::Window(seconds) => at.micros().checked_rem(i64::from(seconds).saturating_mul(1_000_000)) == Some(0),
            Self::Month => at.month().start() == at,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Window(_) => "window",
            Self::Month => "month",
        }
    }

    fn remedy(self) -> String {
        match self {
            Self::Window(seconds) => {
                format!(
                    "let it begin with a window, a multiple of {seconds} seconds behind the begin of a day in UTC, so that none counts twice"
                )
            }
            Self::Month => {
                "every window of a service period is owed once: let it begin with a month in UTC, for example 2026-10-01T00:00:00Z"
                    .to_owned()
            }
        }
    }
}

impl<'c> Checker<'_, 'c, '_> {
    pub(super) fn windows(&mut self) {
        let mut books: BTreeMap<&str, Grain> = BTreeMap::new();
        for (located, book) in documents(self.contents, book) {
            let grains = self.grains(located, book);
            for (row, price) in book.prices.iter().enumerate() {
                let Some(grain) = grains.get(&price.sku).filter(|grain| !grain.begins(price.effective_at)) else { continue };
                let message = format!(
                    "price {:?} begins at {}, within a {} of sku {:?}, which has a commitment for each window",
                    price.id.as_str(),
                    price.effective_at,
                    grain.name(),
                    price.sku.as_str()
                );
                self.findings.add(located.at_row("price.effective_at", row), message, grain.remedy());
            }
            if let Some(strictest) = grains.into_values().max() {
                books.insert(&book.id, strictest);
            }
        }
        self.contracts_of(&books);
    }

    /// What the rows of each SKU must begin with; SKUs without a commitment are left out.
    fn grains(&mut self, located: &Located, book: &'c PriceBook) -> BTreeMap<&'c SkuId, Grain> {
        let mut grains: BTreeMap<&SkuId, Grain> = BTreeMap::new();
        for (row, price) in book.prices.iter().enumerate() {
            let Some(commitment) = price.model.commitment() else { continue };
            if let Some(grain) = self.commitment(located.at_row("price", row), price, commitment) {
                let known = grains.entry(&price.sku).or_insert(grain);
                *known = grain.max(*known);
            }
        }
        grains
    }

    fn commitment(&mut self, at: At, price: &PriceRow, commitment: &WindowCommitment) -> Option<Grain> {
        let Some(Document::Sku(sku)) = self.known.get(Kind::Sku, price.sku.as_str()) else { return None };
        let meter = self.known.meter(sku)?;
        let id = price.id.as_str();
        let Measure::Bucketed { seconds, then: Then::Alone, .. } = measure(&meter.aggregation) else {
            let message = format!(
                "price {id:?} has a window commitment, but meter {:?} has no windows that are priced alone: its aggregation is {:?}",
                meter.id.as_str(),
                meter.aggregation.name()
            );
            let remedy = "price a meter with aggregation = \"bucketed\" and then = \"alone\", or promise for the service period: \
                          a [[contract.term]] with kind = \"commitment\"";
            self.findings.add(at, message, remedy);
            return None;
        };
        if let (Promised::Quantity(quantity), Some(unit)) = (commitment.promised, self.known.unit_of(&price.sku))
            && quantity.units() % 10_i128.pow(Quantity::SCALE.saturating_sub(unit.scale)) != 0
        {
            let (unit, places) = (unit.id.as_str(), unit.scale);
            let message =
                format!("quantity of the window commitment of price {id:?} is {quantity}, but unit {unit:?} has {places} decimal places");
            self.findings.add(at, message, "round it, or raise the scale of the unit");
        }
        if commitment.true_up != WindowTrueUp::OwedAlways {
            return Some(Grain::Window(seconds));
        }
        if in_a_band(sku) {
            let message =
                format!("price {id:?} is owed for every window of the service period, but sku {:?} is for one {BAND}", sku.id.as_str());
            let remedy = "write true_up = \"owed_when_used\": of windows without readings nothing says in which band they lie";
            self.findings.add(at, message, remedy);
        }
        Some(Grain::Month)
    }

    /// Contracts end where the organization's next one begins.
    fn contracts_of(&mut self, books: &BTreeMap<&str, Grain>) {
        let mut schedule: BTreeMap<Option<&OrganizationId>, BTreeMap<Instant, (&Located, &Contract)>> = BTreeMap::new();
        for (located, contract) in documents(self.contents, contract) {
            let whom: Vec<Option<&OrganizationId>> = match &contract.covers {
                Covers::Default => vec![None],
                Covers::Organizations(organizations) => organizations.iter().map(Some).collect(),
            };
            for whom in whom {
                schedule.entry(whom).or_default().insert(contract.effective_at, (located, contract));
            }
        }
        let mut said = BTreeSet::new();
        for contracts in schedule.values() {
            let before = std::iter::once(None).chain(contracts.values().map(|(_, contract)| Some(*contract)));
            for (before, (located, contract)) in before.zip(contracts.values()) {
                let priced = [before, Some(*contract)].into_iter().flatten().map(|contract| contract.price_book.as_str());
                let strictest = priced.filter_map(|book| Some((*books.get(book)?, book))).max();
                let Some((grain, book)) = strictest.filter(|(grain, _)| !grain.begins(contract.effective_at)) else { continue };
                if !said.insert(&contract.id) {
                    continue;
                }
                let message = format!(
                    "contract {:?} begins at {}, within a {} of price book {book:?}, which has commitments for each window",
                    contract.id.as_str(),
                    contract.effective_at,
                    grain.name()
                );
                self.findings.add(located.at("effective_at"), message, grain.remedy());
            }
        }
    }
}

fn in_a_band(sku: &Sku) -> bool {
    sku.matches.keys().chain(sku.above.keys()).chain(sku.up_to.keys()).any(|name| name == BAND)
}
