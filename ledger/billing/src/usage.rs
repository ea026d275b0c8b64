//! Usage → postings: debit `org/<organization>/unbilled`, credit `revenue/<family>`. Pure; the ledger checks and keeps what comes out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use platform_ledger::posting::Sides;
use platform_ledger::{AccountId, EntryGroup, Posting, PostingError, PostingKey};
use shared_types::{Amount, AssetId, BatchNo, ContractId, Instant, Month, OrganizationId, Quantity, SkuId};

use crate::close::CloseError;
use crate::invoice::PriceSum;
use crate::rerated::Rerated;
use crate::store::KeyTotal;

/// What one batch added to one key in one accounting period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDelta {
    /// Who owes.
    pub organization: OrganizationId,
    /// Under which agreement.
    pub contract: ContractId,
    /// Which line of it.
    pub contract_line: Arc<str>,
    /// For what.
    pub sku: SkuId,
    /// When the usage happened.
    pub service_period: Month,
    /// In which currency.
    pub currency: AssetId,
    /// Whose revenue it is.
    pub family: Arc<str>,
    /// In whose books it is posted.
    pub accounting_period: Month,
    /// The quantity: negative when usage moved away.
    pub quantity: Quantity,
    /// The amount in units of 10^-9: negative when the price fell.
    pub amount: i128,
    /// How many readings.
    pub readings: u64,
    /// T of the key after the batch.
    pub total: Amount,
    /// State of the key after the batch.
    pub prices: Vec<PriceSum>,
    /// Sizes of the organization's logs after the batch, for the months that the key touched.
    pub log_sizes: BTreeMap<Month, u64>,
    /// The re-rating that it comes from, if it does.
    pub rerated: Option<Rerated>,
}

impl KeyDelta {
    /// As the running total of its accounting period.
    pub(crate) fn total_row(&self) -> Result<KeyTotal, CloseError> {
        let amount = Amount::from_units(self.amount).map_err(|_| CloseError::Totals {
            problem: format!("{} × 10^-9 for {} in {} is no amount", self.amount, self.contract_line, self.service_period),
        })?;
        Ok(KeyTotal {
            organization: self.organization.clone(),
            contract: self.contract.clone(),
            contract_line: self.contract_line.to_string(),
            sku: self.sku.clone(),
            service_period: self.service_period,
            currency: self.currency.clone(),
            accounting_period: self.accounting_period,
            quantity: self.quantity,
            amount,
            readings: self.readings,
            total: self.total,
            prices: self.prices.clone(),
            log_sizes: self.log_sizes.clone(),
        })
    }
}

/// Why deltas have no postings. The texts name the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BillingError {
    /// The net amount is beyond what one posting holds (about 9.2 thousand million).
    #[error("cannot post {units} × 10^-9 for {key}: more than one posting holds")]
    Amount {
        /// The key.
        key: String,
        /// The net amount in units of 10^-9.
        units: i128,
    }, // BILLING-0001
    /// The sum of amounts or quantities left its range.
    #[error("cannot net {key}: the sum of {what} does not fit")]
    Sum {
        /// The key.
        key: String,
        /// `amounts` or `quantities`.
        what: &'static str,
    }, // BILLING-0002
    /// A name cannot be part of an account.
    #[error("cannot post for {key}")]
    Posting {
        /// The key.
        key: String,
        /// What the ledger said.
        #[source]
        source: PostingError,
    }, // BILLING-0003
}

/// What is netted together. The order of the fields is the order of the postings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Netting {
    organization: OrganizationId,
    contract: ContractId,
    contract_line: Arc<str>,
    service_period: Month,
    currency: AssetId,
    accounting_period: Month,
    family: Arc<str>,
}

impl fmt::Display for Netting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { organization, contract, contract_line, service_period, currency, accounting_period, family } = self;
        write!(
            f,
            "organization {organization}, contract {contract}, line {contract_line}, service period {service_period}, {currency}, \
             books of {accounting_period}, family {family}"
        )
    }
}

