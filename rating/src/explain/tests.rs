//! The page to the byte, for each price model, and that rows which contradict the rule are not explained away.

use std::collections::BTreeMap;
use std::sync::Arc;

use platform_usage::{Dimensions, Reason};
use shared_types::{
    Amount, AssetId, ContractId, Digest, IdentityHash, Instant, MeterId, Month, OrganizationId, PriceId, ProjectId, SkuId, SourceId, UnitId,
};

use super::{ExplainError, Explanation, KeyFacts, LineFacts, decimal};
use crate::charges::{Fate, Priced, Rated, States};
use crate::evaluate::{PriceIndex, Rule, evaluate};
use crate::plan::{Line, Plan, PriceBook, PriceModel, PriceRow, Tier};
use crate::state::{SegmentState, encode_segments};

fn row(id: &str, from: &str, per: &str, model: PriceModel) -> PriceRow {
    PriceRow {
        id: PriceId::parse(id).unwrap(),
        effective_at: Instant::parse(from).unwrap(),
        per: per.parse().unwrap(),
        model,
        basis: crate::Basis::default(),
    }
}

fn tier(up_to: &str, unit_price: &str, flat_fee: &str) -> Tier {
    Tier { up_to: up_to.parse().ok(), unit_price: unit_price.parse().unwrap(), flat_fee: flat_fee.parse().unwrap() }
}

fn plan(rows: Vec<PriceRow>) -> Plan {
    let meter = MeterId::parse("tokens.output").unwrap();
    let line = Line {
        sku: SkuId::parse("output").unwrap(),
        family: "token-factory".into(),
        meter: meter.clone(),
        matches: Dimensions::default(),
        bands: Vec::new(),
        prices: rows,
    };
    let book = PriceBook { currency: AssetId::parse("USD").unwrap(), lines: BTreeMap::from([(meter, vec![line])]) };
    Plan { version: Digest([7; 32]), books: vec![book], ..Plan::default() }
}

fn state(sums: &[(&str, &str, u64)]) -> BTreeMap<PriceId, SegmentState> {
    let segment = |quantity: &str, readings| SegmentState::of_sums(quantity.parse().unwrap(), readings);
    sums.iter().map(|(price, quantity, readings)| (PriceId::parse(price).unwrap(), segment(quantity, *readings))).collect()
}

fn total(plan: &Plan, sums: &[(&str, &str, u64)]) -> Amount {
    evaluate(&state(sums), &PriceIndex::of(plan)).unwrap().rounded
}

fn priced(rule: Rule) -> Priced {
    Priced {
        log_month: Month::from_number(202_610).unwrap(),
        log_seq: 4,
        contract: ContractId::parse("everyone").unwrap(),
        contract_line: "everyone/output".into(),
        service_period: Month::from_number(202_610).unwrap(),
        sku: SkuId::parse("output").unwrap(),
        price: PriceId::parse("p-1").unwrap(),
        rule,
        currency: AssetId::parse("USD").unwrap(),
    }
}

fn rated(fate: Fate) -> Rated {
    Rated {
        identity: IdentityHash([3; 16]),
        ordinal: 1,
        organization: OrganizationId::parse("acme").unwrap(),
        project: ProjectId::parse("chat").ok(),
        source: SourceId::parse("gateway").unwrap(),
        meter: MeterId::parse("tokens.output").unwrap(),
        unit: UnitId::parse("token").unwrap(),
        dimensions: Dimensions::new([("model".into(), "m-1".into())]),
        quantity: "600".parse().unwrap(),
        start_at: Instant::parse("2026-10-30T23:59:59.5Z").unwrap(),
        end_at: Instant::parse("2026-10-31T00:00:01Z").ok(),
        accepted_at: Instant::parse("2026-11-02T00:00:01Z").unwrap(),
        accounting_period: Month::from_number(202_611).unwrap(),
        registry_version: Digest([7; 32]),
        supersedes: None,
        fate,
    }
}

