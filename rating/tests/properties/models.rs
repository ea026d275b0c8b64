//! Every price model over every measure, against an oracle that computes F from the readings themselves: no state, big rationals, no code
//! shared with rating. T is the oracle's in any order of arrival, over any cuts and restarts, with readings cut in pieces where the measure is a
//! sum, and after readings were taken back.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use num_bigint::BigInt;
use num_rational::BigRational;
use platform_rating::calendar::Zone;
use platform_rating::{
    Basis, BlockTier, Clock, Contract, Convert, Each, FirstFee, Line, Measure, Percentage, Plan, PriceBook, PriceIndex, PriceModel,
    PriceRow, Promised, RatingState, RoundTo, Stepped, Then, Tier, Together, TrueUp, WindowCommitment, evaluate, rate, totals_from_arrow,
    totals_to_arrow,
};
use platform_usage::{Dimensions, MeteredReading};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestCaseResult, TestRunner};
use shared_types::{
    AssetId, ContractId, Digest, IdentityHash, Incarnation, Instant, MeterId, OrganizationId, Position, Price, PriceId, Quantity, Sequence,
    ShardId, SkuId, SourceId, UnitId,
};

use crate::calendar::{DAY, HOUR, Month};

const CASES: u32 = 1_200;

/// One reading: quantity in units of 10^-9, times in microseconds since the begin of the period.
#[derive(Clone, Debug)]
struct Use {
    units: i128,
    start: i64,
    end: Option<i64>,
    item: u8,
    id: u8,
}

fn n(number: i128) -> BigRational {
    BigRational::from_integer(BigInt::from(number))
}

fn quantity(quantity: Quantity) -> BigRational {
    n(quantity.units()) / n(1_000_000_000)
}

fn money(price: Price) -> BigRational {
    n(price.units()) / n(10_i128.pow(18))
}

fn held(used: &Use, by: Clock, month: &Month) -> BigRational {
    let end = used.end.unwrap_or(month.length);
    n(match by {
        Clock::Microsecond => end - used.start,
        Clock::Day => month.whole_days(used.start, end),
    }
    .into())
}

/// (what is priced, what tiers go by), once or for each bucket.
fn measured(measure: &Measure, uses: &[Use], month: &Month) -> Vec<(BigRational, BigRational)> {
    let units = |units: i128| n(units) / n(1_000_000_000);
    let sum = || uses.iter().map(|used| units(used.units)).fold(n(0), |sum, one| sum + one);
    let one = |value: BigRational| vec![(value.clone(), value)];
    let time = |by: Clock| uses.iter().map(|used| units(used.units) * held(used, by, month)).fold(n(0), |sum, one| sum + one);
    match measure {
        Measure::Sum => one(sum()),
        Measure::Average => one(sum() / n(uses.len().try_into().unwrap())),
        Measure::Max => one(units(uses.iter().map(|used| used.units).max().unwrap())),
        Measure::Min => one(units(uses.iter().map(|used| used.units).min().unwrap())),
        Measure::Each => uses.iter().map(|used| (units(used.units), units(used.units))).collect(),
        Measure::Latest => one(units(uses.iter().max_by_key(|used| (used.start, used.id)).unwrap().units.max(0))),
        Measure::Unique { per_day: false, .. } => {
            one(n(uses.iter().map(|used| used.item).collect::<BTreeSet<_>>().len().try_into().unwrap()))
        }
        Measure::Unique { .. } => {
            let seen: BTreeSet<(u8, i64)> = uses
                .iter()
                .flat_map(|used| month.dates(used.start, used.end.unwrap_or(used.start)).into_iter().map(|day| (used.item, day)))
                .collect();
            one(n(seen.len().try_into().unwrap()) / n(month.dates(0, month.length).len().try_into().unwrap()))
        }
        Measure::TimeWeighted { by } => one(time(*by) / n(1_000_000)),
        Measure::Prorated { by } => vec![(time(*by) / n(month.length.into()), sum())],
        Measure::Stepped(stepped) => {
            // Time by what belongs together and level; each sum in steps.
            let mut times: BTreeMap<(String, i128), BigRational> = BTreeMap::new();
            for used in uses {
                let together = match &stepped.together {
                    Together::Reading => format!("{}", used.id),
                    Together::Dimension(_) => format!("{}", used.item),
                    Together::Period => String::new(),
                };
                let time = held(used, Clock::Microsecond, month) * n(used.units.signum());
                let sum = times.entry((together, used.units.abs())).or_insert_with(|| n(0));
                *sum = &*sum + time;
            }
            let step = n(stepped.step_micros.into());
            let convert = Convert { multiply: "1".parse().unwrap(), divide: "1".parse().unwrap(), rounding: Some((0, stepped.rounding)) };
            let sum = times.into_iter().fold(n(0), |sum, ((_, level), time)| {
                let sign = n(if time < n(0) { -1 } else { 1 });
                let time = time * &sign;
                let counted =
                    if time == n(0) { n(0) } else { (converted(&convert, &(time / &step)) * &step).max(n(stepped.least_micros.into())) };
                sum + units(level) * counted * sign
            });
            one(if stepped.share { sum / n(month.length.into()) } else { sum / n(1_000_000) })
        }
        Measure::Bucketed { seconds, each, then } => {
            let (count, window) = month.windows(*seconds);
            let mut buckets: BTreeMap<i64, i128> = BTreeMap::new();
            for used in uses {
                let value = buckets.entry(window(used.start)).or_default();
                *value = if *each == Each::Max { used.units.max(*value) } else { *value + used.units };
            }
            match then {
                Then::Sum => one(buckets.values().map(|value| units(*value)).fold(n(0), |sum, value| sum + value)),
                Then::Alone => buckets.values().map(|value| (units(*value), units(*value))).collect(),
                Then::Percentile(percent) => {
                    let count = usize::try_from(count).unwrap();
                    let mut all: Vec<i128> = buckets.values().copied().chain(std::iter::repeat_n(0, count - buckets.len())).collect();
                    all.sort_unstable();
                    let rank = (count * usize::from(*percent)).div_ceil(100);
                    one(units(all[rank - 1]))
                }
            }
        }
    }
}