/// The postings of a cut: one for each key, accounting period and family whose deltas do not net to zero.
///
/// - A positive net is debited to `org/<organization>/unbilled` and credited to `revenue/<family>`; a negative one the other way round;
///   zero posts nothing (its quantity stays in the lake).
/// - Order: by key, so the order of the deltas does not matter.
/// - Errors: a net amount beyond 64 bits, or a sum beyond its type, naming the key.
/// - Source: blueprint §6.
pub fn postings_of(first: BatchNo, last: BatchNo, effective_at: Instant, deltas: &[KeyDelta]) -> Result<EntryGroup, BillingError> {
    let mut nets: BTreeMap<Netting, (Quantity, i128)> = BTreeMap::new();
    for delta in deltas {
        let netting = Netting {
            organization: delta.organization.clone(),
            contract: delta.contract.clone(),
            contract_line: Arc::clone(&delta.contract_line),
            service_period: delta.service_period,
            currency: delta.currency.clone(),
            accounting_period: delta.accounting_period,
            family: Arc::clone(&delta.family),
        };
        let beyond = |what| BillingError::Sum { key: netting.to_string(), what };
        let (quantity, units) = nets.get(&netting).copied().unwrap_or_default();
        let quantity = quantity.checked_add(delta.quantity).map_err(|_| beyond("quantities"))?;
        let units = units.checked_add(delta.amount).ok_or_else(|| beyond("amounts"))?;
        nets.insert(netting, (quantity, units));
    }
    let postings = nets
        .into_iter()
        .filter(|(_, (_, units))| *units != 0)
        .map(|(netting, (quantity, units))| posting(netting, quantity, units, effective_at))
        .collect::<Result<_, _>>()?;
    Ok(EntryGroup { first_batch: first, last_batch: last, postings })
}