fn charged(plan: &Plan, rule: Rule, before: &[(&str, &str, u64)], after: &[(&str, &str, u64)]) -> Rated {
    rated(Fate::Charged {
        priced: priced(rule),
        states: Some(States { before: encode_segments(&state(before)).into(), after: encode_segments(&state(after)).into() }),
        amount: total(plan, after).checked_sub(total(plan, before)).unwrap(),
    })
}

fn check(name: &str, explanation: &Explanation) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/explain/{name}.txt"));
    let text = explanation.text();
    if std::env::var_os("TALLY_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{name} is not the golden page; TALLY_WRITE_GOLDEN=1 rewrites it:\n{text}");
}

fn graduated() -> Plan {
    let tiers = vec![tier("1000", "0.60", "0"), tier("100000", "0.5000000005", "2"), tier("open", "0.33", "0")];
    plan(vec![row("p-1", "2020-01-01T00:00:00Z", "1000000", PriceModel::Graduated { tiers })])
}

#[test]
fn a_reading_that_crosses_a_tier_shows_both_sides() {
    let plan = graduated();
    let charge = charged(&plan, Rule::Graduated, &[("p-1", "800", 2)], &[("p-1", "1400", 3)]);
    check("graduated", &Explanation::of_charge(charge, &plan, Some("Output tokens".to_owned())).unwrap());
}

#[test]
fn prices_that_change_inside_a_period_have_a_table_each() {
    let third = PriceModel::PerUnit { unit_price: "0.1".parse().unwrap() };
    let package = PriceModel::Package { size: "500".parse().unwrap(), package_price: "1.5".parse().unwrap() };
    let plan = plan(vec![row("p-1", "2020-01-01T00:00:00Z", "3", third), row("p-2", "2026-10-15T00:00:00Z", "1", package)]);
    let charge = charged(&plan, Rule::PerUnit, &[("p-2", "501", 1)], &[("p-1", "1", 1), ("p-2", "501", 1)]);
    check("two_prices", &Explanation::of_charge(charge, &plan, None).unwrap());
}

#[test]
fn a_running_total_stands_alone() {
    let volume = PriceModel::Volume { tiers: vec![tier("1000", "0.6", "0"), tier("open", "0.4", "1")] };
    let plan = plan(vec![row("p-1", "2020-01-01T00:00:00Z", "1", volume)]);
    let charge = charged(&plan, Rule::Volume, &[("p-1", "900", 2)], &[("p-1", "1500", 3)]);
    check("key", &Explanation::of_key(charge, &plan, Some("Output tokens".to_owned())).unwrap());
}

#[test]
fn a_line_shows_the_rounding_to_the_currency_and_what_was_invoiced_before() {
    let plan = graduated();
    let sums = [("p-1", "1400", 3)];
    let key_total = total(&plan, &sums);
    let line = |invoiced_before: &str, amount: &str| LineFacts {
        invoice: "draft-1".to_owned(),
        number: 2,
        scale: 2,
        mode: "half_away_from_zero".to_owned(),
        key_total,
        key_amount: "2".parse().unwrap(),
        invoiced_before: invoiced_before.parse().unwrap(),
        amount: amount.parse().unwrap(),
    };
    let key = KeyFacts {
        organization: OrganizationId::parse("acme").unwrap(),
        contract: ContractId::parse("everyone").unwrap(),
        contract_line: "everyone/output".into(),
        sku: SkuId::parse("output").unwrap(),
        description: None,
        service_period: Month::from_number(202_610).unwrap(),
        currency: AssetId::parse("USD").unwrap(),
        unit: None,
        registry_version: Digest([7; 32]),
    };
    check("line", &Explanation::of_line(line("0", "2"), key.clone(), &state(&sums), &plan).unwrap());
    check("line_adjusted", &Explanation::of_line(line("1.5", "0.5"), key.clone(), &state(&sums), &plan).unwrap());
    let wrong = LineFacts { key_total: "2.5".parse().unwrap(), ..line("0", "2") };
    let refused = Explanation::of_line(wrong, key, &state(&sums), &plan);
    assert!(matches!(refused, Err(ExplainError::Contradiction { .. })), "{refused:?}");
}