fn converted(convert: &Convert, value: &BigRational) -> BigRational {
    let value = value * quantity(convert.multiply) / quantity(convert.divide);
    let Some((places, to)) = convert.rounding else { return value };
    let ten = n(10);
    let step = (0..places.unsigned_abs()).fold(n(1), |step, _| if places < 0 { step * &ten } else { step / &ten });
    let steps = value / &step;
    let half = n(1) / n(2);
    let rounded = match to {
        RoundTo::Ceiling => steps.ceil(),
        RoundTo::Floor => steps.floor(),
        RoundTo::HalfAwayFromZero if steps < n(0) => (steps - half).ceil(),
        RoundTo::HalfAwayFromZero => (steps + half).floor(),
        RoundTo::HalfEven => {
            let up = (&steps + &half).floor();
            let tie = &up - &steps == half;
            if tie && up.to_integer() % 2 != BigInt::from(0) { up - n(1) } else { up }
        }
    };
    rounded * step
}

/// Tiers as (lower bound, upper bound, tier).
fn tiers<T>(tiers: &[T], up_to: impl Fn(&T) -> Option<Quantity>) -> Vec<(BigRational, Option<BigRational>, &T)> {
    let mut lower = n(0);
    tiers
        .iter()
        .map(|tier| {
            let upper = up_to(tier).map(quantity);
            let bounds = (lower.clone(), upper.clone(), tier);
            lower = upper.unwrap_or_else(|| n(0));
            bounds
        })
        .collect()
}

fn begun(value: &BigRational, size: Quantity) -> BigRational {
    if *value > n(0) { (value / quantity(size)).ceil() } else { n(0) }
}

