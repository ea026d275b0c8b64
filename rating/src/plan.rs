//! What the registry compiles for rating: contracts, lines, price rows. Plain data with look-ups; it knows no documents.

use std::collections::BTreeMap;
use std::sync::Arc;

use platform_usage::{Dimensions, Reason};
use shared_types::{AssetId, ContractId, Digest, Instant, MeterId, OrganizationId, Price, PriceId, Quantity, SkuId};

use crate::basis::{Basis, Measure, Then};
use crate::evaluate::defect_of;

/// One tier of a tiered price: usage above the previous tier's bound up to and including `up_to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Upper bound in the meter's unit, inclusive; none for the last tier.
    pub up_to: Option<Quantity>,
    /// Money for `per` units inside this tier.
    pub unit_price: Price,
    /// Money that falls due once any usage lies in this tier.
    pub flat_fee: Price,
}

/// How a quantity becomes money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PriceModel {
    /// quantity × unit price.
    PerUnit {
        /// Money for `per` units.
        unit_price: Price,
    },
    /// Whole packages of `size` units, begun ones counted: ceil(quantity / size) × package price. Negative quantities owe nothing.
    Package {
        /// Units in a package, above zero.
        size: Quantity,
        /// Money for a package.
        package_price: Price,
    },
    /// Each tier's part of the quantity at the tier's price.
    Graduated {
        /// Tiers with rising bounds, the last one open.
        tiers: Vec<Tier>,
    },
    /// The whole quantity at the price of the tier that it reaches.
    Volume {
        /// Tiers with rising bounds, the last one open.
        tiers: Vec<Tier>,
    },
    /// A share of a value, fees for each reading, and what is free of both.
    Percentage(Percentage),
    /// Blocks of a size, begun ones counted: each tier's part in blocks of that tier, or everything in blocks of the tier reached.
    Blocks {
        /// Tiers with rising bounds, the last one open.
        tiers: Vec<BlockTier>,
        /// Whether everything is priced by the tier reached.
        top: bool,
    },
    /// An amount for the service period, whatever the quantity, as soon as there is a state.
    Flat {
        /// Money for the period.
        amount: Price,
    },
    /// Nothing is owed, by a named rule.
    Free {
        /// The rule's name, for example `launch-promotion`.
        rule: Arc<str>,
    },
    /// Another model, of windows that are priced alone, each against what was promised for it.
    Committed {
        /// What was promised, and what becomes of more and of less.
        commitment: WindowCommitment,
        /// The model; never another commitment, percentage, amount or free one.
        model: Box<PriceModel>,
    },
}

impl PriceModel {
    /// The model that makes money of a quantity, without what was promised for windows.
    pub fn of_quantity(&self) -> &Self {
        if let Self::Committed { model, .. } = self { model } else { self }
    }
}

/// A promise for each window: a bucket of a measure that prices each bucket alone.
///
/// What a window costs by the model is owed up to what was promised for it; what it costs beyond is owed × the factor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowCommitment {
    /// How much is promised for a window.
    pub promised: Promised,
    /// What a window costs beyond it, as a multiple; above zero.
    pub overage_factor: Quantity,
    /// Whether what is missing to it is owed.
    pub true_up: TrueUp,
}

/// How much is promised for a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promised {
    /// Money, above zero.
    Amount(Price),
    /// What a window costs that measures this many of the meter's unit, above zero.
    Quantity(Quantity),
}

/// Which windows owe what is missing to what was promised for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrueUp {
    /// None.
    None,
    /// Those with a reading.
    WhenUsed,
    /// All of the service period, as soon as the price has a reading in it.
    Always,
}