#[test]
fn free_and_quarantined_readings_say_why() {
    let plan = graduated();
    let free = rated(Fate::Free { priced: priced(Rule::Free), named: Arc::from("launch") });
    check("free", &Explanation::of_charge(free, &plan, None).unwrap());
    let quarantined = rated(Fate::Quarantined { reason: Reason::Unpriced });
    check("quarantined", &Explanation::of_charge(quarantined, &plan, None).unwrap());
}

#[test]
fn a_row_whose_amount_is_not_the_difference_is_not_explained_away() {
    let plan = graduated();
    let mut charge = charged(&plan, Rule::Graduated, &[("p-1", "800", 2)], &[("p-1", "1400", 3)]);
    if let Fate::Charged { amount, .. } = &mut charge.fate {
        *amount = amount.checked_add("0.000000001".parse().unwrap()).unwrap();
    }
    let refused = Explanation::of_charge(charge, &plan, None);
    assert!(matches!(refused, Err(ExplainError::Contradiction { .. })), "{refused:?}");
}

#[test]
fn a_decimal_is_shown_only_where_it_is_exact() {
    for (fraction, shown) in
        [("21/20", "1.05"), ("-1/8", "-0.125"), ("7", "7"), ("1/3", "1/3"), ("10/3", "10/3"), ("1/3 + 1/7", "1/3 + 1/7")]
    {
        assert_eq!(decimal(fraction), shown);
    }
}

/// The charge of the last of some readings (day of October, quantity) at one price.
fn charge_of(row: &PriceRow, readings: &[(i64, &str)]) -> (Plan, Rated) {
    let plan = plan(vec![row.clone()]);
    let dimensions = Dimensions::default();
    let mut segment = SegmentState::default();
    let mut states = vec![BTreeMap::new()];
    for ((day, quantity), number) in readings.iter().zip(0..) {
        let at = Instant::from_micros(Month::from_number(202_610).unwrap().start().micros() + (day - 1) * 86_400_000_000).unwrap();
        let place = crate::state::Place { at, identity: IdentityHash([number; 16]), ordinal: 0 };
        let period = Month::from_number(202_610).unwrap();
        let fact = crate::state::Fact { place, end_at: None, quantity: quantity.parse().unwrap(), dimensions: &dimensions, period };
        segment = segment.with(row, &fact).unwrap();
        states.push(BTreeMap::from([(row.id.clone(), segment.clone())]));
    }
    let [.., before, after] = &states[..] else { panic!("no reading") };
    let total = |state| evaluate(state, &PriceIndex::of(&plan)).unwrap().rounded;
    let charge = rated(Fate::Charged {
        priced: priced(Rule::of(row)),
        states: Some(States { before: encode_segments(before).into(), after: encode_segments(after).into() }),
        amount: total(after).checked_sub(total(before)).unwrap(),
    });
    (plan, charge)
}

#[test]
fn what_is_measured_converted_and_free_is_shown_beside_the_tiers() {
    let tiers = vec![tier("2", "10", "0"), tier("open", "7.5", "1")];
    let mut measured = row("p-1", "2020-01-01T00:00:00Z", "1", PriceModel::Graduated { tiers });
    measured.basis = crate::Basis {
        measure: crate::Measure::Max,
        convert: Some(crate::Convert {
            multiply: "1".parse().unwrap(),
            divide: "1000".parse().unwrap(),
            rounding: Some((0, crate::RoundTo::Ceiling)),
        }),
        free: "1".parse().unwrap(),
        ..crate::Basis::default()
    };
    let (plan, charge) = charge_of(&measured, &[(3, "2900"), (2, "1200"), (9, "4000.5")]);
    check("measured", &Explanation::of_charge(charge, &plan, None).unwrap());
}