fn percentage(terms: &Percentage, per: &BigRational, uses: &[Use]) -> BigRational {
    let units = |units: i128| n(units) / n(1_000_000_000);
    if uses.iter().map(|used| used.units).sum::<i128>() <= 0 {
        return n(0);
    }
    let mut uses: Vec<&Use> = uses.iter().collect();
    uses.sort_by_key(|used| (used.start, used.id));
    let (limit, amount) = (terms.free_readings, quantity(terms.free_quantity));
    let (mut used_readings, mut used_amount, mut owed) = (0, n(0), n(0));
    for used in uses {
        let value = units(used.units);
        let within_count = limit == 0 || used_readings < limit;
        let within_amount = amount == n(0) || used_amount < amount;
        let lasts = (limit > 0 || amount > n(0)) && within_count && within_amount;
        let mut charged = value.clone();
        if lasts {
            used_readings += 1;
            if amount == n(0) {
                continue;
            }
            let free = value.clone().max(n(0)).min(&amount - &used_amount);
            used_amount += &free;
            charged -= free;
            if charged <= n(0) {
                continue;
            }
        }
        let mut share = charged * money(terms.rate) / per;
        if let Some(most) = terms.most {
            share = share.min(money(most));
        }
        if let Some(least) = terms.least {
            share = share.max(money(least));
        }
        owed += share + money(terms.fee);
    }
    owed
}

/// Hours, five minutes or days that readings are in, each with what its own readings alone come to under the price without the commitment.
fn windows(row: &PriceRow, commitment: &WindowCommitment, model: &PriceModel, uses: &[Use], month: &Month) -> Windows {
    let plain = PriceRow { model: model.clone(), ..row.clone() };
    let Measure::Bucketed { seconds, .. } = row.basis.measure else { panic!("no windows") };
    let (count, window) = month.windows(seconds);
    let mut of_window: BTreeMap<i64, Vec<Use>> = BTreeMap::new();
    for used in uses {
        of_window.entry(window(used.start)).or_default().push(used.clone());
    }
    let promised = match commitment.promised {
        Promised::Amount(amount) => money(amount),
        Promised::Quantity(quantity) => worth(&plain, &[Use { units: quantity.units(), start: 0, end: None, item: 0, id: 0 }], month),
    };
    let costs = of_window.values().map(|uses| worth(&plain, uses, month)).collect::<Vec<_>>();
    Windows { count, promised, costs }
}

struct Windows {
    count: i64,
    promised: BigRational,
    costs: Vec<BigRational>,
}

