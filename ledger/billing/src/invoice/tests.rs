//! Invoices against a model: rounding by rationals, adjustments that telescope, postings that clear what is unbilled.

use num_bigint::BigInt;
use num_rational::BigRational;
use proptest::prelude::*;

use super::*;

fn amount(text: &str) -> Amount {
    Amount::parse(text).unwrap()
}

fn month(text: &str) -> Month {
    Month::parse(text).unwrap()
}

fn policies(scale: u32, mode: RoundingMode) -> Policies {
    let sku = |text: &str| SkuText { description: text.to_owned(), unit: UnitId::parse("token").unwrap() };
    Policies {
        roundings: [(AssetId::parse("USD").unwrap(), Rounding { mode, scale })].into(),
        skus: [(SkuId::parse("in").unwrap(), sku("Input tokens")), (SkuId::parse("out").unwrap(), sku("Output tokens"))].into(),
        terms: Terms::default(),
    }
}

fn subject(period: &str) -> Subject {
    Subject {
        organization: OrganizationId::parse("acme").unwrap(),
        currency: AssetId::parse("USD").unwrap(),
        period: month(period),
        registry_version: Digest([7; 32]),
    }
}

/// A key of SKU `sku` in October whose total is `total`.
fn key(sku: &str, total: &str, before: Option<Invoiced>) -> KeyAtClose {
    KeyAtClose {
        contract: ContractId::parse("standard").unwrap(),
        contract_line: format!("standard/{sku}"),
        sku: SkuId::parse(sku).unwrap(),
        service_period: month("2026-10"),
        quantity: Quantity::parse("10").unwrap(),
        readings: 2,
        key_quantity: Quantity::parse("30").unwrap(),
        key_readings: 5,
        key_total: amount(total),
        prices: vec![PriceSum { price_id: PriceId::parse("list:in:1").unwrap(), quantity: Quantity::parse("30").unwrap(), readings: 5 }],
        before,
    }
}

fn made(period: &str, keys: Vec<KeyAtClose>) -> Invoice {
    let logs = vec![LogRange { from: 0, month: month("2026-10"), to: 5 }];
    draft(&subject(period), keys, logs, &policies(2, RoundingMode::HalfAwayFromZero)).unwrap()
}

