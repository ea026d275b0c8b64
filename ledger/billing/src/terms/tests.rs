//! What terms come to, worked out by hand.

use super::*;
use crate::invoice::RoundingMode;

fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

fn quantity(text: &str) -> Quantity {
    text.parse().unwrap()
}

fn sku(text: &str) -> SkuId {
    text.parse().unwrap()
}

fn month(text: &str) -> Month {
    Month::parse(text).unwrap()
}

/// `h100` and `a100` are of the family `gpu`, `tokens` of its own, `support` a recurring fee.
fn skus() -> BTreeMap<SkuId, SkuFacts> {
    let facts = |family: &str, recurring| SkuFacts { family: family.into(), recurring };
    [
        (sku("h100"), facts("gpu", false)),
        (sku("a100"), facts("gpu", false)),
        (sku("tokens"), facts("tokens", false)),
        (sku("support"), facts("support", true)),
    ]
    .into()
}

/// `id kind figures scope`: `off discount 10`, `promise commitment 1000 1.2 owed gpu`, `cap maximum_spend 100 #h100`.
fn term(text: &str) -> Term {
    let words: Vec<&str> = text.split(' ').collect();
    let (rule, scope) = match words[1..] {
        ["discount", percent, ref scope @ ..] => (Rule::Discount { percent: quantity(percent) }, scope),
        ["capacity", ref scope @ ..] => (Rule::Capacity {}, scope),
        ["commitment", of, factor, true_up, ref scope @ ..] => {
            let true_up = if true_up == "owed" { TrueUp::Owed } else { TrueUp::None };
            (Rule::Commitment { amount: amount(of), overage_factor: quantity(factor), true_up }, scope)
        }
        ["maximum_spend", of, ref scope @ ..] => (Rule::MaximumSpend { amount: amount(of) }, scope),
        ["minimum_spend", of, ref scope @ ..] => (Rule::MinimumSpend { amount: amount(of) }, scope),
        _ => panic!("{text}"),
    };
    let (skus, families): (Vec<&str>, Vec<&str>) = scope.iter().partition(|name| name.starts_with('#'));
    let scope =
        Scope { families: families.into_iter().map(str::to_owned).collect(), skus: skus.into_iter().map(|name| sku(&name[1..])).collect() };
    Term { id: words[0].to_owned(), description: words[1].to_owned(), rule, scope }
}

fn termed(over: Over, terms: &[&str]) -> Termed {
    let mut terms: Vec<Term> = terms.iter().map(|text| term(text)).collect();
    terms.sort_by(|a, b| a.id.cmp(&b.id));
    Termed {
        contract: "acme-2026".parse().unwrap(),
        currency: "USD".parse().unwrap(),
        from: month("2026-01"),
        until: None,
        over,
        terms: terms.into(),
    }
}

const CENTS: Rounding = Rounding { mode: RoundingMode::HalfAwayFromZero, scale: 2 };

/// `id amount of spend` of each term, in the order of application, whatever the order of the keys.
fn check_over(over: Over, terms: &[&str], keys: &[(&str, &str)], expected: &[&str]) {
    let termed = termed(over, terms);
    let mut keys: Vec<(SkuId, Amount)> = keys.iter().map(|(name, spent)| (sku(name), amount(spent))).collect();
    for _ in 0..2 {
        let applied = apply(&termed, &keys, &skus(), CENTS).unwrap();
        let shown: Vec<String> =
            applied.iter().map(|applied| format!("{} {} of {}", applied.term.id, applied.amount, applied.spend)).collect();
        assert_eq!(shown, expected);
        keys.reverse();
    }
}

fn check(terms: &[&str], keys: &[(&str, &str)], expected: &[&str]) {
    check_over(Over::Everything, terms, keys, expected);
}

#[test]
fn a_minimum_a_maximum_and_a_commitment_add_or_take_off_what_is_missing_or_too_much() {
    check(&["least minimum_spend 100"], &[("h100", "70"), ("tokens", "12.34")], &["least 17.66 of 82.34"]);
    check(&["least minimum_spend 100"], &[("h100", "170")], &["least 0 of 170"]);
    check(&["least minimum_spend 100"], &[], &["least 100 of 0"]);
    check(&["most maximum_spend 100"], &[("h100", "70"), ("tokens", "42.5")], &["most -12.5 of 112.5"]);
    check(&["most maximum_spend 100"], &[("h100", "70")], &["most 0 of 70"]);
    // 1,000 promised: 300 are missing; 250 beyond cost a fifth more.
    check(&["promise commitment 1000 1.2 owed"], &[("h100", "700")], &["promise 300 of 700"]);
    check(&["promise commitment 1000 1.2 owed"], &[("h100", "1250")], &["promise 50 of 1250"]);
    check(&["promise commitment 1000 0.9 none"], &[("h100", "700")], &["promise 0 of 700"]);
    check(&["promise commitment 1000 0.9 none"], &[("h100", "1250")], &["promise -25 of 1250"]);
}