/// F by the words of the models.
fn worth(row: &PriceRow, uses: &[Use], month: &Month) -> BigRational {
    let per = quantity(row.per);
    let always = row.basis.first_fee == FirstFee::Always;
    if let PriceModel::Committed { commitment, model } = &row.model {
        let Windows { count, promised, costs } = windows(row, commitment, model, uses, month);
        let unused = count - i64::try_from(costs.len()).unwrap();
        let of_used = costs.into_iter().fold(n(0), |sum, cost| {
            let beyond = (&cost - &promised).max(n(0));
            let within = if commitment.true_up == TrueUp::None { cost.min(promised.clone()) } else { promised.clone() };
            sum + within + beyond * quantity(commitment.overage_factor)
        });
        return if commitment.true_up == TrueUp::Always { of_used + promised * n(unused.into()) } else { of_used };
    }
    match (&row.model, &row.basis.measure) {
        (PriceModel::Percentage(terms), _) => return percentage(terms, &per, uses),
        (PriceModel::Flat { amount }, _) => return money(*amount),
        (PriceModel::Graduated { tiers: rows }, Measure::Prorated { by }) => {
            // The level climbs and falls through the tiers; what moves inside one is weighted with the time it is held.
            let mut uses: Vec<&Use> = uses.iter().collect();
            uses.sort_by_key(|used| (used.start, used.id));
            let mut owed = n(0);
            for (number, (lower, upper, tier)) in tiers(rows, |tier| tier.up_to).into_iter().enumerate() {
                let inside = |level: &BigRational| {
                    let level = upper.as_ref().map_or(level.clone(), |upper| level.clone().min(upper.clone()));
                    if number == 0 { level } else { level.max(lower.clone()) - &lower }
                };
                let (mut level, mut entered) = (n(0), number == 0 && always);
                for used in &uses {
                    let after = &level + n(used.units) / n(1_000_000_000);
                    owed +=
                        (inside(&after) - inside(&level)) * held(used, *by, month) / n(month.length.into()) * money(tier.unit_price) / &per;
                    entered |= after > lower;
                    level = after;
                }
                if entered {
                    owed += money(tier.flat_fee);
                }
            }
            return owed;
        }
        _ => {}
    }
    let mut owed = n(0);
    for (priced, reached) in measured(&row.basis.measure, uses, month) {
        let bill = |value: BigRational| {
            let value = row.basis.convert.as_ref().map_or(value.clone(), |convert| converted(convert, &value));
            if value > n(0) { (value - quantity(row.basis.free)).max(n(0)) } else { value }
        };
        let (value, reached) = (bill(priced), bill(reached));
        owed += match &row.model {
            PriceModel::PerUnit { unit_price } => &value * money(*unit_price) / &per,
            PriceModel::Package { size, package_price } => begun(&value, *size) * money(*package_price),
            PriceModel::Graduated { tiers: rows } => {
                let part = |(number, (lower, upper, tier)): (usize, (BigRational, Option<BigRational>, &Tier))| {
                    let first = number == 0;
                    if !first && value <= lower {
                        return n(0);
                    }
                    let top = upper.map_or(value.clone(), |upper| value.clone().min(upper));
                    let fee = if value > lower || (first && always) { money(tier.flat_fee) } else { n(0) };
                    (top - lower) * money(tier.unit_price) / &per + fee
                };
                tiers(rows, |tier| tier.up_to).into_iter().enumerate().map(part).fold(n(0), |sum, part| sum + part)
            }
            PriceModel::Volume { tiers: rows } => {
                let all = tiers(rows, |tier| tier.up_to);
                let (_, _, tier) = all.iter().find(|(_, upper, _)| upper.as_ref().is_none_or(|upper| reached <= *upper)).unwrap();
                let fee = if reached > n(0) || always { money(tier.flat_fee) } else { n(0) };
                &value * money(tier.unit_price) / &per + fee
            }
            PriceModel::Blocks { tiers: rows, top: true } => {
                let all = tiers(rows, |tier| tier.up_to);
                let (_, _, tier) = all.iter().find(|(_, upper, _)| upper.as_ref().is_none_or(|upper| reached <= *upper)).unwrap();
                begun(&value, tier.size) * money(tier.block_price)
            }
            PriceModel::Blocks { tiers: rows, .. } => {
                let part = |(lower, upper, tier): (BigRational, Option<BigRational>, &BlockTier)| {
                    let top = upper.map_or(value.clone(), |upper| value.clone().min(upper));
                    begun(&(top - lower), tier.size) * money(tier.block_price)
                };
                tiers(rows, |tier| tier.up_to).into_iter().map(part).fold(n(0), |sum, part| sum + part)
            }
            _ => n(0),
        };
    }
    owed
}

fn price() -> impl Strategy<Value = Price> {
    select(vec!["0", "1", "2.1", "0.0000000005", "0.0000000015", "0.00000000333", "0.25", "7"]).prop_map(|text| text.parse().unwrap())
}

fn q(texts: &'static [&'static str]) -> impl Strategy<Value = Quantity> {
    select(texts).prop_map(|text: &str| text.parse().unwrap())
}

static BOUNDS: [&[&str]; 4] = [&[], &["10"], &["1", "2"], &["0.5", "3", "10"]];

fn price_tiers() -> impl Strategy<Value = Vec<Tier>> {
    select(&BOUNDS[..]).prop_flat_map(|bounds| {
        prop::collection::vec((price(), price()), bounds.len() + 1).prop_map(move |prices| {
            let bounds = bounds.iter().map(|bound| Some(bound.parse().unwrap())).chain([None]);
            bounds.zip(prices).map(|(up_to, (unit_price, flat_fee))| Tier { up_to, unit_price, flat_fee }).collect()
        })
    })
}

fn block_tiers() -> impl Strategy<Value = Vec<BlockTier>> {
    select(&BOUNDS[..]).prop_flat_map(|bounds| {
        prop::collection::vec((q(&["1", "0.5", "3"]), price()), bounds.len() + 1).prop_map(move |rows| {
            let bounds = bounds.iter().map(|bound| Some(bound.parse().unwrap())).chain([None]);
            bounds.zip(rows).map(|(up_to, (size, block_price))| BlockTier { up_to, size, block_price }).collect()
        })
    })
}