impl WindowCommitment {
    /// What is wrong with it whatever the state.
    pub(crate) fn defect(&self, basis: &Basis, model: &PriceModel) -> Option<&'static str> {
        let promised = match self.promised {
            Promised::Amount(amount) => amount > Price::ZERO,
            Promised::Quantity(quantity) => quantity > Quantity::ZERO,
        };
        if !promised || self.overage_factor <= Quantity::ZERO {
            return Some("what it promises for a window, or its overage factor, is not above zero");
        }
        if !matches!(basis.measure, Measure::Bucketed { then: Then::Alone, .. }) {
            return Some("it has a commitment for windows, and none are priced alone");
        }
        match model {
            PriceModel::Committed { .. } | PriceModel::Percentage(_) | PriceModel::Flat { .. } | PriceModel::Free { .. } => {
                Some("its model has no cost for each window")
            }
            _ => None,
        }
    }
}

/// One tier of blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockTier {
    /// Upper bound in the meter's unit, inclusive; none for the last tier.
    pub up_to: Option<Quantity>,
    /// Units in a block, above zero.
    pub size: Quantity,
    /// Money for a block.
    pub block_price: Price,
}

/// A share of a value, fees for each reading, and what is free of both. Nothing is owed while Σ quantity is zero or less.
///
/// The allowance frees the first readings by (start, identity, ordinal), until the number or the sum that is given first is used up; the
/// reading that reaches the sum is charged for what lies beyond it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Percentage {
    /// Money for `per` units of the value: with `per` = 100 the rate in percent.
    pub rate: Price,
    /// Money for each reading that is not free.
    pub fee: Price,
    /// The least that the share of one reading comes to.
    pub least: Option<Price>,
    /// The most that the share of one reading comes to.
    pub most: Option<Price>,
    /// How many readings are free; zero sets no such limit.
    pub free_readings: u64,
    /// How much of the value is free; zero sets no such limit.
    pub free_quantity: Quantity,
}

impl Percentage {
    /// Whether the sums of all readings are enough to price them.
    pub fn is_linear(&self) -> bool {
        self.least.is_none() && self.most.is_none() && self.free_readings == 0 && self.free_quantity == Quantity::ZERO
    }

    /// Whether a reading's share lies below the least, above the most, or between; none when it cannot be told in 256 bits.
    pub(crate) fn class(&self, per: Quantity, quantity: Quantity) -> Option<std::cmp::Ordering> {
        use ethnum::I256;
        let share = I256::from(self.rate.units()).checked_mul(I256::from(quantity.units()))?;
        let bound = |bound: Price| I256::from(bound.units()).checked_mul(I256::from(per.units()));
        if let Some(least) = self.least
            && share < bound(least)?
        {
            return Some(std::cmp::Ordering::Less);
        }
        match self.most {
            Some(most) if share > bound(most)? => Some(std::cmp::Ordering::Greater),
            _ => Some(std::cmp::Ordering::Equal),
        }
    }
}

/// One row of a price book: a price for a SKU from an instant on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceRow {
    /// Its name, unique in the registry version.
    pub id: PriceId,
    /// In force for usage that starts at or after this instant, until the next row of the SKU.
    pub effective_at: Instant,
    /// Unit size: unit prices are money for this many units, above zero (`1000000` for a price per million tokens).
    pub per: Quantity,
    /// The model.
    pub model: PriceModel,
    /// What the model is applied to.
    pub basis: Basis,
}

/// A range that a reading's dimension must lie in, for example a context of more than 200,000 tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Band {
    /// The dimension; its value must be a plain decimal of at most 29 digits before the point and 9 behind it.
    pub dimension: Arc<str>,
    /// Lower bound, exclusive.
    pub above: Option<Quantity>,
    /// Upper bound, inclusive.
    pub up_to: Option<Quantity>,
}

/// One SKU of one price book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What is sold.
    pub sku: SkuId,
    /// Revenue family, for example `token-factory`: the ledger books revenue by it.
    pub family: Arc<str>,
    /// The meter whose readings it prices.
    pub meter: MeterId,
    /// Dimension values that a reading must carry. More of them, bands counted, win over fewer; the registry refuses ties that could both
    /// match.
    pub matches: Dimensions,
    /// Ranges that a reading must lie in, of other dimensions than `matches`, one for each.
    pub bands: Vec<Band>,
    /// Rows by rising `effective_at`.
    pub prices: Vec<PriceRow>,
}

