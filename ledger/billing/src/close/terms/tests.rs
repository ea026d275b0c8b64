//! Terms over random usage, late arrivals and several closes, against rationals that share no code with them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_rational::BigRational;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use shared_types::{BatchNo, Digest, Quantity};

use super::*;
use crate::invoice::{Rounding, RoundingMode, draft};
use crate::terms::{DiscountTier, Over, Rule, Scope, SkuFacts, Term, TrueUp};

const SKUS: [(&str, &str, bool); 4] =
    [("h100", "gpu", false), ("a100", "gpu", false), ("tokens", "tokens", false), ("support", "fees", true)];
const PERIODS: [&str; 5] = ["2026-08", "2026-09", "2026-10", "2026-11", "2026-12"];
const CLOSES: [&str; 6] = ["2026-08", "2026-09", "2026-10", "2026-11", "2026-12", "2027-01"];

/// What a case is made of: cents, thousandths of a percent, and which terms there are over which scope.
#[derive(Clone, Debug)]
struct Case {
    /// By close, service period and SKU: what was charged, in tenths of a cent.
    charged: Vec<Vec<Vec<Option<i64>>>>,
    discounts: Vec<(usize, i64)>,
    /// Scope, and the tiers: up to so many cents so many thousandths of a percent, then so many.
    graduated: Option<(usize, i64, i64, i64)>,
    /// Scope, cents, thousandths, whether it is owed.
    commitment: Option<(usize, i64, i64, bool)>,
    maximum: Option<(usize, i64)>,
    minimum: Option<(usize, i64)>,
    /// How many months the graduated discount, the commitment, the maximum and the minimum look at together.
    months: [u16; 4],
    usage_alone: bool,
    half_even: bool,
}

/// All, a family, a SKU of another family: either nested in all or apart.
const SCOPES: [(&[&str], &[&str]); 3] = [(&[], &[]), (&["gpu"], &[]), (&[], &["tokens"])];

fn cases() -> impl Strategy<Value = Case> {
    let charge = prop_oneof![
        2 => Just(None),
        1 => (-40_000_i64..60_000).prop_map(Some),
        1 => (0_i64..400).prop_map(|tens| Some(tens * 100)),
    ];
    let charged = prop::collection::vec(prop::collection::vec(prop::collection::vec(charge, SKUS.len()), PERIODS.len()), CLOSES.len());
    let percent = prop_oneof![Just(12_500_i64), Just(50_000), Just(2_500), 1_i64..=100_000];
    let discounts = prop::collection::vec((0..SCOPES.len(), percent), 0..3);
    let commitment =
        prop::option::weighted(0.6, (0..SCOPES.len(), 1_i64..9_000, prop_oneof![Just(1_500_i64), 1_i64..3_000], any::<bool>()));
    let bound = || prop::option::weighted(0.6, (0..SCOPES.len(), 1_i64..9_000));
    let percent = || prop_oneof![Just(0_i64), Just(12_500), 1_i64..=100_000];
    let graduated = prop::option::weighted(0.4, (0..SCOPES.len(), 1_i64..9_000, percent(), percent()));
    let months = (2_u16..=4, any::<[bool; 4]>()).prop_map(|(months, alone)| alone.map(|alone| if alone { 1 } else { months }));
    (charged, discounts, graduated, commitment, bound(), bound(), months, any::<bool>(), any::<bool>()).prop_map(
        |(charged, discounts, graduated, commitment, maximum, minimum, months, usage_alone, half_even)| Case {
            charged,
            discounts,
            graduated,
            commitment,
            maximum,
            minimum,
            months,
            usage_alone,
            half_even,
        },
    )
}

fn month(text: &str) -> Month {
    Month::parse(text).unwrap()
}

fn cents(cents: i64) -> Amount {
    Amount::from_units(i128::from(cents) * 10_000_000).unwrap()
}

fn thousandths(thousandths: i64) -> Quantity {
    Quantity::from_units(i128::from(thousandths) * 1_000_000).unwrap()
}