fn posting(netting: Netting, quantity: Quantity, units: i128, effective_at: Instant) -> Result<Posting, BillingError> {
    let key = netting.to_string();
    let refused = |source| BillingError::Posting { key: key.clone(), source };
    let magnitude = units.checked_abs().and_then(|units| Amount::from_units(units).ok());
    let amount = magnitude.ok_or_else(|| BillingError::Amount { key: key.clone(), units })?;
    let unbilled = AccountId::of(&["org", netting.organization.as_str(), "unbilled"]).map_err(refused)?;
    let revenue = AccountId::of(&["revenue", &netting.family]).map_err(refused)?;
    let sides = if units > 0 { Sides { debit: unbilled, credit: revenue } } else { Sides { debit: revenue, credit: unbilled } };
    let about = PostingKey {
        organization: netting.organization,
        contract: netting.contract,
        contract_line: netting.contract_line.to_string(),
        service_period: netting.service_period,
        currency: netting.currency.clone(),
    };
    Posting::new(sides, netting.currency, amount, netting.accounting_period, effective_at)
        .and_then(|posting| posting.about(about, quantity))
        .map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `organization family amount [accounting period]`; the amount in units of 10^-9, the quantity twice as much.
    fn delta(text: &str) -> KeyDelta {
        let words: Vec<&str> = text.split(' ').collect();
        let units: i128 = words[2].parse().unwrap();
        KeyDelta {
            organization: OrganizationId::parse(words[0]).unwrap(),
            contract: ContractId::parse("c").unwrap(),
            contract_line: Arc::from("c/h200"),
            sku: SkuId::parse("h200").unwrap(),
            service_period: Month::from_number(202_610).unwrap(),
            currency: AssetId::parse("USD").unwrap(),
            family: Arc::from(words[1]),
            accounting_period: Month::from_number(words.get(3).map_or(202_611, |month| month.parse().unwrap())).unwrap(),
            quantity: Quantity::from_units((units * 2) % 10_i128.pow(37)).unwrap(),
            amount: units,
            readings: 1,
            total: Amount::ZERO,
            prices: Vec::new(),
            log_sizes: BTreeMap::new(),
            rerated: None,
        }
    }

    fn postings(deltas: &[KeyDelta]) -> Result<Vec<Posting>, BillingError> {
        let at = Month::from_number(202_611).unwrap().start();
        postings_of(BatchNo(1), BatchNo(2), at, deltas).map(|group| group.postings)
    }

    fn check(deltas: &[&str], expected: &[&str]) {
        let deltas: Vec<KeyDelta> = deltas.iter().map(|text| delta(text)).collect();
        let shown: Vec<String> = postings(&deltas)
            .unwrap()
            .iter()
            .map(|posting| {
                let quantity = posting.quantity().unwrap_or_default();
                format!("{} < {} {} {} ({quantity})", posting.debit(), posting.credit(), posting.amount(), posting.accounting_period())
            })
            .collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn usage_is_debited_to_unbilled_and_credited_to_revenue() {
        check(&["acme gpu 1500000000"], &["org/acme/unbilled < revenue/gpu 1.5 2026-11 (3)"]);
    }

    #[test]
    fn a_negative_net_swaps_the_sides_and_keeps_the_sign_of_its_quantity() {
        check(&["acme gpu -1500000000"], &["revenue/gpu < org/acme/unbilled 1.5 2026-11 (-3)"]);
    }

    #[test]
    fn what_nets_to_zero_posts_nothing() {
        check(&["acme gpu 5", "acme gpu -5", "beta gpu 0"], &[]);
    }

    #[test]
    fn deltas_are_netted_by_key_accounting_period_and_family_in_the_order_of_keys() {
        check(
            &["beta gpu 1", "acme token 2", "acme gpu 3 202612", "acme gpu 4", "acme gpu 6"],
            &[
                "org/acme/unbilled < revenue/gpu 0.00000001 2026-11 (0.00000002)",
                "org/acme/unbilled < revenue/token 0.000000002 2026-11 (0.000000004)",
                "org/acme/unbilled < revenue/gpu 0.000000003 2026-12 (0.000000006)",
                "org/beta/unbilled < revenue/gpu 0.000000001 2026-11 (0.000000002)",
            ],
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_by_key() {
        let error = |deltas: &[&str]| postings(&deltas.iter().map(|text| delta(text)).collect::<Vec<_>>()).unwrap_err();
        let too_much = error(&["acme gpu 9223372036854775807", "acme gpu 1"]);
        assert_eq!(
            too_much.to_string(),
            "cannot post 9223372036854775808 × 10^-9 for organization acme, contract c, line c/h200, service period 2026-10, USD, \
             books of 2026-11, family gpu: more than one posting holds"
        );
        assert!(matches!(error(&["acme gpu -9223372036854775808"]), BillingError::Amount { .. }));
        let mut huge = delta("acme gpu 1");
        huge.amount = i128::MAX;
        assert!(matches!(postings(&[huge.clone(), huge.clone()]), Err(BillingError::Sum { what: "amounts", .. })));
        huge.amount = 1;
        huge.quantity = Quantity::from_units(10_i128.pow(38) - 1).unwrap();
        assert!(matches!(postings(&[huge.clone(), huge]), Err(BillingError::Sum { what: "quantities", .. })));
        assert!(matches!(error(&["acme  1"]), BillingError::Posting { .. }));
        check(&["acme gpu 9223372036854775807"], &["org/acme/unbilled < revenue/gpu 9223372036.854775807 2026-11 (18446744073.709551614)"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        /// The oracle adds each delta to both of its accounts; order and grouping into batches must not matter.
        #[test]
        fn accounts_sum_to_the_deltas_whatever_their_order(
            rows in proptest::collection::vec((0_usize..3, 0_usize..2, -1_000_000_000_000_i64..1_000_000_000_000, 0_i32..2), 0..40),
            turn in 0_usize..40,
        ) {
            let text = |(organization, family, units, month): &(usize, usize, i64, i32)| {
                format!("{} {} {units} {}", ["acme", "beta", "a/b"][*organization], ["gpu", "token"][*family], 202_611 + month)
            };
            let mut deltas: Vec<KeyDelta> = rows.iter().map(|row| delta(&text(row))).collect();
            let mut expected: BTreeMap<(String, i32), i128> = BTreeMap::new();
            for delta in &deltas {
                let month = delta.accounting_period.number();
                *expected.entry((format!("org/{}/unbilled", delta.organization.as_str().replace('/', "%2F")), month)).or_default() += delta.amount;
                *expected.entry((format!("revenue/{}", delta.family), month)).or_default() -= delta.amount;
            }
            let booked = postings(&deltas).unwrap();
            let mut found: BTreeMap<(String, i32), i128> = BTreeMap::new();
            for posting in &booked {
                prop_assert!(posting.amount() > Amount::ZERO);
                let month = posting.accounting_period().number();
                *found.entry((posting.debit().to_string(), month)).or_default() += i128::from(posting.amount().units());
                *found.entry((posting.credit().to_string(), month)).or_default() -= i128::from(posting.amount().units());
            }
            expected.retain(|_, units| *units != 0);
            found.retain(|_, units| *units != 0);
            prop_assert_eq!(found, expected);
            let turn = turn % deltas.len().max(1);
            deltas.rotate_left(turn);
            prop_assert_eq!(postings(&deltas).unwrap(), booked);
        }
    }
}
