//! Why a bill changed: two invoices of one organization as volume × price × mix, exact to the last place of the currency.
//! Pure; it knows no table and no page.

use std::collections::{BTreeMap, BTreeSet};

use ethnum::I256;
use platform_rating::RoundTo;
use shared_types::{Amount, PriceId, Quantity, Sum};

use crate::invoice::{Invoice, InvoiceId, Line, LineKind};
use crate::terms::TermLine;

/// What moved the amount of a contract line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Used in both months: volume, price and mix say what moved it.
    Used,
    /// Used only in the later month.
    New,
    /// Used only in the earlier month.
    Gone,
    /// Usage of months before the invoice's own, which came late or was rated again.
    Late,
    /// A quantity is zero or less, or both count other units, so there is no price to compare.
    Other,
    /// A term of a contract, which has no quantity.
    Terms,
}

impl Cause {
    /// The name for scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::New => "new",
            Self::Gone => "gone",
            Self::Late => "late",
            Self::Other => "other",
            Self::Terms => "terms",
        }
    }
}

/// What a line counts where its prices measure something else than the sum of what was read: hours held, a mean level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Since the last close, as a line's quantity; to nine places, half to even.
    pub quantity: Quantity,
    /// What it counts: the meter's unit, or its hours, for example `gpu h`.
    pub unit: String,
    /// How it is measured, in words.
    pub words: String,
    /// By price row: the key's so far, as a line's `prices` are.
    pub prices: BTreeMap<PriceId, Quantity>,
}

/// An invoice with what its lines measure.
#[derive(Clone, Copy, Debug)]
pub struct Billed<'i> {
    /// The invoice.
    pub invoice: &'i Invoice,
    /// By number of the line; a line that is not there counts its quantity.
    pub measured: &'i BTreeMap<u64, Measured>,
}

impl Billed<'_> {
    /// The quantity that a line of the invoice counts.
    pub fn quantity(&self, line: &Line) -> Quantity {
        self.measured.get(&line.number).map_or(line.quantity, |measured| measured.quantity)
    }

    /// What it counts.
    pub fn unit(&self, line: &Line) -> String {
        self.measured.get(&line.number).map_or_else(|| line.unit.to_string(), |measured| measured.unit.clone())
    }
}

/// Quantity and amount of a contract line on one invoice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// In the line's unit.
    pub quantity: Quantity,
    /// As invoiced.
    pub amount: Amount,
}

/// What became of one contract line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Contract and SKU, or contract and term.
    pub contract_line: String,
    /// For people.
    pub description: String,
    /// What the quantities count; empty for a term.
    pub unit: String,
    /// Why it moved.
    pub cause: Cause,
    /// On the earlier invoice.
    pub before: Side,
    /// On the later invoice.
    pub after: Side,
    /// What it would have moved by had its unit's total quantity alone moved.
    pub volume: Amount,
    /// What its own price (amount for a unit, tiers included) moved it by.
    pub price: Amount,
    /// What its share of its unit's total quantity moved it by.
    pub mix: Amount,
    /// `after.amount` − `before.amount`; for `used` lines volume + price + mix.
    pub difference: Amount,
}

/// Two invoices side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The earlier one.
    pub before: (InvoiceId, Sum),
    /// The later one.
    pub after: (InvoiceId, Sum),
    /// Every contract line of either, by cause, then by the size of its difference.
    pub lines: Vec<Change>,
    /// Σ volume, price and mix, and Σ difference of each other cause: together the difference of the totals.
    pub sums: BTreeMap<&'static str, Amount>,
}

/// Why two invoices cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangesError {
    /// They are of different organizations or currencies.
    #[error("{before} is of {before_of} and {after} of {after_of}: name two invoices of one organization in one currency")]
    Different {
        /// The earlier one.
        before: InvoiceId,
        /// Its organization and currency.
        before_of: String,
        /// The later one.
        after: InvoiceId,
        /// Its organization and currency.
        after_of: String,
    },
    /// Numbers beyond 256 bits, or sums beyond an amount.
    #[error("the figures of {contract_line} are too large to be compared")]
    TooLarge {
        /// The contract line.
        contract_line: String,
    },
}