fn rational(numerator: i64, denominator: i64) -> BigRational {
    BigRational::new(numerator.into(), denominator.into())
}

fn exact(amount: Amount) -> BigRational {
    rational(amount.units(), 1_000_000_000)
}

/// The nearest cent; ties as the case says.
fn nearest(value: &BigRational, half_even: bool) -> BigRational {
    let hundred = BigRational::from_integer(100.into());
    let scaled = value * &hundred;
    let floor = scaled.floor();
    let rest = &scaled - &floor;
    let half = rational(1, 2);
    let up = rest > half
        || rest == half && if half_even { floor.to_integer() % 2 != BigInt::from(0) } else { scaled > BigRational::from_integer(0.into()) };
    (floor + BigRational::from_integer(i32::from(up).into())) / hundred
}

impl Case {
    fn policies(&self) -> Policies {
        let scope = |at: usize| Scope {
            families: SCOPES[at].0.iter().map(|name| (*name).to_owned()).collect(),
            skus: SCOPES[at].1.iter().map(|name| name.parse().unwrap()).collect(),
        };
        let term = |id: String, at: usize, rule: Rule| {
            let months = match rule {
                Rule::Discount { .. } | Rule::Capacity {} => 1,
                Rule::GraduatedDiscount { .. } => self.months[0],
                Rule::Commitment { .. } => self.months[1],
                Rule::MaximumSpend { .. } => self.months[2],
                Rule::MinimumSpend { .. } => self.months[3],
            };
            Term { id, description: "a term".to_owned(), rule, months: months.try_into().unwrap(), scope: scope(at) }
        };
        let mut terms: Vec<Term> = Vec::new();
        for (number, (at, percent)) in self.discounts.iter().enumerate() {
            terms.push(term(format!("discount-{number}"), *at, Rule::Discount { percent: thousandths(*percent) }));
        }
        if let Some((at, up_to, first, second)) = self.graduated {
            let tiers = [(Some(cents(up_to)), first), (None, second)];
            let tiers = tiers.map(|(up_to, percent)| DiscountTier { up_to, percent: thousandths(percent) });
            terms.push(term("by".to_owned(), at, Rule::GraduatedDiscount { tiers: tiers.into() }));
        }
        if let Some((at, amount, factor, owed)) = self.commitment {
            let true_up = if owed { TrueUp::Owed } else { TrueUp::None };
            terms.push(term("c".to_owned(), at, Rule::Commitment { amount: cents(amount), overage_factor: thousandths(factor), true_up }));
        }
        terms.extend(self.maximum.map(|(at, amount)| term("most".to_owned(), at, Rule::MaximumSpend { amount: cents(amount) })));
        terms.extend(self.minimum.map(|(at, amount)| term("least".to_owned(), at, Rule::MinimumSpend { amount: cents(amount) })));
        terms.sort_by(|a, b| a.id.cmp(&b.id));
        let termed = Termed {
            contract: "acme-2026".parse().unwrap(),
            currency: "USD".parse().unwrap(),
            from: month("2026-09"),
            until: None,
            over: if self.usage_alone { Over::Usage } else { Over::Everything },
            terms: terms.into(),
        };
        let mode = if self.half_even { RoundingMode::HalfEven } else { RoundingMode::HalfAwayFromZero };
        let mut policies = Policies { roundings: [("USD".parse().unwrap(), Rounding { mode, scale: 2 })].into(), ..Policies::default() };
        policies.terms.own.insert("acme".parse().unwrap(), vec![termed]);
        for (sku, family, recurring) in SKUS {
            policies.terms.skus.insert(sku.parse().unwrap(), SkuFacts { family: family.into(), recurring });
        }
        policies
    }

