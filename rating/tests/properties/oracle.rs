//! The oracle: readings one by one on big rationals, by the words of the price models. It shares plain data with rating, no code.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_rational::BigRational;
use platform_rating::{Key, Line, Plan, PriceModel, PriceRow, Tier};
use platform_usage::MeteredReading;
use shared_types::Instant;

/// How a total stood exactly between two amounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    Down,
    Up,
    Negative,
}

/// What became of a reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    pub code: String,
    pub reason: Option<String>,
    pub price: Option<String>,
    pub log_seq: Option<u64>,
    pub amount: Option<i128>,
}

#[derive(Default)]
struct Account<'a> {
    sums: Vec<(&'a PriceRow, BigInt)>,
    total: BigInt,
    last_at: Option<Instant>,
}

pub struct Oracle<'a> {
    plan: &'a Plan,
    accounts: BTreeMap<Key, Account<'a>>,
    logs: BTreeMap<(String, String), u64>,
    pub fates: Vec<Fate>,
    pub ties: Vec<Tie>,
    pub late: u64,
}

fn rational(units: impl Into<BigInt>, scale: u32) -> BigRational {
    BigRational::new(units.into(), BigInt::from(10).pow(scale))
}

fn zero() -> BigRational {
    BigRational::from_integer(BigInt::from(0))
}

/// `n/d + n/d + n` as a number.
pub fn parse(text: &str) -> BigRational {
    text.split(" + ").fold(zero(), |sum, term| {
        let (numerator, denominator) = term.split_once('/').unwrap_or((term, "1"));
        sum + BigRational::new(numerator.parse().unwrap(), denominator.parse().unwrap())
    })
}

/// Money to units of 10^-9, half to even; whether it was a tie.
pub fn round(money: &BigRational) -> (BigInt, Option<Tie>) {
    let units = money * rational(1_000_000_000, 0);
    let floor = units.floor().to_integer();
    let rest = &units - units.floor();
    let half = BigRational::new(BigInt::from(1), BigInt::from(2));
    let even = &floor % 2 == BigInt::from(0);
    if rest == half {
        let negative = units < zero();
        let tie = if negative {
            Tie::Negative
        } else if even {
            Tie::Down
        } else {
            Tie::Up
        };
        (if even { floor } else { floor + 1 }, Some(tie))
    } else {
        (if rest > half { floor + 1 } else { floor }, None)
    }
}

/// What a row's model asks for a quantity.
fn worth(row: &PriceRow, quantity: &BigRational) -> BigRational {
    let per = rational(row.per.units(), 9);
    let above_zero = *quantity > zero();
    let price_of = |tier: &Tier| rational(tier.unit_price.units(), 18) / &per;
    let fee_of = |tier: &Tier| rational(tier.flat_fee.units(), 18);
    let bound_of = |tier: &Tier| tier.up_to.map(|bound| rational(bound.units(), 9));
    match &row.model {
        PriceModel::PerUnit { unit_price } => quantity * rational(unit_price.units(), 18) / per,
        PriceModel::Package { .. } if !above_zero => zero(),
        PriceModel::Package { size, package_price } => (quantity / rational(size.units(), 9)).ceil() * rational(package_price.units(), 18),
        PriceModel::Graduated { tiers } if !above_zero => quantity * price_of(&tiers[0]),
        PriceModel::Graduated { tiers } => {
            let mut owed = zero();
            let mut left = quantity.clone();
            let mut lower = zero();
            for tier in tiers {
                let room = bound_of(tier).map(|bound| bound - &lower);
                let part = room.as_ref().map_or(left.clone(), |room| left.clone().min(room.clone()));
                if part > zero() {
                    owed += &part * price_of(tier) + fee_of(tier);
                }
                left -= part;
                lower += room.unwrap_or_else(zero);
            }
            owed
        }
        PriceModel::Volume { tiers } => {
            let reached = tiers.iter().find(|tier| bound_of(tier).is_none_or(|bound| *quantity <= bound)).unwrap();
            let fee = if above_zero { fee_of(reached) } else { zero() };
            quantity * price_of(reached) + fee
        }
        PriceModel::Free { .. } => zero(),
        other => panic!("{other:?} has an oracle of its own"),
    }
}