fn measure() -> impl Strategy<Value = Measure> {
    let clock = || select(vec![Clock::Microsecond, Clock::Day]);
    prop_oneof![
        2 => Just(Measure::Sum),
        1 => Just(Measure::Average),
        1 => Just(Measure::Max),
        1 => Just(Measure::Min),
        1 => Just(Measure::Latest),
        2 => Just(Measure::Each),
        2 => any::<bool>().prop_map(|per_day| Measure::Unique { of: "item".into(), per_day }),
        1 => clock().prop_map(|by| Measure::TimeWeighted { by }),
        2 => clock().prop_map(|by| Measure::Prorated { by }),
        3 => (
            select(vec![Together::Reading, Together::Dimension("item".into()), Together::Period]),
            select(vec![1_i64, 1_000, 60_000_000, 3_600_000_000]),
            select(vec![RoundTo::Ceiling, RoundTo::Floor, RoundTo::HalfAwayFromZero, RoundTo::HalfEven]),
            select(vec![0_i64, 60_000_000, 7_200_000_000]),
            any::<bool>(),
        )
            .prop_map(|(together, step_micros, rounding, least_micros, share)| {
                Measure::Stepped(Stepped { together, step_micros, rounding, least_micros, share })
            }),
        2 => (
            select(vec![300_u32, 3_600, 86_400]),
            select(vec![Each::Max, Each::Sum]),
            select(vec![Then::Sum, Then::Alone, Then::Percentile(95), Then::Percentile(100), Then::Percentile(1)]),
        )
            .prop_map(|(seconds, each, then)| Measure::Bucketed { seconds, each, then }),
    ]
}

fn basis() -> impl Strategy<Value = Basis> {
    let rounding = (0..3_i32, select(vec![RoundTo::Ceiling, RoundTo::Floor, RoundTo::HalfAwayFromZero, RoundTo::HalfEven]));
    let convert = (q(&["1", "1.2"]), q(&["1", "3", "0.5"]), prop::option::of(rounding)).prop_map(|(multiply, divide, rounding)| Convert {
        multiply,
        divide,
        rounding: rounding.map(|(places, to)| (places - 1, to)),
    });
    (measure(), prop::option::of(convert), q(&["0", "0", "2", "0.5"]), select(vec![FirstFee::WhenUsed, FirstFee::Always]))
        .prop_map(|(measure, convert, free, first_fee)| Basis { measure, convert, free, first_fee, ..Basis::default() })
}

fn one(month: &Month) -> impl Strategy<Value = Use> + use<> {
    // Where clocks change, and the midnights and hours around.
    let near = month.change.map_or(14 * DAY, |(at, _)| at);
    let around = [-DAY, -2 * HOUR, -HOUR, -HOUR / 2, -1, 0, 1, HOUR / 2, HOUR, 2 * HOUR, DAY].map(|by| near + by);
    let midnight = (-90..90_i64).prop_map(move |quarter| near + quarter * HOUR / 4);
    let start = prop_oneof![
        3 => select(vec![0, 1, HOUR - 1, HOUR, DAY - 1, DAY, 2 * DAY, 14 * DAY, month.length - 1]),
        2 => select(around.to_vec()),
        1 => midnight,
        1 => select(vec![HOUR / 2, HOUR / 2 - 1, month.length - HOUR / 2, month.length - 7 * HOUR, 7 * HOUR]),
        1 => 0..month.length,
    ]
    .prop_map({
        let length = month.length;
        move |start| start.clamp(0, length - 1)
    });
    let length = select(vec![None, None, Some(0), Some(1), Some(HOUR), Some(DAY), Some(3 * DAY)]);
    let quantity = prop_oneof![
        8 => select(vec![1_000_000_000, 2_000_000_000, 500_000_000, 10_000_000_000, 3_000_000_000, 1, 0]),
        2 => select(vec![-1_000_000_000, -500_000_000, -2_000_000_000]),
        1 => 0..20_000_000_000_i128,
    ];
    (quantity, start, length, 0..4_u8).prop_map(|(units, start, length, item)| Use {
        units,
        start,
        end: length.map(|length| start + length),
        item,
        id: 0,
    })
}

fn uses(month: &Month) -> impl Strategy<Value = Vec<Use>> + use<> {
    prop::collection::vec(one(month), 1..12).prop_map(|mut uses| {
        uses.iter_mut().zip(0_u8..).for_each(|(used, id)| used.id = id);
        uses
    })
}