#[test]
fn of_a_capacity_only_the_dearest_sku_is_owed_and_what_it_takes_off_is_no_spend() {
    check(&["peak capacity gpu"], &[("h100", "20"), ("a100", "30"), ("tokens", "5")], &["peak -20 of 50"]);
    check(&["peak capacity gpu"], &[("h100", "20")], &["peak 0 of 20"]);
    check(&["peak capacity gpu"], &[("tokens", "20")], &["peak 0 of 0"]);
    // 50 less 5: 27 are left of the dearest, at most 25; at least 40 over all.
    check(
        &["all minimum_spend 40", "most maximum_spend 25 gpu", "off discount 10", "peak capacity gpu"],
        &[("h100", "20"), ("a100", "30"), ("tokens", "10")],
        &["off -6 of 60", "peak -18 of 45", "most -2 of 27", "all 6 of 34"],
    );
    check_over(Over::Usage, &["peak capacity"], &[("support", "99"), ("tokens", "5"), ("h100", "4")], &["peak -4 of 9"]);
}

#[test]
fn a_discount_is_rounded_sku_by_sku_and_the_next_one_takes_of_what_is_left() {
    // 12.5 % of 0.20 is 0.025, of 0.04 is 0.005: both ties go up.
    check(&["off discount 12.5"], &[("h100", "0.2"), ("tokens", "0.04")], &["off -0.04 of 0.24"]);
    check(&["a discount 10", "b discount 50 gpu"], &[("h100", "100"), ("tokens", "100")], &["a -20 of 200", "b -45 of 90"]);
    // A credit is discounted as what it gives back was.
    check(&["off discount 10"], &[("h100", "-10")], &["off 1 of -10"]);
}

#[test]
fn discounts_come_first_and_named_scopes_before_the_whole_contract() {
    check(
        &["least minimum_spend 2000", "most maximum_spend 600 gpu", "off discount 10", "promise commitment 1500 2 owed"],
        &[("h100", "500"), ("a100", "300"), ("tokens", "200")],
        // 1,000 less 100; GPUs 720 down to 600; 600 and 180 for tokens of 1,500 promised; 2,000 at least.
        &["off -100 of 1000", "most -120 of 720", "promise 720 of 780", "least 500 of 1500"],
    );
    check(
        &["a minimum_spend 50 #h100", "b minimum_spend 80 tokens", "c minimum_spend 200"],
        &[("h100", "20"), ("a100", "30"), ("tokens", "100")],
        &["a 30 of 20", "b 0 of 100", "c 20 of 180"],
    );
}

#[test]
fn recurring_fees_are_spend_unless_the_contract_leaves_them_out() {
    let keys = [("h100", "60"), ("support", "30")];
    check(&["least minimum_spend 100"], &keys, &["least 10 of 90"]);
    check_over(Over::Usage, &["least minimum_spend 100", "off discount 50"], &keys, &["off -30 of 60", "least 70 of 30"]);
    check_over(Over::Usage, &["least minimum_spend 100 support"], &keys, &["least 100 of 0"]);
}

#[test]
fn figures_beyond_the_range_are_refused() {
    let huge = [(sku("h100"), amount("9000000000")), (sku("a100"), amount("9000000000"))];
    assert_eq!(apply(&termed(Over::Everything, &["least minimum_spend 1"]), &huge, &skus(), CENTS), Err(OutOfRange));
}

#[test]
fn the_periods_of_a_close_are_those_behind_the_one_before_as_long_as_the_contract_is_in_force() {
    let mut termed = termed(Over::Everything, &["least minimum_spend 1"]);
    let of = |termed: &Termed, after: Option<&str>, through: &str| -> Vec<String> {
        termed.periods(after.map(month), month(through)).map(|month| month.to_string()).collect()
    };
    termed.from = month("2026-09");
    assert_eq!(of(&termed, None, "2026-11"), ["2026-09", "2026-10", "2026-11"]);
    assert_eq!(of(&termed, Some("2026-10"), "2026-11"), ["2026-11"]);
    assert_eq!(of(&termed, Some("2026-06"), "2026-08"), Vec::<String>::new());
    termed.until = Some(month("2026-11"));
    assert_eq!(of(&termed, None, "2026-12"), ["2026-09", "2026-10"]);
    let organization: OrganizationId = "acme".parse().unwrap();
    let terms = Terms { own: [(organization.clone(), vec![termed])].into(), ..Terms::default() };
    let owing = |after: Option<&OrganizationId>, previous: &str| terms.owing(after, Some(month(previous)), month("2026-12")).count();
    assert_eq!((owing(None, "2026-09"), owing(None, "2026-10"), owing(Some(&organization), "2026-09")), (1, 0, 0));
}