    /// What each term comes to for the exact totals of its keys.
    ///
    /// - `place`: how many months behind the contract's first; `windows`: by term, what was spent and what it came to in the months before.
    fn oracle(
        &self,
        totals: &BTreeMap<usize, BigRational>,
        place: usize,
        windows: &mut BTreeMap<String, (BigRational, BigRational)>,
        seen: &mut Seen,
    ) -> BTreeMap<String, BigRational> {
        let zero = || BigRational::from_integer(0.into());
        let said = |value: &BigRational| nearest(value, self.half_even);
        let in_scope = |at: usize, sku: usize| match at {
            0 => true,
            1 => sku < 2,
            _ => sku == 2,
        };
        let mut nets: BTreeMap<usize, BigRational> =
            totals.iter().filter(|(sku, _)| !(self.usage_alone && SKUS[**sku].2)).map(|(sku, total)| (*sku, said(total))).collect();
        let mut terms = BTreeMap::new();
        for (number, (at, percent)) in self.discounts.iter().enumerate() {
            let mut taken = zero();
            for (_, net) in nets.iter_mut().filter(|(sku, _)| in_scope(*at, **sku)) {
                let off = &*net * rational(*percent, 100_000);
                seen.ties += u32::from((&off * rational(200, 1)).is_integer() && !(&off * rational(100, 1)).is_integer());
                let off = said(&off);
                *net -= &off;
                taken -= off;
            }
            terms.insert(format!("discount-{number}"), taken);
        }
        let mut added = zero();
        for at in [1, 2, 0] {
            let mut spend: BigRational = nets.iter().filter(|(sku, _)| in_scope(at, **sku)).map(|(_, net)| net.clone()).sum();
            if at == 0 {
                spend += &added;
            }
            // What the months of a window come to together, less what the ones before came to.
            let mut move_by = |spend: &mut BigRational, id: &str, months: u16, of: &mut dyn FnMut(&BigRational, bool) -> BigRational| {
                let months = usize::from(months);
                let (before, came_to) = windows.remove(id).filter(|_| !place.is_multiple_of(months)).unwrap_or((zero(), zero()));
                let so_far = before + &*spend;
                let all = of(&so_far, (place + 1).is_multiple_of(months));
                let by = &all - came_to;
                windows.insert(id.to_owned(), (so_far, all));
                *spend += &by;
                added += &by;
                terms.insert(id.to_owned(), by);
            };
            let [by, commitment, maximum, minimum] = self.months;
            if let Some((_, up_to, first, second)) = self.graduated.filter(|term| term.0 == at) {
                move_by(&mut spend, "by", by, &mut |spend, _| {
                    let beyond = (spend - rational(up_to, 100)).max(zero());
                    seen.graduated += u32::from(beyond > zero() && !place.is_multiple_of(usize::from(by)));
                    -said(&((spend - &beyond) * rational(first, 100_000) + beyond * rational(second, 100_000)))
                });
            }
            if let Some((_, promised, factor, owed)) = self.commitment.filter(|term| term.0 == at) {
                let promised = rational(promised, 100);
                move_by(&mut spend, "c", commitment, &mut |spend, last| {
                    if *spend > promised {
                        seen.overages += 1;
                        said(&((spend - &promised) * rational(factor, 1_000))) - (spend - &promised)
                    } else if owed && last {
                        seen.owed_with_the_last += u32::from(commitment > 1);
                        &promised - spend
                    } else {
                        zero()
                    }
                });
            }
            if let Some((_, most)) = self.maximum.filter(|term| term.0 == at) {
                move_by(&mut spend, "most", maximum, &mut |spend, _| {
                    let over = (spend - rational(most, 100)).max(zero());
                    seen.maximums += u32::from(over > zero());
                    -over
                });
            }
            if let Some((_, least)) = self.minimum.filter(|term| term.0 == at) {
                move_by(&mut spend, "least", minimum, &mut |spend, last| {
                    let missing = if last { (rational(least, 100) - spend).max(zero()) } else { zero() };
                    seen.minimums += u32::from(missing > zero());
                    missing
                });
            }
        }
        terms
    }
}