fn plan(row: PriceRow) -> Plan {
    let meter = MeterId::parse("m").unwrap();
    let line = Line {
        bands: Vec::new(),
        sku: SkuId::parse("s").unwrap(),
        family: "f".into(),
        meter: meter.clone(),
        matches: Dimensions::default(),
        prices: vec![row],
    };
    Plan {
        version: Digest::ZERO,
        books: vec![PriceBook { currency: AssetId::parse("USD").unwrap(), lines: BTreeMap::from([(meter, vec![line])]) }],
        contracts: BTreeMap::new(),
        default_contracts: vec![Contract { id: ContractId::parse("c").unwrap(), effective_at: Instant::EPOCH, book: 0 }],
    }
}

fn readings(uses: &[Use], sequence: u64, month: &Month) -> Vec<MeteredReading> {
    let at = |micros: i64| Instant::from_micros(month.begin + micros).unwrap();
    let reading = |(used, sequence): (&Use, u64)| MeteredReading {
        position: Position { shard: ShardId::of_organization("o"), incarnation: Incarnation(1), sequence: Sequence(sequence) },
        ordinal: 0,
        identity: IdentityHash([used.id; 16]),
        organization: OrganizationId::parse("o").unwrap(),
        project: None,
        source: SourceId::parse("src").unwrap(),
        meter: MeterId::parse("m").unwrap(),
        unit: UnitId::parse("u").unwrap(),
        dimensions: Dimensions::new([("item".into(), used.item.to_string().into())]),
        quantity: Quantity::from_units(used.units).unwrap(),
        start_at: at(used.start),
        end_at: used.end.map(at),
        accepted_at: at(0),
        accounting_period: at(0).month(),
        commitment: Digest::ZERO,
        refused: None,
    };
    uses.iter().zip(sequence..).map(reading).collect()
}

/// Rates readings in batches, each on a state restored from the rows of the ones before; T, in units of 10^-9.
fn total(plan: &Plan, batches: &[&[Use]], month: &Month) -> Result<i128, TestCaseError> {
    let failed = |error: &dyn std::fmt::Display| TestCaseError::fail(error.to_string());
    let (mut rows, mut sequence, mut charged) = (Vec::new(), 1, 0_i128);
    for batch in batches {
        let state = RatingState::restore(&rows).map_err(|error| failed(&error))?;
        let rated = rate(&state, plan, &readings(batch, sequence, month), 2).map_err(|error| failed(&error))?;
        sequence += batch.len() as u64;
        for charge in &rated.charges {
            charged += i128::from(charge.fate.amount().ok_or_else(|| failed(&format!("{:?}", charge.fate.reason())))?.units());
        }
        rows.extend(totals_from_arrow(&totals_to_arrow(&rated.totals).unwrap()).unwrap());
    }
    let state = RatingState::restore(&rows).map_err(|error| failed(&error))?;
    let (_, key) = state.keys().next().unwrap();
    prop_assert_eq!(charged, i128::from(key.total.units()));
    let evaluation = evaluate(&key.segments, &PriceIndex::of(plan)).map_err(|error| failed(&error))?;
    prop_assert_eq!(evaluation.rounded, key.total);
    Ok(charged)
}

type Edges = RefCell<BTreeMap<&'static str, u64>>;

fn met(edges: &Edges, edge: &'static str, when: bool) {
    *edges.borrow_mut().entry(edge).or_default() += u64::from(when);
}