/// Frozen: it is stored, digested and proved.
#[test]
fn the_content_of_an_invoice_keeps_its_bytes() {
    let before = Some(Invoiced { key_total: amount("1.004"), key_amount: amount("1") });
    let invoice = made("2026-11", vec![key("out", "1.0149", before), key("in", "0.125", None)]);
    let expected = concat!(
        r#"{"currency":"USD","invoice_id":"inv-202611-ID","lines":["#,
        r#"{"amount":"0.13","contract":"standard","contract_line":"standard/in","description":"Input tokens","exact":"0.125","exact_before":"0","#,
        r#""invoiced_before":"0","key_amount":"0.13","key_quantity":"30","key_readings":"5","key_total":"0.125","kind":"usage","number":"1","#,
        r#""prices":[{"price_id":"list:in:1","quantity":"30","readings":"5"}],"quantity":"10","readings":"2","rounding":"0.005","#,
        r#""service_period":"202610","sku":"in","unit":"token"},"#,
        r#"{"amount":"0.01","contract":"standard","contract_line":"standard/out","description":"Output tokens","exact":"0.0109","#,
        r#""exact_before":"1.004","invoiced_before":"1","key_amount":"1.01","key_quantity":"30","key_readings":"5","key_total":"1.0149","#,
        r#""kind":"adjustment","number":"2","prices":[{"price_id":"list:in:1","quantity":"30","readings":"5"}],"quantity":"10","readings":"2","#,
        r#""rounding":"-0.0009","service_period":"202610","sku":"out","unit":"token"}],"#,
        r#""logs":[{"from":"0","month":"202610","to":"5"}],"organization":"acme","period":"202611","#,
        r#""registry_version":"0707070707070707070707070707070707070707070707070707070707070707","#,
        r#""rounding":{"mode":"half_away_from_zero","scale":"2"},"total":"0.14","v":"1"}"#,
    );
    assert_eq!(invoice.canonical(), expected.replace("inv-202611-ID", invoice.invoice_id.as_str()));
    assert_eq!(Invoice::parse(invoice.invoice_id.as_str(), &invoice.canonical()).unwrap(), invoice);
    let spelled = invoice.canonical().replace(r#""total":"0.14""#, r#""total":"0.140""#);
    assert!(matches!(Invoice::parse(invoice.invoice_id.as_str(), &spelled), Err(InvoiceError::Damaged { .. })));
    assert!(matches!(Invoice::parse("inv-other", &invoice.canonical()), Err(InvoiceError::Damaged { .. })));
    let ids: std::collections::BTreeSet<InvoiceId> = ["2026-10", "2026-11"].map(|period| made(period, Vec::new()).invoice_id).into();
    assert_eq!(ids.len(), 2);
}

/// `debit < credit amount kind` of each posting.
fn posted(invoice: &Invoice) -> Vec<String> {
    let command = invoice.command(month("2026-12")).unwrap();
    let postings = command.as_ref().map_or(&[][..], |command| command.postings());
    postings
        .iter()
        .map(|posting| format!("{} < {} {} {}", posting.debit(), posting.credit(), posting.amount(), posting.kind().name()))
        .collect()
}

#[test]
fn an_invoice_moves_what_is_unbilled_and_its_rounding_and_nothing_when_nothing_is_owed() {
    let before = Some(Invoiced { key_total: amount("5"), key_amount: amount("5") });
    assert_eq!(
        posted(&made("2026-11", vec![key("in", "0.125", None), key("out", "3.006", before)])),
        [
            "org/acme/receivable < org/acme/unbilled 0.125 post",
            "org/acme/receivable < rounding 0.005 rounding",
            "org/acme/unbilled < org/acme/receivable 1.994 post",
            "org/acme/receivable < rounding 0.004 rounding",
        ]
    );
    assert_eq!(posted(&made("2026-11", vec![key("in", "0", None)])), Vec::<String>::new());
}

#[test]
fn what_the_registry_does_not_say_is_refused_by_name() {
    let refused = |keys, policies: &Policies| draft(&subject("2026-10"), keys, Vec::new(), policies).unwrap_err().to_string();
    let empty = Policies::default();
    assert!(refused(Vec::new(), &empty).contains("how USD is rounded"), "{}", refused(Vec::new(), &empty));
    let known = policies(2, RoundingMode::HalfEven);
    assert!(refused(vec![key("gone", "1", None)], &known).contains("SKU gone"));
    let huge = vec![key("in", "9223372036.85", None), key("out", "9223372036.85", None)];
    let beyond = draft(&subject("2026-10"), huge, Vec::new(), &known).unwrap();
    assert_eq!(beyond.total.to_string(), "18446744073.7", "a line is an amount, a total has no such bound");
    assert!(refused(vec![key("in", "9223372036.854775807", None)], &policies(0, RoundingMode::HalfEven)).contains("standard/in"));
}

/// Rounds by rationals: the nearest multiple of 10^-scale, ties as the mode says.
fn oracle(units: i64, scale: u32, mode: RoundingMode) -> BigInt {
    let unit = BigInt::from(10).pow(9 - scale);
    let exact = BigRational::new(BigInt::from(units), unit.clone());
    let half = BigRational::new(BigInt::from(1), BigInt::from(2));
    let (low, high) = (exact.floor().to_integer(), exact.ceil().to_integer());
    let below = &exact - BigRational::from_integer(low.clone());
    let chosen = if below < half {
        low
    } else if below > half {
        high
    } else {
        match mode {
            RoundingMode::HalfAwayFromZero if units < 0 => low,
            RoundingMode::HalfAwayFromZero => high,
            RoundingMode::HalfEven if (&low % 2_u8) == BigInt::from(0) => low,
            RoundingMode::HalfEven => high,
        }
    };
    chosen * unit
}

#[test]
fn ties_go_where_the_mode_says() {
    for (text, away, even) in [("0.005", "0.01", "0"), ("0.015", "0.02", "0.02"), ("-0.005", "-0.01", "0"), ("-0.025", "-0.03", "-0.02")] {
        let round = |mode| Rounding { mode, scale: 2 }.round(amount(text)).unwrap();
        assert_eq!((round(RoundingMode::HalfAwayFromZero), round(RoundingMode::HalfEven)), (amount(away), amount(even)), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn rounding_is_that_of_rationals(units in any::<i64>(), small in -3_000_000_000_i64..3_000_000_000, scale in 0_u32..=9, away in any::<bool>(), tie in any::<bool>()) {
        let mode = if away { RoundingMode::HalfAwayFromZero } else { RoundingMode::HalfEven };
        // Half of the cases lie exactly between two neighbours, where the scale leaves room for it.
        let unit = 10_i64.pow(9 - scale);
        let small = if tie && unit > 1 { small / unit * unit + unit / 2 } else { small };
        for units in [units, small] {
            let rounded = Rounding { mode, scale }.round(Amount::from_units(units.into()).unwrap());
            match rounded {
                Some(rounded) => prop_assert_eq!(BigInt::from(rounded.units()), oracle(units, scale, mode)),
                None => prop_assert!(i64::try_from(oracle(units, scale, mode)).is_err()),
            }
        }
    }

    /// A key invoiced over any number of closes: the lines sum to the rounded last total, the postings to the exact one.
    #[test]
    fn adjustments_telescope(totals in prop::collection::vec(-5_000_000_000_i64..5_000_000_000, 1..8), away in any::<bool>()) {
        let mode = if away { RoundingMode::HalfAwayFromZero } else { RoundingMode::HalfEven };
        let policies = policies(2, mode);
        let (mut before, mut asked, mut exact, mut receivable) = (None, 0_i128, 0_i128, 0_i128);
        for units in &totals {
            let total = Amount::from_units(i128::from(*units)).unwrap();
            let invoice = draft(&subject("2026-11"), vec![KeyAtClose { key_total: total, ..key("in", "0", before) }], Vec::new(), &policies).unwrap();
            let line = &invoice.lines[0];
            asked += i128::from(line.amount.units());
            exact += i128::from(line.exact.units());
            for posting in invoice.command(month("2026-12")).unwrap().iter().flat_map(|command| command.postings()) {
                let units = i128::from(posting.amount().units());
                let sign = |account: &AccountId| i128::from(account.as_str() == "org/acme/receivable");
                receivable += units * (sign(posting.debit()) - sign(posting.credit()));
            }
            before = Some(Invoiced { key_total: line.key_total, key_amount: line.key_amount });
        }
        let last = *totals.last().unwrap();
        prop_assert_eq!(exact, i128::from(last));
        prop_assert_eq!(BigInt::from(asked), oracle(last, 2, mode));
        prop_assert_eq!(receivable, asked);
    }
}