/// Edges that the cases hit.
#[derive(Debug, Default)]
struct Seen {
    minimums: u32,
    maximums: u32,
    ties: u32,
    overages: u32,
    shrunk_to_zero: u32,
    owed_unused: u32,
    credits: u32,
    graduated: u32,
    owed_with_the_last: u32,
    /// Lines of months in which nothing is new.
    behind: u32,
}

fn key_total(sku: usize, period: &str, total: i64) -> KeyTotal {
    let name = SKUS[sku].0;
    KeyTotal {
        organization: "acme".parse().unwrap(),
        contract: "acme-2026".parse().unwrap(),
        contract_line: format!("acme-2026/{name}"),
        sku: name.parse().unwrap(),
        service_period: month(period),
        currency: "USD".parse().unwrap(),
        accounting_period: month(period),
        quantity: Quantity::ZERO,
        amount: Amount::ZERO,
        readings: 1,
        total: Amount::from_units(i128::from(total) * 1_000_000).unwrap(),
        prices: Vec::new(),
        log_sizes: BTreeMap::new(),
    }
}

/// Closes month after month; what all invoices together say of each term is what rationals make of the totals of that time.
fn run(case: &Case, seen: &mut Seen) -> Result<(), TestCaseError> {
    let policies = case.policies();
    let rounding = policies.roundings.values().next().copied().unwrap();
    let organization: OrganizationId = "acme".parse().unwrap();
    let mut totals: BTreeMap<(usize, usize), i64> = BTreeMap::new();
    let (mut keys_said, mut said): (BTreeMap<(usize, usize), Invoiced>, Said) = (BTreeMap::new(), Said::new());
    let mut asked: BTreeMap<(String, usize), BigRational> = BTreeMap::new();
    let mut spends: BTreeMap<(String, usize), (Amount, Amount)> = BTreeMap::new();
    for (number, name) in CLOSES.iter().enumerate() {
        let close = Close {
            period: month(name),
            previous: number.checked_sub(1).map(|before| month(CLOSES[before])),
            registry_version: Digest([7; 32]),
            last_batch: BatchNo(1),
            drafted: None,
            issued: 0,
            opinion: None,
        };
        let mut touched: BTreeMap<(usize, usize), bool> = totals.keys().map(|place| (*place, false)).collect();
        for (period, charged) in case.charged[number].iter().enumerate().filter(|(period, _)| *period <= number) {
            for (sku, charged) in charged.iter().enumerate() {
                if let Some(charged) = charged {
                    *totals.entry((period, sku)).or_default() += charged;
                    touched.insert((period, sku), true);
                }
            }
        }
        let mut spend = Closing::new(&policies, &organization);
        for ((period, sku), new) in &touched {
            let key = key_total(*sku, PERIODS[*period], totals[&(*period, *sku)]);
            let before = keys_said.get(&(*period, *sku)).copied();
            let at_close = new.then(|| KeyAtClose {
                contract: key.contract.clone(),
                contract_line: key.contract_line.clone(),
                sku: key.sku.clone(),
                service_period: key.service_period,
                quantity: Quantity::ZERO,
                readings: 1,
                key_quantity: Quantity::ZERO,
                key_readings: 1,
                key_total: key.total,
                prices: Vec::new(),
                before,
            });
            spend.take(&key, at_close.as_ref(), before.as_ref(), &close).unwrap();
            if *new {
                let key_amount = rounding.round(key.total).unwrap();
                keys_said.insert((*period, *sku), Invoiced { key_total: key.total, key_amount });
            }
        }
        let lines = spend.lines(&said, &close, &organization).unwrap().remove(&"USD".parse().unwrap()).unwrap_or_default();
        for line in &lines {
            let period = CLOSES.iter().position(|name| month(name) == line.service_period).unwrap();
            let place = (line.contract.to_string(), line.term.clone(), line.service_period, "USD".to_owned());
            let before = said.insert(place, line.term_amount);
            prop_assert_eq!(line.amount.units(), line.term_amount.units() - line.invoiced_before.units());
            prop_assert_eq!(before.unwrap_or(Amount::ZERO), line.invoiced_before);
            prop_assert!(line.amount != Amount::ZERO || before.is_none() || line.window.is_some(), "a line that says nothing new");
            let new = touched.iter().any(|((of, _), new)| *of == period && *new);
            seen.behind += u32::from(!new && line.amount != Amount::ZERO && period < number);
            // What it says of the months before is what their last lines say.
            if let Some(window) = line.window {
                let first = (period - 1) / usize::from(window.months) * usize::from(window.months) + 1;
                let earlier = (first..period).filter_map(|of| spends.get(&(line.term.clone(), of)));
                let sums = earlier.fold((0, 0), |(spent, came), (spend, amount): &(Amount, Amount)| {
                    (spent + i128::from(spend.units()), came + i128::from(amount.units()))
                });
                prop_assert_eq!((window.spend_before.units(), window.amount_before.units()), sums, "{} of {}", &line.term, period);
            }
            spends.insert((line.term.clone(), period), (line.spend, line.term_amount));
            let owed = line.rule.owed_unused();
            seen.shrunk_to_zero += u32::from(owed && line.term_amount == Amount::ZERO && line.invoiced_before > Amount::ZERO);
            seen.credits += u32::from(line.amount < Amount::ZERO);
            *asked.entry((line.term.clone(), period)).or_insert_with(|| BigRational::from_integer(0.into())) += exact(line.amount);
        }
        // August is before the contract has terms; January has no usage and is owed all the same.
        let mut windows = BTreeMap::new();
        for period in 1..=number {
            let of_period = totals.iter().filter(|((of, _), _)| *of == period);
            let of_period: BTreeMap<usize, BigRational> = of_period.map(|((_, sku), total)| (*sku, rational(*total, 1_000))).collect();
            let unused = of_period.is_empty();
            for (id, comes_to) in case.oracle(&of_period, period - 1, &mut windows, seen) {
                let zero = BigRational::from_integer(0.into());
                let all = asked.get(&(id.clone(), period)).unwrap_or(&zero);
                prop_assert_eq!(all, &comes_to, "{} of {} at the close of {}", id, period, name);
                seen.owed_unused += u32::from(unused && comes_to > zero);
            }
        }
        prop_assert!(!asked.keys().any(|(_, period)| *period == 0));
        // The order of keys means nothing, and an invoice adds up.
        let subject = crate::invoice::Subject {
            organization: organization.clone(),
            currency: "USD".parse().unwrap(),
            period: close.period,
            registry_version: close.registry_version,
        };
        let sum: i64 = lines.iter().map(|line| line.amount.units()).sum();
        let invoice = draft(&subject, Vec::new(), Vec::new(), &policies).unwrap().with_terms(lines).unwrap();
        prop_assert_eq!(invoice.total.units(), i128::from(sum));
        prop_assert!(invoice.terms.iter().zip(1..).all(|(term, number)| term.number == number));
        let content = invoice.canonical();
        prop_assert_eq!(&crate::invoice::Invoice::parse(invoice.invoice_id.as_str(), &content).unwrap(), &invoice);
    }
    Ok(())
}

#[test]
fn what_all_invoices_say_of_a_term_is_what_rationals_make_of_the_totals_at_every_close() {
    let seen = RefCell::new(Seen::default());
    let mut runner = TestRunner::new(Config { cases: 1_500, failure_persistence: None, ..Config::default() });
    runner.run(&cases(), |case| run(&case, &mut seen.borrow_mut())).unwrap();
    let seen = seen.into_inner();
    println!("{seen:?}");
    let counts = [
        [seen.minimums, seen.maximums, seen.ties, seen.overages, seen.shrunk_to_zero],
        [seen.owed_unused, seen.credits, seen.graduated, seen.owed_with_the_last, seen.behind],
    ]
    .concat();
    assert!(counts.iter().all(|count| *count > 100), "an edge is hardly hit: {seen:?}");
}