impl<'a> Oracle<'a> {
    pub fn new(plan: &'a Plan) -> Self {
        Self { plan, accounts: BTreeMap::new(), logs: BTreeMap::new(), fates: Vec::new(), ties: Vec::new(), late: 0 }
    }

    pub fn totals(&self) -> BTreeMap<Key, i128> {
        self.accounts.iter().map(|(key, account)| (key.clone(), i128::try_from(account.total.clone()).unwrap())).collect()
    }

    pub fn rate(&mut self, reading: &MeteredReading) {
        let fate = self.fate(reading);
        self.fates.push(fate);
    }

    fn price(&self, reading: &MeteredReading) -> Result<(Key, &'a Line, &'a PriceRow), &'static str> {
        let contracts = match self.plan.contracts.get(&reading.organization) {
            Some(own) => own,
            None => &self.plan.default_contracts,
        };
        let contract = contracts.iter().rfind(|contract| contract.effective_at <= reading.start_at).ok_or("no_contract")?;
        let book = &self.plan.books[contract.book];
        let matching = |line: &&Line| line.matches.iter().all(|(name, value)| reading.dimensions.get(name) == Some(value));
        let lines = book.lines.get(&reading.meter).into_iter().flatten();
        // Of the most specific ones the first.
        let line = lines.filter(matching).rev().max_by_key(|line| line.matches.iter().count()).ok_or("unpriced")?;
        let row = line.prices.iter().rfind(|row| row.effective_at <= reading.start_at).ok_or("unpriced")?;
        let text = reading.start_at.to_string();
        let key = Key {
            organization: reading.organization.clone(),
            contract: contract.id.clone(),
            sku: line.sku.clone(),
            service_period: shared_types::Month::from_number(text[..7].replace('-', "").parse().unwrap()).unwrap(),
            currency: book.currency.clone(),
        };
        Ok((key, line, row))
    }

    fn fate(&mut self, reading: &MeteredReading) -> Fate {
        let quarantined = |reason: &str| Fate {
            code: "quarantined".to_owned(),
            reason: Some(reason.to_owned()),
            price: None,
            log_seq: None,
            amount: None,
        };
        if let Some(reason) = reading.refused {
            return quarantined(reason.code());
        }
        let (key, _, row) = match self.price(reading) {
            Ok(priced) => priced,
            Err(reason) => return quarantined(reason),
        };
        let known = self.accounts.get(&key);
        let late = known.and_then(|account| account.last_at).is_some_and(|last_at| last_at > reading.start_at);
        let (amount, reason) = if let PriceModel::Free { rule } = &row.model {
            (0, Some(rule.to_string()))
        } else {
            let mut sums = known.map_or_else(Vec::new, |account| account.sums.clone());
            match sums.iter_mut().find(|(known, _)| known.id == row.id) {
                Some((_, sum)) => *sum += reading.quantity.units(),
                None => sums.push((row, BigInt::from(reading.quantity.units()))),
            }
            let limit = BigInt::from(10).pow(38);
            let exact = sums.iter().map(|(row, sum)| worth(row, &rational(sum.clone(), 9))).fold(zero(), |sum, worth| sum + worth);
            let (total, tie) = round(&exact);
            let amount = &total - known.map_or(BigInt::from(0), |account| account.total.clone());
            let fits = sums.iter().all(|(_, sum)| *sum < limit && -sum < limit) && i64::try_from(total.clone()).is_ok();
            let (true, Ok(amount)) = (fits, i64::try_from(amount)) else { return quarantined("amount_overflow") };
            self.ties.extend(tie);
            let account = self.accounts.entry(key.clone()).or_default();
            (account.sums, account.total) = (sums, total);
            (i128::from(amount), None)
        };
        self.late += u64::from(late);
        let account = self.accounts.entry(key.clone()).or_default();
        account.last_at = account.last_at.max(Some(reading.start_at));
        let log = self.logs.entry((key.organization.to_string(), key.service_period.to_string())).or_insert(0);
        let log_seq = Some(*log);
        *log += 1;
        let code = if reason.is_some() { "free" } else { "charged" };
        Fate { code: code.to_owned(), reason, price: Some(row.id.to_string()), log_seq, amount: Some(amount) }
    }
}