/// A price book: lines in one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceBook {
    /// The currency.
    pub currency: AssetId,
    /// Lines by meter, most specific first, then by SKU.
    pub lines: BTreeMap<MeterId, Vec<Line>>,
}

/// An agreement that binds an organization to a price book from an instant on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// Its name.
    pub id: ContractId,
    /// Covers usage that starts at or after this instant, until the organization's next contract.
    pub effective_at: Instant,
    /// Index into [`Plan::books`].
    pub book: usize,
}

/// Everything that rating needs of one registry version.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Plan {
    /// Content address of the registry version.
    pub version: Digest,
    /// Price books.
    pub books: Vec<PriceBook>,
    /// Contracts by organization, rising `effective_at`.
    pub contracts: BTreeMap<OrganizationId, Vec<Contract>>,
    /// Contracts for organizations without one of their own, rising `effective_at`.
    pub default_contracts: Vec<Contract>,
}

/// The price of one reading.
#[derive(Clone, Copy, Debug)]
pub struct Resolved<'a> {
    /// The contract.
    pub contract: &'a Contract,
    /// The book's currency.
    pub currency: &'a AssetId,
    /// The line.
    pub line: &'a Line,
    /// The row in force.
    pub price: &'a PriceRow,
}

impl Plan {
    /// The price of a reading, or why there is none.
    ///
    /// - The organization's own contracts hide the default ones altogether.
    /// - Errors: `NoContract`, `Unpriced`.
    /// - Source: blueprint §5, prices go by event time.
    pub fn resolve(
        &self,
        organization: &OrganizationId,
        meter: &MeterId,
        dimensions: &Dimensions,
        at: Instant,
    ) -> Result<Resolved<'_>, Reason> {
        self.resolve_under(self.contracts_of(organization), at, |_, book| book.line(meter, dimensions))
    }

    /// The contracts that can cover an organization's usage, rising `effective_at`.
    pub fn contracts_of(&self, organization: &OrganizationId) -> &[Contract] {
        self.contracts.get(organization).unwrap_or(&self.default_contracts)
    }

    /// [`Plan::resolve`] with the look-ups that callers remember: the organization's contracts, and the line of a book (by index).
    pub(crate) fn resolve_under<'a>(
        &'a self,
        contracts: &'a [Contract],
        at: Instant,
        line: impl FnOnce(usize, &'a PriceBook) -> Option<&'a Line>,
    ) -> Result<Resolved<'a>, Reason> {
        let contract = last_at(contracts, at, |contract| contract.effective_at).ok_or(Reason::NoContract)?;
        let book = self.books.get(contract.book).ok_or(Reason::NoContract)?;
        let line = line(contract.book, book).ok_or(Reason::Unpriced)?;
        let price = last_at(&line.prices, at, |price| price.effective_at).ok_or(Reason::Unpriced)?;
        Ok(Resolved { contract, currency: &book.currency, line, price })
    }

    /// Checks what rating relies on; the registry calls it before it publishes.
    ///
    /// - Contracts and price rows have rising instants, contracts name books that exist.
    /// - Lines lie under their own meter, more specific ones first; those of one SKU in one book share a family.
    /// - Price rows are well-formed, and a name stands for one row: two lines of a SKU may repeat a row, never vary it.
    /// - Not checked: whether two equally specific lines could match one reading.
    pub fn validate(&self) -> Result<(), PlanError> {
        for contracts in self.contracts.values().chain([&self.default_contracts]) {
            self.validate_contracts(contracts)?;
        }
        let mut rows: BTreeMap<&PriceId, &PriceRow> = BTreeMap::new();
        for book in &self.books {
            book.validate()?;
            for row in book.lines.values().flatten().flat_map(|line| &line.prices) {
                if rows.insert(&row.id, row).is_some_and(|known| known != row) {
                    return Err(PlanError::PriceAmbiguous { price: row.id.clone() });
                }
            }
        }
        Ok(())
    }

    fn validate_contracts(&self, contracts: &[Contract]) -> Result<(), PlanError> {
        for contract in contracts {
            if contract.book >= self.books.len() {
                return Err(PlanError::BookMissing { contract: contract.id.clone(), book: contract.book });
            }
        }
        match not_after(contracts, |contract| contract.effective_at) {
            Some(contract) => Err(PlanError::ContractOrder { contract: contract.id.clone() }),
            None => Ok(()),
        }
    }
}