/// What moved the total from one invoice to another.
///
/// - Usage of each invoice's own month is compared line by line; what an invoice asks for other months is `late`.
/// - What terms of contracts ask for is `terms`, whichever service period they are about.
/// - A line that measures something else than the sum of what was read counts what it measures.
/// - Lines of one unit share volume: had each kept its share of the unit's quantity and its price, it would have moved as the unit's total did.
///   `price` is the later quantity at the change of the line's own price; `mix` the rest, so the three add up to the difference exactly. Volume
///   and price are rounded to the currency, half to even.
pub fn changes<'i>(before: Billed<'i>, after: Billed<'i>) -> Result<Changes, ChangesError> {
    let of = |invoice: &Invoice| format!("{} in {}", invoice.organization, invoice.currency);
    if (&before.invoice.organization, &before.invoice.currency) != (&after.invoice.organization, &after.invoice.currency) {
        let (before_of, after_of) = (of(before.invoice), of(after.invoice));
        let (before, after) = (before.invoice.invoice_id.clone(), after.invoice.invoice_id.clone());
        return Err(ChangesError::Different { before, before_of, after, after_of });
    }
    let (old, new) = (own_month(before)?, own_month(after)?);
    let mut lines = Vec::new();
    for contract_line in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let (Some(line), sides) = (
            new.get(contract_line).or(old.get(contract_line)),
            (old.get(contract_line).map(|found| found.side), new.get(contract_line).map(|found| found.side)),
        ) else {
            continue;
        };
        let one_unit = old.get(contract_line).zip(new.get(contract_line)).is_none_or(|(old, new)| old.unit == new.unit);
        let cause = match sides {
            (Some(before), Some(after)) if before.quantity > Quantity::ZERO && after.quantity > Quantity::ZERO && one_unit => Cause::Used,
            (None, Some(_)) => Cause::New,
            (Some(_), None) => Cause::Gone,
            _ => Cause::Other,
        };
        lines.push(change(line.line, line.unit.clone(), cause, sides.0.unwrap_or_default(), sides.1.unwrap_or_default())?);
    }
    split(&mut lines, before.invoice.rounding.scale.max(after.invoice.rounding.scale))?;
    for contract_line in late(before.invoice).chain(late(after.invoice)).map(|line| &line.contract_line).collect::<BTreeSet<_>>() {
        let of = |billed: Billed<'i>| late(billed.invoice).filter(|line| line.contract_line == *contract_line);
        let (old, new) = (sum(before, of(before))?, sum(after, of(after))?);
        let named = of(after).map(|line| (line, after.unit(line))).chain(of(before).map(|line| (line, before.unit(line)))).next();
        lines.extend(named.map(|(line, unit)| change(line, unit, Cause::Late, old, new)).transpose()?);
    }
    let term = |invoice: &Invoice, name: &str| sum_of_terms(invoice.terms.iter().filter(|term| term.contract_line() == name));
    let named: BTreeMap<String, &TermLine> =
        before.invoice.terms.iter().chain(&after.invoice.terms).map(|term| (term.contract_line(), term)).collect();
    for (contract_line, named) in named {
        let (old, new) = (term(before.invoice, &contract_line)?, term(after.invoice, &contract_line)?);
        lines.push(Change {
            difference: new.amount.checked_sub(old.amount).map_err(|_| too_large(&contract_line))?,
            contract_line,
            description: named.description.clone(),
            unit: String::new(),
            cause: Cause::Terms,
            before: old,
            after: new,
            volume: Amount::ZERO,
            price: Amount::ZERO,
            mix: Amount::ZERO,
        });
    }
    lines.sort_by_key(|line| (line.cause, std::cmp::Reverse(line.difference.units().unsigned_abs())));
    let sums = sums(&lines)?;
    let named = |billed: Billed<'_>| (billed.invoice.invoice_id.clone(), billed.invoice.total);
    Ok(Changes { before: named(before), after: named(after), lines, sums })
}

struct Own<'i> {
    line: &'i Line,
    unit: String,
    side: Side,
}

/// Usage of the invoice's own month, by contract line.
fn own_month(billed: Billed<'_>) -> Result<BTreeMap<&str, Own<'_>>, ChangesError> {
    let own = billed.invoice.lines.iter().filter(|line| !is_late(billed.invoice, line));
    own.map(|line| Ok((line.contract_line.as_str(), Own { line, unit: billed.unit(line), side: sum(billed, [line].into_iter())? })))
        .collect()
}

fn late(invoice: &Invoice) -> impl Iterator<Item = &Line> {
    invoice.lines.iter().filter(|line| is_late(invoice, line))
}

fn is_late(invoice: &Invoice, line: &Line) -> bool {
    line.kind == LineKind::Adjustment || line.service_period != invoice.period
}

fn sum<'i>(billed: Billed<'_>, lines: impl Iterator<Item = &'i Line>) -> Result<Side, ChangesError> {
    let mut side = Side::default();
    for line in lines {
        side.quantity = side.quantity.checked_add(billed.quantity(line)).map_err(|_| too_large(&line.contract_line))?;
        side.amount = add(side.amount, line.amount, &line.contract_line)?;
    }
    Ok(side)
}