#[test]
fn a_percentage_shows_its_share_its_fees_and_what_is_free() {
    let terms = crate::Percentage {
        rate: "2.9".parse().unwrap(),
        fee: "0.3".parse().unwrap(),
        least: "0.5".parse().ok(),
        most: "12".parse().ok(),
        free_readings: 3,
        free_quantity: "100".parse().unwrap(),
    };
    let row = row("p-1", "2020-01-01T00:00:00Z", "100", PriceModel::Percentage(terms));
    let (plan, charge) = charge_of(&row, &[(5, "40"), (6, "10000"), (7, "10"), (1, "80")]);
    check("percentage", &Explanation::of_charge(charge, &plan, None).unwrap());
}

#[test]
fn levels_and_blocks_have_pages_too() {
    let tiers = vec![tier("2", "31", "0"), tier("open", "15.5", "1")];
    let mut levels = row("p-1", "2020-01-01T00:00:00Z", "1", PriceModel::Graduated { tiers });
    levels.basis.measure = crate::Measure::Prorated { by: crate::Clock::Day };
    let (plan, charge) = charge_of(&levels, &[(1, "4"), (11, "12"), (31, "6")]);
    check("levels", &Explanation::of_charge(charge, &plan, None).unwrap());
    let block = |up_to: &str, size: &str, price: &str| crate::BlockTier {
        up_to: up_to.parse().ok(),
        size: size.parse().unwrap(),
        block_price: price.parse().unwrap(),
    };
    let blocks = PriceModel::Blocks { tiers: vec![block("1000", "100", "1"), block("open", "1000", "0.5")], top: false };
    let (plan, charge) = charge_of(&row("p-1", "2020-01-01T00:00:00Z", "1", blocks), &[(1, "950"), (2, "1101")]);
    check("blocks", &Explanation::of_charge(charge, &plan, None).unwrap());
}

#[test]
fn windows_show_what_was_promised_for_each_and_what_became_of_it() {
    let model = |true_up| PriceModel::Committed {
        commitment: crate::WindowCommitment {
            promised: crate::Promised::Quantity("4".parse().unwrap()),
            overage_factor: "1.5".parse().unwrap(),
            true_up,
        },
        model: Box::new(PriceModel::PerUnit { unit_price: "2.5".parse().unwrap() }),
    };
    let committed = |true_up| {
        let mut row = row("p-1", "2020-01-01T00:00:00Z", "1", model(true_up));
        row.basis.measure = crate::Measure::Bucketed { seconds: 86_400, each: crate::Each::Sum, then: crate::Then::Alone };
        row
    };
    let (plan, charge) = charge_of(&committed(crate::TrueUp::WhenUsed), &[(1, "1"), (3, "6"), (2, "4"), (1, "2.5")]);
    check("windows", &Explanation::of_charge(charge, &plan, None).unwrap());
    let days: Vec<(i64, &str)> = (1..9).map(|day| (day, "5")).collect();
    let (plan, charge) = charge_of(&committed(crate::TrueUp::Always), &days);
    check("windows_always", &Explanation::of_key(charge, &plan, None).unwrap());
    let mut local = committed(crate::TrueUp::Always);
    local.basis.zone = platform_usage::calendar::Zone::parse("America/Los_Angeles").unwrap();
    let (plan, charge) = charge_of(&local, &[(1, "1"), (3, "6"), (31, "4")]);
    check("windows_zone", &Explanation::of_charge(charge, &plan, None).unwrap());
}

#[test]
fn a_state_without_what_its_price_measures_is_not_explained() {
    let mut measured = row("p-1", "2020-01-01T00:00:00Z", "1", PriceModel::PerUnit { unit_price: "1".parse().unwrap() });
    measured.basis.measure = crate::Measure::Max;
    let plan = plan(vec![measured]);
    let sums = state(&[("p-1", "5", 2)]);
    let refused = evaluate(&sums, &PriceIndex::of(&plan)).unwrap_err();
    assert_eq!(refused.to_string(), "the state of price p-1 does not hold what its measure needs");
}