impl PriceBook {
    /// The first line of a meter that matches the dimensions.
    pub fn line(&self, meter: &MeterId, dimensions: &Dimensions) -> Option<&Line> {
        let lines = self.lines.get(meter)?;
        lines.iter().find(|line| line.takes(dimensions))
    }

    fn validate(&self) -> Result<(), PlanError> {
        let mut families: BTreeMap<&SkuId, &Arc<str>> = BTreeMap::new();
        for (meter, lines) in &self.lines {
            let mut most = usize::MAX;
            for line in lines {
                let names = line.names();
                if line.meter != *meter || names > most {
                    return Err(PlanError::LineOrder { meter: meter.clone(), sku: line.sku.clone() });
                }
                most = names;
                if families.insert(&line.sku, &line.family).is_some_and(|family| *family != line.family) {
                    return Err(PlanError::FamilyAmbiguous { sku: line.sku.clone() });
                }
                line.validate()?;
            }
        }
        Ok(())
    }
}

impl Band {
    /// Whether a value lies in the band; what is absent or no number lies in none.
    pub fn holds(&self, value: Option<&str>) -> bool {
        let Some(value) = value.and_then(plain) else { return false };
        self.above.is_none_or(|above| value > above) && self.up_to.is_none_or(|up_to| value <= up_to)
    }
}

/// Every verifier reads these alike; exponents and finer numbers are no such decimals.
fn plain(value: &str) -> Option<Quantity> {
    let (integer, fraction) = value.split_once('.').map_or((value, None), |(integer, fraction)| (integer, Some(fraction)));
    let digits = |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let well = digits(integer.strip_prefix('-').unwrap_or(integer), 29) && fraction.is_none_or(|fraction| digits(fraction, 9));
    well.then(|| Quantity::parse(value).ok()).flatten()
}

impl Line {
    /// Whether readings with these dimensions are of this line, unless a more specific one takes them.
    pub fn takes(&self, dimensions: &Dimensions) -> bool {
        self.matches.iter().all(|(name, value)| dimensions.get(name) == Some(value))
            && self.bands.iter().all(|band| band.holds(dimensions.get(&band.dimension)))
    }

    /// How many dimensions it asks for.
    pub fn names(&self) -> usize {
        self.matches.iter().count().saturating_add(self.bands.len())
    }

    fn validate(&self) -> Result<(), PlanError> {
        if let Some(row) = not_after(&self.prices, |row| row.effective_at) {
            return Err(PlanError::PriceOrder { price: row.id.clone() });
        }
        for row in &self.prices {
            if let Some(defect) = defect_of(row) {
                return Err(PlanError::PriceMalformed { price: row.id.clone(), defect });
            }
        }
        Ok(())
    }
}