fn sum_of_terms<'i>(terms: impl Iterator<Item = &'i TermLine>) -> Result<Side, ChangesError> {
    let mut side = Side::default();
    for term in terms {
        side.amount = add(side.amount, term.amount, &term.contract_line())?;
    }
    Ok(side)
}

fn change(line: &Line, unit: String, cause: Cause, before: Side, after: Side) -> Result<Change, ChangesError> {
    let difference = after.amount.checked_sub(before.amount).map_err(|_| too_large(&line.contract_line))?;
    Ok(Change {
        contract_line: line.contract_line.clone(),
        description: line.description.clone(),
        unit,
        cause,
        before,
        after,
        volume: Amount::ZERO,
        price: Amount::ZERO,
        mix: Amount::ZERO,
        difference,
    })
}

/// Splits the lines that were used in both months, unit by unit.
fn split(lines: &mut [Change], scale: u32) -> Result<(), ChangesError> {
    let mut units: BTreeMap<String, (usize, I256, I256)> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.cause == Cause::Used) {
        let (count, before, after) = units.entry(line.unit.clone()).or_insert((0, I256::ZERO, I256::ZERO));
        *count = count.saturating_add(1);
        let fit = || too_large(&line.contract_line);
        *before = before.checked_add(I256::from(line.before.quantity.units())).ok_or_else(fit)?;
        *after = after.checked_add(I256::from(line.after.quantity.units())).ok_or_else(fit)?;
    }
    for line in lines.iter_mut().filter(|line| line.cause == Cause::Used) {
        let Some((count, before, after)) = units.get(&line.unit) else { continue };
        let fit = || too_large(&line.contract_line);
        let (old, was, is) = (line.before.amount.units(), line.before.quantity.units(), line.after.quantity.units());
        // amount × (after − before) ÷ before of the unit.
        let moved = after.checked_sub(*before).ok_or_else(fit)?;
        line.volume = share(I256::from(old), moved, *before, scale).ok_or_else(fit)?;
        if *count == 1 {
            // Alone in its unit, it has no share that could move.
            line.price = line.difference.checked_sub(line.volume).map_err(|_| fit())?;
            continue;
        }
        // (amount after × quantity before − amount before × quantity after) ÷ quantity before.
        let at_old_price = I256::from(old).checked_mul(I256::from(is)).ok_or_else(fit)?;
        let at_new_price = I256::from(line.after.amount.units()).checked_mul(I256::from(was)).ok_or_else(fit)?;
        let dearer = at_new_price.checked_sub(at_old_price).ok_or_else(fit)?;
        line.price = share(I256::ONE, dearer, I256::from(was), scale).ok_or_else(fit)?;
        let rest = line.difference.checked_sub(line.volume).and_then(|rest| rest.checked_sub(line.price));
        line.mix = rest.map_err(|_| fit())?;
    }
    Ok(())
}

/// a × b ÷ c in units of 10^-9, rounded to decimal places, half to even; c is above zero.
fn share(a: I256, b: I256, c: I256, scale: u32) -> Option<Amount> {
    let step = I256::from(10_i64.checked_pow(Amount::SCALE.checked_sub(scale)?)?);
    let rounded = RoundTo::HalfEven.divide(a.checked_mul(b)?, c.checked_mul(step)?)?.checked_mul(step)?;
    Amount::from_units(i128::try_from(rounded).ok()?).ok()
}

fn sums(lines: &[Change]) -> Result<BTreeMap<&'static str, Amount>, ChangesError> {
    let mut sums = BTreeMap::new();
    for line in lines {
        let parts = match line.cause {
            Cause::Used => vec![("volume", line.volume), ("price", line.price), ("mix", line.mix)],
            cause => vec![(cause.name(), line.difference)],
        };
        for (name, part) in parts {
            let sum = sums.entry(name).or_insert(Amount::ZERO);
            *sum = add(*sum, part, &line.contract_line)?;
        }
    }
    Ok(sums)
}

fn add(a: Amount, b: Amount, contract_line: &str) -> Result<Amount, ChangesError> {
    a.checked_add(b).map_err(|_| too_large(contract_line))
}

fn too_large(contract_line: &str) -> ChangesError {
    ChangesError::TooLarge { contract_line: contract_line.to_owned() }
}

#[cfg(test)]
mod tests;
