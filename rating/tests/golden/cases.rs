//! The golden cases: every one passes, and only the ledger's models wait.

use super::golden_runner as runner;

pub const CASES: &str = include_str!("rating-cases.json");

fn check(pieces: u32) {
    let report = runner::run(CASES, pieces).unwrap();
    let failed: Vec<String> = report.failed.iter().map(|(id, why)| format!("{id}: {why}")).collect();
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    let mut deferred: Vec<&str> = report.deferred.iter().map(|(_, model)| model.as_str()).collect();
    deferred.sort_unstable();
    deferred.dedup();
    assert_eq!(deferred, runner::DEFERRED);
    assert_eq!((report.passed.len(), report.deferred.len()), (266, 33));
}

#[test]
fn every_golden_case_passes_but_those_of_the_ledger() {
    check(1);
}

#[test]
fn pieces_and_the_order_of_readings_change_no_golden_case() {
    check(2);
    check(7);
}

#[test]
fn an_unknown_model_and_an_unanswered_field_fail() {
    let file = |model: &str, expected: &str| {
        let case =
            format!(r#"{{"id":"x","model":"{model}","config":{{"unit_price":"2"}},"usage":{{"quantity":"3"}},"expected":{expected}}}"#);
        let report = runner::run(&format!(r#"{{"schema_version":1,"cases":[{case}]}}"#), 1).unwrap();
        (report.passed.len(), report.failed.into_iter().map(|(_, why)| why).collect::<Vec<_>>())
    };
    assert_eq!(file("per_unit", r#"{"total":"6.00"}"#), (1, vec![]));
    assert_eq!(file("per_unit", r#"{"total":"6.01"}"#).1, ["per_unit: total: expected \"6.01\", found \"6\""]);
    assert_eq!(file("per_unit", r#"{"sum":"6"}"#).1, ["per_unit: sum is not answered"]);
    assert_eq!(file("per_unit", "{}").1, ["per_unit: nothing is expected"]);
    assert_eq!(file("astrology", r#"{"total":"6"}"#).1, ["astrology: the model \"astrology\" is unknown"]);
    assert!(runner::run(r#"{"schema_version":2,"cases":[]}"#, 1).is_err());
}