/// Why a plan cannot be rated under.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A contract names a book that is not there.
    #[error("contract {contract} names price book {book}, which does not exist")]
    BookMissing {
        /// The contract.
        contract: ContractId,
        /// The index it names.
        book: usize,
    },
    /// A contract does not begin after the one before it.
    #[error("contract {contract} does not begin after the one before it")]
    ContractOrder {
        /// The contract.
        contract: ContractId,
    },
    /// A line lies under another meter, or behind a less specific one.
    #[error("the line of sku {sku} is out of place under meter {meter}")]
    LineOrder {
        /// Where it lies.
        meter: MeterId,
        /// Its SKU.
        sku: SkuId,
    },
    /// Two lines of a SKU in one book name different families.
    #[error("sku {sku} has two revenue families")]
    FamilyAmbiguous {
        /// The SKU.
        sku: SkuId,
    },
    /// A price row does not begin after the one before it.
    #[error("price {price} does not begin after the one before it")]
    PriceOrder {
        /// The row.
        price: PriceId,
    },
    /// A price row has no meaning.
    #[error("price {price} is malformed: {defect}")]
    PriceMalformed {
        /// The row.
        price: PriceId,
        /// What is wrong with it.
        defect: &'static str,
    },
    /// Two different price rows share a name.
    #[error("price {price} stands for two different rows")]
    PriceAmbiguous {
        /// The name.
        price: PriceId,
    },
}

/// The first item that does not come after its predecessor.
fn not_after<T>(items: &[T], effective_at: impl Fn(&T) -> Instant) -> Option<&T> {
    items.iter().zip(items.iter().skip(1)).find(|(before, item)| effective_at(before) >= effective_at(item)).map(|(_, item)| item)
}