fn agrees(edges: &Edges, row: &PriceRow, month: &Month, uses: &[Use], shuffled: &[Use], cut: usize) -> TestCaseResult {
    let plan = plan(row.clone());
    prop_assert_eq!(plan.validate(), Ok(()));
    let exact = worth(row, uses, month);
    let (wanted, tie) = crate::oracle::round(&exact);
    let wanted = i128::try_from(wanted).unwrap();
    prop_assert_eq!(total(&plan, &[uses], month)?, wanted, "one batch");
    let (first, second) = shuffled.split_at(cut.min(shuffled.len() - 1));
    prop_assert_eq!(total(&plan, &[first, second], month)?, wanted, "another order, a restart between");
    let summed = row.basis.measure == Measure::Sum && !matches!(row.model, PriceModel::Percentage(_));
    if summed {
        let pieces: Vec<Use> = uses
            .iter()
            .flat_map(|used| {
                [
                    Use { units: used.units / 3, ..used.clone() },
                    Use { units: used.units - used.units / 3, id: used.id + 100, ..used.clone() },
                ]
            })
            .collect();
        prop_assert_eq!(total(&plan, &[pieces.as_slice()], month)?, wanted, "in pieces");
        // A group takes readings back: what was sent too much is sent again below zero.
        let wrong = Use { units: 5_000_000_001, id: 250, ..uses[0].clone() };
        let back = Use { units: -wrong.units, id: 251, ..wrong.clone() };
        prop_assert_eq!(total(&plan, &[std::slice::from_ref(&wrong), uses, std::slice::from_ref(&back)], month)?, wanted, "taken back");
    }
    met(edges, "a sum in pieces", summed);
    met(edges, "a tie", tie.is_some());
    met(edges, "nothing owed", exact == n(0));
    met(edges, "a repeating fraction", exact.denom() % 3 == BigInt::from(0));
    met(edges, "negative readings", uses.iter().any(|used| used.units < 0));
    met(edges, "readings at one instant", uses.windows(2).any(|pair| pair[0].start == pair[1].start));
    met(edges, "a restart", cut > 0);
    let local = row.basis.zone != Zone::default();
    met(edges, "days or hours of a zone", local);
    met(
        edges,
        "a zone around a change of its clocks",
        local && month.change.is_some_and(|(at, _)| uses.iter().any(|used| (used.start - at).abs() <= DAY)),
    );
    let odd = |used: &Use| month.is_odd(used.start, used.end.unwrap_or(used.start)) && used.start > DAY && used.start < month.length - DAY;
    met(edges, "a day that is shorter or longer", local && uses.iter().any(odd));
    if let PriceModel::Committed { commitment, model } = &row.model {
        let Windows { promised, costs, .. } = windows(row, commitment, model, uses, month);
        met(edges, "a window beyond its commitment", costs.iter().any(|cost| *cost > promised));
        met(edges, "a window that reaches it exactly", costs.contains(&promised));
        met(edges, "a window short of it that owes", commitment.true_up != TrueUp::None && costs.iter().any(|cost| *cost < promised));
        met(edges, "windows on both sides of it", costs.iter().any(|cost| *cost < promised) && costs.iter().any(|cost| *cost > promised));
        met(edges, "windows without readings that owe", commitment.true_up == TrueUp::Always);
    }
    Ok(())
}

/// Runs a model over random measures, readings and orders.
fn run(name: &str, model: impl Strategy<Value = PriceModel>, basis: impl Strategy<Value = Basis>, per: &'static [&'static str]) {
    let edges = Edges::default();
    let month = prop_oneof![1 => Just(Month::utc()), 3 => select(Month::all())];
    let arrivals = month.prop_flat_map(|month| {
        let uses = uses(&month).prop_flat_map(|uses| (Just(uses.clone()), Just(uses).prop_shuffle(), 0..6_usize));
        (Just(month), uses)
    });
    let config = Config { cases: CASES, failure_persistence: None, max_shrink_iters: 5_000, ..Config::default() };
    TestRunner::new(config)
        .run(&(model, basis, q(per), arrivals), |(model, basis, per, (month, (uses, shuffled, cut)))| {
            let leveled = matches!((&model, &basis.measure), (PriceModel::Graduated { .. }, Measure::Prorated { .. }));
            // Tiers over levels take neither; readings that are priced alone are rounded where they are converted.
            let basis = if leveled { Basis { convert: None, free: Quantity::ZERO, ..basis } } else { basis };
            let alone = |convert: Convert| Convert { rounding: convert.rounding.or(Some((2, RoundTo::Ceiling))), ..convert };
            let convert = if basis.measure == Measure::Each { basis.convert.map(alone) } else { basis.convert };
            let zone = if basis.measure.counts_local_time() { Zone::parse(month.zone).unwrap() } else { Zone::default() };
            let basis = Basis { convert, zone, ..basis };
            let row = PriceRow { id: PriceId::parse("p").unwrap(), effective_at: Instant::EPOCH, per, model, basis };
            agrees(&edges, &row, &month, &uses, &shuffled, cut)
        })
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    for (edge, times) in edges.into_inner() {
        println!("{name}: {edge}: {times}");
        let never = match edge {
            "a sum in pieces" => ["percentage", "window_commitment"].contains(&name),
            // Counts times prices are decimals.
            "a repeating fraction" => matches!(name, "package" | "blocks"),
            "days or hours of a zone" | "a zone around a change of its clocks" | "a day that is shorter or longer" => name == "percentage",
            _ => false,
        };
        assert!(times > 0 || never || name == "flat", "{name}: {edge} was never met");
    }
}

