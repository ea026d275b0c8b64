//! A plan with one price and readings for it: what it takes to put a case through `rate` and `evaluate`.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use num_bigint::BigInt;
use num_rational::BigRational;
use platform_rating::{
    Basis, Contract, Evaluation, Line, Plan, PriceBook, PriceIndex, PriceModel, PriceRow, RatingState, Segment, evaluate, rate,
};
use platform_usage::{Dimensions, MeteredReading};
use shared_types::{
    Amount, AssetId, ContractId, Digest, IdentityHash, Incarnation, Instant, MeterId, OrganizationId, Position, PriceId, Quantity,
    Sequence, ShardId, SkuId, SourceId, UnitId,
};

use super::value::rational;

/// Begin of the service period where a case names none: a month of 31 days.
pub const PERIOD: &str = "2024-01-01T00:00:00Z";

const ORGANIZATION: &str = "golden";

/// A price under test and what was rated with it so far.
pub struct Bench {
    plan: Plan,
    state: RatingState,
    sequence: u64,
}

/// One reading to be.
#[derive(Clone, Debug)]
pub struct Use {
    /// How much.
    pub quantity: Quantity,
    /// When it begins.
    pub start_at: Instant,
    /// When it ends, for intervals.
    pub end_at: Option<Instant>,
    /// The value of the dimension `item`.
    pub item: Option<String>,
}

impl Use {
    /// A quantity so many seconds after the begin of the period.
    pub fn after(seconds: i64, quantity: Quantity) -> anyhow::Result<Self> {
        Self::in_period(Instant::parse(PERIOD)?, seconds, quantity)
    }

    /// A quantity so many seconds after the begin of another period.
    pub fn in_period(begin: Instant, seconds: i64, quantity: Quantity) -> anyhow::Result<Self> {
        let start_at = Instant::from_micros(begin.micros() + seconds * 1_000_000)?;
        Ok(Self { quantity, start_at, end_at: None, item: None })
    }

    /// The same, held for so many microseconds.
    pub fn held(self, micros: i64) -> anyhow::Result<Self> {
        Ok(Self { end_at: Some(Instant::from_micros(self.start_at.micros() + micros)?), ..self })
    }
}

/// A quantity as readings in the first seconds of the period: in one piece, or in so many whose last takes the rest, in falling order of time.
pub fn uses(quantity: Quantity, pieces: u32) -> anyhow::Result<Vec<Use>> {
    let part = quantity.units() / i128::from(pieces.max(1));
    let mut left = quantity;
    let mut uses = Vec::new();
    for piece in (1..pieces.max(1)).rev() {
        let part = Quantity::from_units(part)?;
        left = left.checked_sub(part)?;
        uses.push(Use::after(i64::from(piece), part)?);
    }
    uses.push(Use::after(0, left)?);
    Ok(uses)
}

impl Bench {
    /// A price for `per` units.
    pub fn new(per: &str, model: PriceModel, basis: Basis) -> anyhow::Result<Self> {
        let row = PriceRow { id: PriceId::parse("price")?, effective_at: Instant::EPOCH, per: per.parse()?, model, basis };
        let meter = MeterId::parse("meter")?;
        let line = Line {
            bands: Vec::new(),
            sku: SkuId::parse("sku")?,
            family: "golden".into(),
            meter: meter.clone(),
            matches: Dimensions::default(),
            prices: vec![row],
        };
        let plan = Plan {
            version: Digest::ZERO,
            books: vec![PriceBook { currency: AssetId::parse("USD")?, lines: BTreeMap::from([(meter, vec![line])]) }],
            contracts: BTreeMap::new(),
            default_contracts: vec![Contract { id: ContractId::parse("contract")?, effective_at: Instant::EPOCH, book: 0 }],
        };
        plan.validate()?;
        Ok(Self { plan, state: RatingState::default(), sequence: 0 })
    }