/// The last item in force at an instant; items have rising instants.
fn last_at<T>(items: &[T], at: Instant, effective_at: impl Fn(&T) -> Instant) -> Option<&T> {
    let after = items.partition_point(|item| effective_at(item) <= at);
    items.get(after.checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, day: i64, price: &str) -> PriceRow {
        PriceRow {
            id: PriceId::parse(id).unwrap(),
            effective_at: Instant::from_micros(day * 86_400_000_000).unwrap(),
            per: "1".parse().unwrap(),
            model: PriceModel::PerUnit { unit_price: price.parse().unwrap() },
            basis: Basis::default(),
        }
    }

    fn line(sku: &str, models: &[&str], prices: Vec<PriceRow>) -> Line {
        Line {
            sku: SkuId::parse(sku).unwrap(),
            family: "tokens".into(),
            meter: MeterId::parse("m").unwrap(),
            matches: Dimensions::new(models.iter().map(|model| ("model".into(), (*model).into()))),
            bands: Vec::new(),
            prices,
        }
    }

    fn plan(lines: Vec<Line>) -> Plan {
        let contract = |day: i64| Contract {
            id: ContractId::parse("c").unwrap(),
            effective_at: Instant::from_micros(day * 86_400_000_000).unwrap(),
            book: 0,
        };
        let lines = BTreeMap::from([(MeterId::parse("m").unwrap(), lines)]);
        Plan {
            version: Digest::ZERO,
            books: vec![PriceBook { currency: AssetId::parse("USD").unwrap(), lines }],
            contracts: BTreeMap::from([(OrganizationId::parse("own").unwrap(), vec![contract(5)])]),
            default_contracts: vec![contract(0)],
        }
    }

    #[test]
    fn own_contracts_hide_default_ones_and_specific_lines_come_first() {
        let plan = plan(vec![line("a", &["x"], vec![row("p", 0, "1"), row("q", 9, "1")]), line("b", &[], vec![row("r", 2, "1")])]);
        assert_eq!(plan.validate(), Ok(()));
        let resolve = |organization: &str, model: &str, day: i64| {
            let dimensions = Dimensions::new([("model".into(), model.into())]);
            let at = Instant::from_micros(day * 86_400_000_000).unwrap();
            plan.resolve(&organization.parse().unwrap(), &MeterId::parse("m").unwrap(), &dimensions, at)
                .map(|resolved| resolved.price.id.to_string())
        };
        assert_eq!(resolve("any", "x", 8).as_deref(), Ok("p"));
        assert_eq!(resolve("any", "x", 9).as_deref(), Ok("q"));
        assert_eq!(resolve("any", "y", 2).as_deref(), Ok("r"));
        assert_eq!(resolve("any", "y", 1), Err(Reason::Unpriced));
        assert_eq!(resolve("own", "x", 4), Err(Reason::NoContract));
        assert_eq!(resolve("own", "x", 5).as_deref(), Ok("p"));
    }

    #[test]
    fn a_band_takes_numbers_above_its_lower_bound_up_to_the_upper_one() {
        let band = |above: Option<&str>, up_to: Option<&str>| Band {
            dimension: "context".into(),
            above: above.map(|bound| bound.parse().unwrap()),
            up_to: up_to.map(|bound| bound.parse().unwrap()),
        };
        let in_band = |band: &Band| ["200000", "200000.5", "256000", "256001"].map(|value| band.holds(Some(value)));
        assert_eq!(in_band(&band(Some("200000"), None)), [false, true, true, true]);
        assert_eq!(in_band(&band(Some("200000"), Some("256000"))), [false, true, true, false]);
        assert_eq!(in_band(&band(None, Some("200000"))), [true, false, false, false]);
        assert!(
            [None, Some(""), Some("many"), Some("-"), Some("-2e0"), Some("+0"), Some("0."), Some("0.0000000001")]
                .iter()
                .all(|value| !band(None, Some("1")).holds(*value))
        );
        let short = Line { bands: vec![band(None, Some("200000"))], ..line("short", &["x"], vec![row("p", 0, "1")]) };
        let long = Line { bands: vec![band(Some("200000"), None)], ..line("long", &["x"], vec![row("q", 0, "2")]) };
        let plan = plan(vec![short, long, line("any", &["x"], vec![row("r", 0, "3")])]);
        assert_eq!(plan.validate(), Ok(()));
        let sku = |context: Option<&str>| {
            let pairs = context.map(|context| ("context".into(), context.into())).into_iter().chain([("model".into(), "x".into())]);
            let book = plan.books.first().unwrap();
            book.line(&MeterId::parse("m").unwrap(), &Dimensions::new(pairs)).map(|line| line.sku.to_string())
        };
        assert_eq!(sku(Some("200000")).as_deref(), Some("short"));
        assert_eq!(sku(Some("200001")).as_deref(), Some("long"));
        assert_eq!(sku(None).as_deref(), Some("any"));
    }

    #[test]
    fn plans_that_rating_cannot_rely_on_are_refused() {
        let refused = |lines: Vec<Line>| plan(lines).validate().unwrap_err().to_string();
        assert_eq!(
            refused(vec![line("a", &[], vec![row("p", 1, "1"), row("q", 1, "1")])]),
            "price q does not begin after the one before it"
        );
        assert_eq!(refused(vec![line("a", &[], vec![]), line("b", &["x"], vec![])]), "the line of sku b is out of place under meter m");
        let varied = vec![line("a", &["x"], vec![row("p", 1, "1")]), line("a", &[], vec![row("p", 1, "2")])];
        assert_eq!(refused(varied), "price p stands for two different rows");
        let repeated = vec![line("a", &["x"], vec![row("p", 1, "1")]), line("a", &[], vec![row("p", 1, "1")])];
        assert_eq!(plan(repeated).validate(), Ok(()));
        let mut families = vec![line("a", &["x"], vec![]), line("a", &[], vec![])];
        families[1].family = "gpu".into();
        assert_eq!(refused(families), "sku a has two revenue families");
        let mut free_of_size = row("p", 1, "1");
        free_of_size.per = Quantity::ZERO;
        assert_eq!(refused(vec![line("a", &[], vec![free_of_size])]), "price p is malformed: its unit size is not above zero");
        let mut bookless = plan(vec![]);
        bookless.default_contracts[0].book = 1;
        assert_eq!(bookless.validate().unwrap_err().to_string(), "contract c names price book 1, which does not exist");
        let mut twice = plan(vec![]);
        twice.default_contracts.extend(twice.default_contracts.clone());
        assert_eq!(twice.validate().unwrap_err().to_string(), "contract c does not begin after the one before it");
    }
}