const PERS: &[&str] = &["1", "3", "100", "0.5"];

#[test]
fn per_unit_prices_agree_with_the_oracle() {
    run("per_unit", price().prop_map(|unit_price| PriceModel::PerUnit { unit_price }), basis(), PERS);
}

#[test]
fn packages_agree_with_the_oracle() {
    let model = (q(&["1", "10", "0.5"]), price()).prop_map(|(size, package_price)| PriceModel::Package { size, package_price });
    run("package", model, basis(), PERS);
}

#[test]
fn graduated_prices_agree_with_the_oracle() {
    run("graduated", price_tiers().prop_map(|tiers| PriceModel::Graduated { tiers }), basis(), PERS);
}

#[test]
fn volume_prices_agree_with_the_oracle() {
    run("volume", price_tiers().prop_map(|tiers| PriceModel::Volume { tiers }), basis(), PERS);
}

#[test]
fn blocks_agree_with_the_oracle() {
    run("blocks", (block_tiers(), any::<bool>()).prop_map(|(tiers, top)| PriceModel::Blocks { tiers, top }), basis(), PERS);
}

#[test]
fn percentages_agree_with_the_oracle() {
    let bounds = select(vec![(None, None), (Some("0.01"), None), (None, Some("0.05")), (Some("0.01"), Some("0.05"))]);
    let parse = |text: Option<&str>| text.map(|text| text.parse().unwrap());
    let model = (price(), price(), bounds, 0..4_u64, q(&["0", "0", "2", "3.5"])).prop_map(
        move |(rate, fee, (least, most), free_readings, free_quantity)| {
            PriceModel::Percentage(Percentage { rate, fee, least: parse(least), most: parse(most), free_readings, free_quantity })
        },
    );
    run("percentage", model, Just(Basis::default()), &["100", "3"]);
}

#[test]
fn commitments_of_windows_agree_with_the_oracle() {
    let model = prop_oneof![
        2 => price().prop_map(|unit_price| PriceModel::PerUnit { unit_price }),
        1 => (q(&["1", "10", "0.5"]), price()).prop_map(|(size, package_price)| PriceModel::Package { size, package_price }),
        2 => price_tiers().prop_map(|tiers| PriceModel::Graduated { tiers }),
        1 => price_tiers().prop_map(|tiers| PriceModel::Volume { tiers }),
        1 => (block_tiers(), any::<bool>()).prop_map(|(tiers, top)| PriceModel::Blocks { tiers, top }),
    ];
    let amounts = select(vec!["1", "2.1", "0.0000000005", "0.00000000333", "7", "20"]);
    let promised = prop_oneof![
        amounts.prop_map(|text| Promised::Amount(text.parse().unwrap())),
        q(&["1", "2", "3", "0.5", "10"]).prop_map(Promised::Quantity),
    ];
    let commitment = (promised, q(&["1", "1.5", "2", "0.333333333"]), select(vec![TrueUp::None, TrueUp::WhenUsed, TrueUp::Always]));
    let model = (model, commitment).prop_map(|(model, (promised, overage_factor, true_up))| PriceModel::Committed {
        commitment: WindowCommitment { promised, overage_factor, true_up },
        model: Box::new(model),
    });
    let windows = (select(vec![300_u32, 3_600, 86_400]), select(vec![Each::Max, Each::Sum]));
    let basis = (basis(), windows)
        .prop_map(|(basis, (seconds, each))| Basis { measure: Measure::Bucketed { seconds, each, then: Then::Alone }, ..basis });
    run("window_commitment", model, basis, PERS);
}

#[test]
fn flat_prices_agree_with_the_oracle() {
    run("flat", price().prop_map(|amount| PriceModel::Flat { amount }), Just(Basis::default()), &["1"]);
}
