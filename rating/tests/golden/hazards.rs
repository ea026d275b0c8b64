//! The hazards of the golden file: what peers get wrong, and that it does not come out here. Every hazard of the file has its test.

use anyhow::ensure;
use platform_rating::calendar::Zone;
use platform_rating::{Basis, FirstFee, PriceModel, Tier};
use platform_usage::{Event, EventLimits, IdentityKey, Reason};
use serde_json::{Value, json};
use shared_types::{Instant, NumberError, Quantity};

use super::golden_runner::value::{In, is_equal};
use super::golden_runner::workbench::{PERIOD, rated, uses};
use super::golden_runner::{calendars, meters, prices};

/// The file's hazard of an id.
fn hazard(id: &str) -> Value {
    let file: Value = serde_json::from_str(super::golden::CASES).unwrap();
    file["hazards"].as_array().unwrap().iter().find(|hazard| hazard["id"] == id).unwrap().clone()
}

fn given<'a>(config: &'a Value, usage: &'a Value) -> In<'a> {
    In { config, usage, pieces: 1 }
}

#[test]
fn every_hazard_has_a_test() {
    let file: Value = serde_json::from_str(super::golden::CASES).unwrap();
    let ids: Vec<&str> = file["hazards"].as_array().unwrap().iter().map(|hazard| hazard["id"].as_str().unwrap()).collect();
    let source = include_str!("hazards.rs");
    let untested: Vec<&&str> = ids.iter().filter(|id| !source.contains(&format!("hazard(\"{id}\")"))).collect();
    assert!(untested.is_empty() && ids.len() == 8, "{untested:?}");
}

#[test]
fn days_are_counted_in_the_zone_that_is_given() {
    let hazard = hazard("hz-day-count-local");
    let at = |text| Instant::parse(text).unwrap();
    let zone = Zone::parse("America/Los_Angeles").unwrap();
    let days = zone.days_between(at("2024-08-01T23:00:00Z"), at("2024-08-03T01:00:00Z")).unwrap();
    assert!(is_equal(&hazard["correct"], &days.into()) && !is_equal(&hazard["peer_asserts"], &days.into()));
}

#[test]
fn sums_are_not_the_nearest_float_and_finer_input_is_refused_by_name() {
    let hazard = hazard("hz-float-sum");
    let usage = json!({ "values": ["123", "0.4567890123456789"] });
    let sum = &meters::aggregation(&given(&json!({ "aggregation": "sum" }), &usage)).unwrap()["value"];
    assert!(is_equal(&hazard["correct"], sum) && !is_equal(&hazard["peer_asserts"], sum));
    assert!(matches!(Quantity::parse("0.4567890123456789"), Err(NumberError::TooFine { .. })));
}

#[test]
fn a_conversion_is_rounded_once_however_a_period_is_split() {
    let _ = hazard("hz-split-rounding");
    let config = json!({ "operation": "divide", "factor": "1000", "rounding": "ceiling", "unit_price": "10", "currency": "USD" });
    let billed = |earlier: &str, used: &str| {
        let usage = json!({ "previously_rated_quantity": earlier, "quantity": used });
        prices::converted_split(&given(&config, &usage)).unwrap()
    };
    let second = billed("1400", "1300");
    assert!(is_equal(&json!("1"), &second["cumulative_billed_quantity"]) && is_equal(&json!("2"), &second["per_line_billed_quantity"]));
}

#[test]
fn the_net_of_a_change_is_the_sum_of_its_rounded_lines() {
    let hazard = hazard("hz-net-rounding");
    let config = json!({ "period_first_day": "2024-03-01", "period_last_day": "2024-03-31", "change_day": "2024-03-15" });
    let usage = json!({ "old": { "quantity": "1", "unit_price": "10" }, "new": { "quantity": "1", "unit_price": "20" } });
    let change = calendars::plan_change(&given(&config, &usage)).unwrap();
    assert!(is_equal(&hazard["peer_asserts"], &change["net"]));
    let net_of_exact = calendars::plan_change(&given(
        &config,
        &json!({ "old": { "quantity": "0", "unit_price": "0" }, "new": { "quantity": "1", "unit_price": "10" } }),
    ));
    assert!(is_equal(&json!("5.48"), &net_of_exact.unwrap()["net"]), "rounded as one figure it would be 5.48");
}

#[test]
fn the_first_flat_fee_without_usage_is_a_field_of_the_price() {
    let _ = hazard("hz-zero-usage-first-flat-fee");
    let total = |first_fee: FirstFee| {
        let tiers = vec![Tier { up_to: None, unit_price: "1".parse().unwrap(), flat_fee: "100".parse().unwrap() }];
        let basis = Basis { first_fee, ..Basis::default() };
        rated("1", PriceModel::Graduated { tiers }, basis, &uses(Quantity::ZERO, 1).unwrap())
            .unwrap()
            .evaluation()
            .unwrap()
            .rounded
            .to_string()
    };
    assert_eq!((total(FirstFee::default()), total(FirstFee::Always)), ("0".to_owned(), "100".to_owned()));
}

#[test]
fn sizes_of_tiers_are_not_taken_for_bounds() {
    let _ = hazard("hz-tier-bounds");
    let tiers = [("1", Some(10), "1.5"), ("1", Some(100), "1"), ("1", None, "0.5")];
    let tiers = tiers.map(|(size, most, price)| (size.parse().unwrap(), most, price.parse().unwrap()));
    let PriceModel::Blocks { tiers, .. } = prices::block_model("all_tiers", &tiers).unwrap() else { panic!() };
    let bounds: Vec<Option<String>> = tiers.iter().map(|tier| tier.up_to.map(|bound| bound.to_string())).collect();
    assert_eq!(bounds, [Some("10".to_owned()), Some("110".to_owned()), None]);
}

#[test]
fn the_same_id_at_another_time_is_a_conflict_and_no_second_count() {
    let _ = hazard("hz-dedupe-same-id-other-time");
    let event = |time: &str| {
        let text =
            format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t","organization":"o","time":"{time}","data":{{"v":1}}}}"#);
        Event::parse(text.as_bytes(), Instant::parse(PERIOD).unwrap(), &EventLimits::default()).unwrap()
    };
    let (first, second) = (event(PERIOD), event("2023-12-31T00:00:00Z"));
    let key = IdentityKey::new(&[1; 32]);
    assert_eq!(first.identity_hash(&key), second.identity_hash(&key));
    assert_ne!(first.content_digest(), second.content_digest());
}

#[test]
fn a_value_that_is_no_number_is_quarantined_and_never_zero() {
    let _ = hazard("hz-malformed-decimal-zero");
    let refused = |value: &str| -> anyhow::Result<Reason> {
        let meters = meters::meter("v")?;
        let text = format!(
            r#"{{"specversion":"1.0","id":"1","source":"s","type":"job","organization":"o","time":"{PERIOD}","data":{{"v":{value}}}}}"#
        );
        let event = Event::parse(text.as_bytes(), Instant::parse(PERIOD)?, &EventLimits::default())?;
        let reading = meters.read(&event).remove(0);
        ensure!(reading.result.is_err(), "{value} was read as {:?}", reading.result);
        Ok(reading.result.unwrap_err().reason)
    };
    for value in ["\"12,5\"", "\"NaN\"", "\"\"", "\"1_000\"", "true"] {
        assert_eq!(refused(value).unwrap(), Reason::InvalidQuantity, "{value}");
    }
    assert_eq!(refused("null").unwrap(), Reason::MissingQuantity);
}
