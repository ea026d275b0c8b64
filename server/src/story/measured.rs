//! What lines of an invoice measure where their prices take something else than the sum of what was read: hours that GPUs were held, a mean
//! level, the greatest one. The invoice has sums alone, as its verifiers do; this is for those who read it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use platform_billing::{Invoice, Line, LineKind, Measured};
use platform_rating::{Key, PriceIndex, Ratio, RoundTo};
use shared_types::{Digest, Month, Quantity};

use super::StoryError;
use crate::answers::Answers;
use crate::read_models::usage::states_through;

/// 3,600 seconds, in units of 10^-9.
const HOUR: i128 = 3_600_000_000_000;
/// Places of a quantity, where no decimal is exact.
const PLACES: i32 = 9;

type Sums = BTreeMap<Key, platform_rating::Measured>;

/// What lines measure, by their numbers; those that count the sum of what was read are not there.
///
/// - A line of usage that came late, or was rated again, has what it measures more or less than at the close before.
/// - Errors: rows that cannot be read.
pub async fn measured(answers: &Answers, invoice: &Invoice) -> Result<BTreeMap<u64, Measured>, StoryError> {
    let compiled = answers.registry(invoice.registry_version).await?;
    let prices = PriceIndex::of(&compiled.plan);
    let measures = |line: &&Line| {
        let mut rows = line.prices.iter().filter_map(|sum| prices.get(&sum.price_id));
        rows.any(|row| !row.basis.measure.counts_quantity())
    };
    let lines: Vec<(&Line, Key)> = invoice.lines.iter().filter(measures).map(|line| (line, key(invoice, line))).collect();
    let now = sums(answers, invoice.registry_version, lines.iter().map(|(_, key)| key.clone()).collect(), invoice.period).await?;
    let corrected = lines.iter().filter(|(line, _)| line.kind == LineKind::Adjustment).map(|(_, key)| key.clone()).collect();
    let before = before(answers, invoice.period, corrected).await?;
    let shown = lines.iter().filter_map(|(line, key)| Some((line.number, shown(line, now.get(key)?, before.get(key))?)));
    Ok(shown.collect())
}

/// What keys measured at the close before that of a month.
async fn before(answers: &Answers, period: Month, keys: BTreeSet<Key>) -> Result<Sums, StoryError> {
    if keys.is_empty() {
        return Ok(Sums::new());
    }
    let closes = platform_billing::closes(&mut answers.readers.books.read().await.map_err(anyhow::Error::from)?).await;
    let closes = closes.map_err(anyhow::Error::from)?;
    let previous = closes.iter().find(|close| close.period == period).and_then(|close| close.previous);
    match closes.iter().find(|close| Some(close.period) == previous) {
        None => Ok(Sums::new()),
        Some(close) => sums(answers, close.registry_version, keys, close.period).await,
    }
}

/// What keys measured behind everything that was booked up to and in a month, by the prices of a version.
async fn sums(answers: &Answers, version: Digest, keys: BTreeSet<Key>, through: Month) -> Result<Sums, StoryError> {
    let compiled = answers.registry(version).await?;
    let prices = PriceIndex::of(&compiled.plan);
    let mut found = Sums::new();
    for (key, state) in states_through(&answers.readers, keys, through).await? {
        let sums = platform_rating::measured(&state, &prices);
        let sums = sums.with_context(|| format!("what {}/{} measures in {}", key.contract, key.sku, key.service_period))?;
        found.extend(sums.map(|sums| (key, sums)));
    }
    Ok(found)
}

/// For people; none where it does not fit, or counted something else before.
fn shown(line: &Line, now: &platform_rating::Measured, before: Option<&platform_rating::Measured>) -> Option<Measured> {
    let before = match before {
        None => Ratio::ZERO,
        Some(before) if before.seconds == now.seconds => before.sum()?,
        Some(_) => return None,
    };
    let counted = |quantity: Ratio| {
        let quantity = if now.seconds { quantity.checked_div(Quantity::from_units(HOUR).ok()?)? } else { quantity };
        quantity.round(PLACES, RoundTo::HalfEven)?.as_quantity()
    };
    let unit = if now.seconds { format!("{} h", line.unit) } else { line.unit.to_string() };
    let prices = now.prices.iter().map(|(price, quantity)| Some((price.clone(), counted(*quantity)?))).collect::<Option<_>>()?;
    Some(Measured { quantity: counted(now.sum()?.checked_sub(before)?)?, unit, words: now.words.join("; "), prices })
}

/// What a line is the running total of.
pub(super) fn key(invoice: &Invoice, line: &Line) -> Key {
    Key {
        organization: invoice.organization.clone(),
        contract: line.contract.clone(),
        sku: line.sku.clone(),
        service_period: line.service_period,
        currency: invoice.currency.clone(),
    }
}
