//! Commitments of prices for each window: meters that have windows, and prices and contracts that begin with one, so that no window is promised
//! twice. It knows no usage.

use std::collections::{BTreeMap, BTreeSet};

use platform_rating::calendar::{Span, Zone};
use platform_rating::{Measure, Then};
use platform_usage::billable::BAND;
use shared_types::{Instant, OrganizationId, Quantity, SkuId};

use super::{Checker, book, contract, documents};
use crate::Kind;
use crate::compile::measure;
use crate::document::{Contract, Covers, Document, Meter, PriceBook, PriceRow, Promised, Sku, WindowCommitment, WindowTrueUp};
use crate::problem::At;
use crate::read::Located;

/// What prices and contracts must begin with.
#[derive(Clone, PartialEq, Eq)]
enum Grain {
    /// A service period.
    Month,
    /// A window of so many seconds.
    Window(u32),
    /// A window of a zone.
    Local(Span, Zone),
}

impl Grain {
    fn of_windows(seconds: u32, meter: &Meter) -> Option<Self> {
        let zone = Zone::parse(&meter.zone).ok()?;
        Some(match seconds {
            3_600 if zone != Zone::default() => Self::Local(Span::Hour, zone),
            86_400 if zone != Zone::default() => Self::Local(Span::Day, zone),
            seconds => Self::Window(seconds),
        })
    }

    fn begins(&self, at: Instant) -> bool {
        let month = at.month().start() == at;
        match self {
            Self::Month => month,
            // Windows divide days, and days begin the epoch and every month.
            Self::Window(seconds) => at.micros().checked_rem(i64::from(*seconds).saturating_mul(1_000_000)) == Some(0),
            // A month begins a window, also where it cuts one.
            Self::Local(span, zone) => month || zone.begins(*span, at) == Ok(true),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Month => "month",
            Self::Window(_) | Self::Local(..) => "window",
        }
    }

    /// What to write in the place of an instant within one.
    fn remedy(&self, at: Instant) -> String {
        match self {
            Self::Window(seconds) => {
                format!(
                    "let it begin with a window, a multiple of {seconds} seconds behind the begin of a day in UTC, so that none counts twice"
                )
            }
            Self::Local(span, zone) => {
                let month = at.month().start();
                let begin = zone.number_of(*span, month, at).and_then(|number| zone.begin_of(*span, month, number));
                let shown = begin.and_then(|begin| zone.shown(begin)).unwrap_or_default();
                let what = if *span == Span::Day { "a day" } else { "an hour" };
                format!("let it begin with {what} of {}, for example {shown}, so that no window counts twice", zone.name())
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
        let mut books: BTreeMap<&str, Vec<Grain>> = BTreeMap::new();
        for (located, book) in documents(self.contents, book) {
            let grains = self.grains(located, book);
            for (row, price) in book.prices.iter().enumerate() {
                let grains = grains.get(&price.sku).into_iter().flatten();
                let Some(grain) = cut_by(price.effective_at, grains) else { continue };
                let message = format!(
                    "price {:?} begins at {}, within a {} of sku {:?}, which has a commitment for each window",
                    price.id.as_str(),
                    price.effective_at,
                    grain.name(),
                    price.sku.as_str()
                );
                self.findings.add(located.at_row("price.effective_at", row), message, grain.remedy(price.effective_at));
            }
            let grains: Vec<Grain> = grains.into_values().flatten().collect();
            books.insert(&book.id, grains);
        }
        self.contracts_of(&books);
    }

    /// What the rows of each SKU must begin with; SKUs without a commitment are left out.
    fn grains(&mut self, located: &Located, book: &'c PriceBook) -> BTreeMap<&'c SkuId, Vec<Grain>> {
        let mut grains: BTreeMap<&SkuId, Vec<Grain>> = BTreeMap::new();
        for (row, price) in book.prices.iter().enumerate() {
            let Some(commitment) = price.model.commitment() else { continue };
            if let Some(grain) = self.commitment(located.at_row("price", row), price, commitment) {
                grains.entry(&price.sku).or_default().push(grain);
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
            return Grain::of_windows(seconds, meter);
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
    fn contracts_of(&mut self, books: &BTreeMap<&str, Vec<Grain>>) {
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
                let mut priced = [before, Some(*contract)].into_iter().flatten().map(|contract| contract.price_book.as_str());
                let cut = priced.find_map(|book| Some((cut_by(contract.effective_at, books.get(book)?)?, book)));
                let Some((grain, book)) = cut else { continue };
                if !said.insert(&contract.id) {
                    continue;
                }
                let message = format!(
                    "contract {:?} begins at {}, within a {} of price book {book:?}, which has commitments for each window",
                    contract.id.as_str(),
                    contract.effective_at,
                    grain.name()
                );
                self.findings.add(located.at("effective_at"), message, grain.remedy(contract.effective_at));
            }
        }
    }
}

/// Which of them an instant lies within: a month before a window.
fn cut_by<'g>(at: Instant, grains: impl IntoIterator<Item = &'g Grain>) -> Option<&'g Grain> {
    grains.into_iter().filter(|grain| !grain.begins(at)).max_by_key(|grain| match grain {
        Grain::Month => u32::MAX,
        Grain::Window(seconds) => *seconds,
        Grain::Local(Span::Day, _) => 86_400,
        Grain::Local(Span::Hour, _) => 3_600,
    })
}

fn in_a_band(sku: &Sku) -> bool {
    sku.matches.keys().chain(sku.above.keys()).chain(sku.up_to.keys()).any(|name| name == BAND)
}
