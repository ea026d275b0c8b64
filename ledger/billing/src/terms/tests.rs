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

/// `id kind figures scope`: `off discount 10`, `promise commitment 1000 1.2 owed gpu`, `cap maximum_spend 100 #h100`, `by graduated_discount
/// 100:0,10`; an `id*12` looks at 12 months together.
fn term(text: &str) -> Term {
    let words: Vec<&str> = text.split(' ').collect();
    let (rule, scope) = match words[1..] {
        ["discount", percent, ref scope @ ..] => (Rule::Discount { percent: quantity(percent) }, scope),
        ["capacity", ref scope @ ..] => (Rule::Capacity {}, scope),
        ["graduated_discount", tiers, ref scope @ ..] => {
            let tier = |text: &str| match text.split_once(':') {
                Some((up_to, percent)) => DiscountTier { up_to: Some(amount(up_to)), percent: quantity(percent) },
                None => DiscountTier { up_to: None, percent: quantity(text) },
            };
            (Rule::GraduatedDiscount { tiers: tiers.split(',').map(tier).collect() }, scope)
        }
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
    let (id, months) = words[0].split_once('*').unwrap_or((words[0], "1"));
    Term { id: id.to_owned(), description: words[1].to_owned(), rule, months: months.parse().unwrap(), scope }
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
        let applied = apply(&termed, month("2026-01"), &keys, &skus(), CENTS, &mut Windows::new()).unwrap();
        let shown: Vec<String> =
            applied.iter().map(|applied| format!("{} {} of {}", applied.term.id, applied.amount, applied.spend)).collect();
        assert_eq!(shown, expected);
        assert!(applied.iter().all(|applied| applied.window.is_none()));
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

/// What terms come to month by month, from January on, for what is spent on `h100` and on `tokens` in each.
#[track_caller]
fn check_months(terms: &[&str], spent: &[(&str, &str)], expected: &[&[&str]]) {
    let termed = termed(Over::Everything, terms);
    let policies = Policies {
        roundings: [("USD".parse().unwrap(), CENTS)].into(),
        terms: Terms { skus: skus(), ..Terms::default() },
        ..Policies::default()
    };
    let (mut spend, mut period) = (Spend::default(), month("2026-01"));
    let mut shown: Vec<Vec<String>> = Vec::new();
    for (gpu, tokens) in spent {
        for (name, spent) in [("h100", gpu), ("tokens", tokens)] {
            spend.add(&termed.contract, &termed.currency, period, &sku(name), amount(spent));
        }
        let show = |applied: &Applied<'_>| {
            let window = applied.window.map(|window| format!(" behind {} of {}", window.amount_before, window.spend_before));
            format!("{} {} of {}{}", applied.term.id, applied.amount, applied.spend, window.unwrap_or_default())
        };
        shown.push(spend.apply(&termed, period, &policies).unwrap().iter().map(show).collect());
        period = period.next().unwrap();
    }
    assert_eq!(shown, expected);
}

#[test]
fn a_promise_over_several_months_is_owed_with_the_last_and_its_overage_as_it_comes() {
    check_months(
        &["promise*3 commitment 1000 1.5 owed"],
        &[("600", "100"), ("200", "0"), ("0", "0"), ("900", "0"), ("300", "0"), ("0", "10")],
        &[
            &["promise 0 of 700 behind 0 of 0"],
            &["promise 0 of 200 behind 0 of 700"],
            &["promise 100 of 0 behind 0 of 900"],
            // The next three months: 200 beyond cost half as much again, and 10 more.
            &["promise 0 of 900 behind 0 of 0"],
            &["promise 100 of 300 behind 0 of 900"],
            &["promise 5 of 10 behind 100 of 1200"],
        ],
    );
    // What was beyond and is credited is not.
    check_months(
        &["promise*2 commitment 100 2 none"],
        &[("150", "0"), ("-80", "0")],
        &[&["promise 50 of 150 behind 0 of 0"], &["promise -50 of -80 behind 50 of 150"]],
    );
    check_months(
        &["least*2 minimum_spend 100"],
        &[("70", "0"), ("20", "0"), ("0", "0"), ("130", "0")],
        &[
            &["least 0 of 70 behind 0 of 0"],
            &["least 10 of 20 behind 0 of 70"],
            &["least 0 of 0 behind 0 of 0"],
            &["least 0 of 130 behind 0 of 0"],
        ],
    );
    check_months(
        &["most*2 maximum_spend 100"],
        &[("130", "0"), ("-50", "0"), ("60", "0"), ("60", "0")],
        &[
            &["most -30 of 130 behind 0 of 0"],
            &["most 30 of -50 behind -30 of 130"],
            &["most 0 of 60 behind 0 of 0"],
            &["most -20 of 60 behind 0 of 60"],
        ],
    );
}

#[test]
fn tiers_of_a_discount_carry_on_from_month_to_month() {
    check_months(
        &["by*3 graduated_discount 100:0,200:2.5,10"],
        &[("60", "0"), ("60.2", "0"), ("0", "180"), ("120", "0")],
        &[
            &["by 0 of 60 behind 0 of 0"],
            // 20.20 at 2.5 %: 0.505.
            &["by -0.51 of 60.2 behind 0 of 60"],
            // 79.80 more of the second tier, 100.20 of the third: 12.52 together.
            &["by -12.01 of 180 behind -0.51 of 120.2"],
            &["by -0.5 of 120 behind 0 of 0"],
        ],
    );
    check(&["by graduated_discount 100:10,50"], &[("h100", "120"), ("tokens", "-10")], &["by -15 of 110"]);
}

#[test]
fn what_a_window_adds_in_a_month_is_spend_to_the_terms_behind_it() {
    check_months(
        // At least 100 a month in all; of GPUs at most 150 in two months.
        &["least minimum_spend 100", "most*2 maximum_spend 150 gpu"],
        &[("120", "10"), ("60", "10")],
        &[&["most 0 of 120 behind 0 of 0", "least 0 of 130"], &["most -30 of 60 behind 0 of 120", "least 60 of 40"]],
    );
}

#[test]
fn the_months_behind_one_are_those_of_the_longest_window_with_it() {
    let termed = termed(Over::Everything, &["a*3 minimum_spend 1", "b*2 maximum_spend 9", "c discount 5"]);
    for (period, through, expected) in [
        ("2026-01", "2026-12", &["2026-02", "2026-03"][..]),
        ("2026-02", "2026-12", &["2026-03"]),
        ("2026-03", "2026-12", &["2026-04"]),
        ("2026-06", "2026-12", &[]),
        ("2026-01", "2026-02", &["2026-02"]),
        ("2026-01", "2026-01", &[]),
    ] {
        let behind: Vec<String> = termed.behind(month(period), month(through)).map(|month| month.to_string()).collect();
        assert_eq!(behind, expected, "{period} {through}");
    }
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
    let termed = termed(Over::Everything, &["least minimum_spend 1"]);
    assert_eq!(apply(&termed, month("2026-01"), &huge, &skus(), CENTS, &mut Windows::new()), Err(OutOfRange));
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