    /// Rates readings as one batch on what was rated before; their charges.
    pub fn rate(&mut self, uses: &[Use]) -> anyhow::Result<Vec<Amount>> {
        let mut readings = Vec::new();
        for used in uses {
            self.sequence += 1;
            let item = used.item.iter().map(|item| ("item".into(), item.as_str().into()));
            readings.push(MeteredReading {
                position: Position {
                    shard: ShardId::of_organization(ORGANIZATION),
                    incarnation: Incarnation(1),
                    sequence: Sequence(self.sequence),
                },
                ordinal: 0,
                identity: IdentityHash(u128::from(self.sequence).to_be_bytes()),
                organization: OrganizationId::parse(ORGANIZATION)?,
                project: None,
                source: SourceId::parse("source")?,
                meter: MeterId::parse("meter")?,
                unit: UnitId::parse("unit")?,
                dimensions: Dimensions::new(item),
                quantity: used.quantity,
                start_at: used.start_at,
                end_at: used.end_at,
                accepted_at: used.start_at,
                accounting_period: used.start_at.month(),
                commitment: Digest::ZERO,
                refused: None,
            });
        }
        let batch = rate(&self.state, &self.plan, &readings, 1)?;
        self.state.apply(batch.overlay);
        batch
            .charges
            .iter()
            .map(|charge| charge.fate.amount().with_context(|| format!("not charged: {:?}", charge.fate.reason())))
            .collect()
    }

    /// F of the only key, explained; T is checked against what was charged.
    pub fn evaluation(&self) -> anyhow::Result<Evaluation> {
        let (_, key) = self.state.keys().next().context("nothing was rated")?;
        ensure!(self.state.keys().len() == 1, "the readings fell into several service periods");
        let evaluation = evaluate(&key.segments, &PriceIndex::of(&self.plan))?;
        ensure!(evaluation.rounded == key.total, "T is {}, but {} was charged", evaluation.rounded, key.total);
        Ok(evaluation)
    }

    /// The only segment of F.
    pub fn segment(&self) -> anyhow::Result<Segment> {
        self.evaluation()?.segments.into_iter().next().context("the state has no segment")
    }

    /// F exactly.
    pub fn exact(&self) -> anyhow::Result<BigRational> {
        rational(&self.evaluation()?.exact)
    }
}

/// A price that rated some readings.
pub fn rated(per: &str, model: PriceModel, basis: Basis, uses: &[Use]) -> anyhow::Result<Bench> {
    let mut bench = Bench::new(per, model, basis)?;
    bench.rate(uses)?;
    Ok(bench)
}

/// Starts of service periods, one for each length that a month has.
const MONTHS: [(&str, i64); 4] =
    [("2024-01-01T00:00:00Z", 31), ("2024-06-01T00:00:00Z", 30), ("2024-02-01T00:00:00Z", 29), ("2023-02-01T00:00:00Z", 28)];

/// A service period in which every share is a whole number of microseconds: its begin, and the microseconds.
pub fn shares(shares: &[BigRational]) -> anyhow::Result<(Instant, Vec<i64>)> {
    for (start, days) in MONTHS {
        let period = BigRational::from_integer(BigInt::from(days * 86_400_000_000));
        let micros: Vec<BigRational> = shares.iter().map(|share| share * &period).collect();
        if micros.iter().all(BigRational::is_integer) {
            let micros = micros.iter().map(|micros| i64::try_from(micros.to_integer())).collect::<Result<_, _>>()?;
            return Ok((Instant::parse(start)?, micros));
        }
    }
    anyhow::bail!("no month holds the shares in whole microseconds")
}

/// Begin of a service period of so many days.
pub fn period_of(days: i64) -> anyhow::Result<Instant> {
    let month = MONTHS.into_iter().find(|(_, length)| *length == days);
    Ok(Instant::parse(month.with_context(|| format!("no month has {days} days"))?.0)?)
}
