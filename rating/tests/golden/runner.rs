//! Runs a file of golden cases: each case becomes price rows and readings, goes through the code that rates live usage, and every expected
//! field is compared exactly. What a case needs is taken from its `config` and `usage`, never from its id.

#[path = "calendars.rs"]
pub mod calendars;
#[path = "contracts.rs"]
pub mod contracts;
#[path = "meters.rs"]
pub mod meters;
#[path = "prices.rs"]
pub mod prices;
#[path = "value.rs"]
pub mod value;
#[path = "workbench.rs"]
pub mod workbench;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

/// Models about grants, wallets, credits, credit notes and tax: the ledger's.
pub const DEFERRED: [&str; 9] = [
    "credit_application",
    "credit_cap",
    "credit_note_unused_time",
    "grant_burndown",
    "grant_rollover",
    "tax",
    "wallet_allocation",
    "wallet_consumption",
    "wallet_top_up",
];

/// A file of cases.
#[derive(Deserialize)]
struct File {
    schema_version: u32,
    cases: Vec<Case>,
}

/// One case.
#[derive(Deserialize)]
pub struct Case {
    /// Its name.
    pub id: String,
    /// What it is about.
    pub model: String,
    /// Prices and policies.
    pub config: Value,
    /// What was used.
    pub usage: Value,
    /// What must come out.
    pub expected: Value,
}

/// What became of the cases.
#[derive(Default)]
pub struct Report {
    /// Ids of cases whose every field came out.
    pub passed: Vec<String>,
    /// Ids of the others, with the reason.
    pub failed: Vec<(String, String)>,
    /// Ids of cases that wait for the ledger, with their models.
    pub deferred: Vec<(String, String)>,
}

/// Runs every case of a file; `pieces` is into how many readings a quantity is cut.
pub fn run(text: &str, pieces: u32) -> anyhow::Result<Report> {
    let file: File = serde_json::from_str(text).context("the file is not in the schema of rating cases")?;
    ensure!(file.schema_version == 1, "schema version {} is not known", file.schema_version);
    let mut report = Report::default();
    for case in file.cases {
        if DEFERRED.contains(&case.model.as_str()) {
            report.deferred.push((case.id, case.model));
            continue;
        }
        match check(&case, pieces) {
            Ok(()) => report.passed.push(case.id),
            Err(error) => report.failed.push((case.id, format!("{}: {error:#}", case.model))),
        }
    }
    Ok(report)
}

fn check(case: &Case, pieces: u32) -> anyhow::Result<()> {
    let found = answer(case, pieces)?;
    let expected = case.expected.as_object().context("expected is not an object")?;
    ensure!(!expected.is_empty(), "nothing is expected");
    for (field, expected) in expected {
        let found = found.get(field).with_context(|| format!("{field} is not answered"))?;
        if field.starts_with("peer_") {
            // What a peer got wrong must not come out.
            ensure!(!value::is_equal(expected, found), "{field}: {expected} is the peer's mistake, and came out");
        } else if field.ends_with("_precise") || field == "coefficient" {
            ensure!(value::is_equal(expected, found) || value::is_float_of(expected, found), "{field}: expected {expected}, found {found}");
        } else {
            ensure!(value::is_equal(expected, found), "{field}: expected {expected}, found {found}");
        }
    }
    Ok(())
}

/// What a case comes to, field by field. A model that is not named here is a failure.
fn answer(case: &Case, pieces: u32) -> anyhow::Result<Value> {
    let given = &value::In { config: &case.config, usage: &case.usage, pieces };
    match case.model.as_str() {
        "flat" => prices::flat(given),
        "per_unit" | "package" | "graduated" | "volume" | "dynamic_multiplier" => prices::priced(&case.model, given),
        "unit_conversion" | "unit_conversion_rate" | "unit_conversion_graduated" => prices::converted(given),
        "unit_conversion_split" => prices::converted_split(given),
        "usage_rounding" => prices::usage_rounding(given),
        "package_count" => prices::package_count(given),
        "graduated_range" => prices::graduated_range(given),
        "volume_tier_lookup" => prices::volume_tier(given),
        "volume_prorated" => prices::volume_prorated(given),
        "graduated_prorated" => prices::graduated_prorated(given),
        "graduated_percentage" => prices::graduated_percentage(given),
        "percentage" | "percentage_per_transaction" => prices::percentage(given),
        "event_supplied_amount" => prices::event_amount(given),
        "block_tiers" => prices::block_tiers(given),
        "block_tiers_multi_unit" => prices::block_tiers_of_units(given),
        "bucketed" => prices::bucketed(given),
        "aggregation" => meters::aggregation(given),
        "aggregation_empty" => meters::nothing(),
        "meter_window_query" => meters::windows(given),
        "weighted_sum" => meters::weighted_sum(given),
        "prorated_sum_by_day" => meters::prorated_sum(given),
        "prorated_unique_count_by_day" => meters::prorated_unique(given),
        "gpu_allocation_seconds" => meters::gpu_time(given),
        "token_breakdown" => meters::tokens(given),
        "ingest_validation" => meters::validation(given),
        "dedupe" => meters::dedupe(given),
        "window_roll_up" => meters::roll_up(given),
        "rounding" => contracts::rounding(given),
        "maximum_spend_discount" => contracts::maximum(given),
        "minimum_true_up" => contracts::minimum_true_up(given),
        "commitment_true_up" => contracts::commitment(given),
        "window_commitment" => contracts::window_commitment(given),
        "capacity_tier" => contracts::capacity(given),
        "allocation_largest_remainder" => contracts::allocation(given),
        "rerating_delta" => contracts::rerated(given),
        "rerating_period_preserving" => contracts::rerated_by_period(given),
        "subscription_proration_by_day" => calendars::subscription(given),
        "plan_change_proration_by_day" => calendars::plan_change(given),
        "proration_coefficient" => calendars::coefficient(given),
        "day_window_dst" => calendars::day_window(given),
        "local_day_count" => calendars::day_count(given),
        "monthly_anchor" => calendars::anchors(given),
        unknown => bail!("the model {unknown:?} is unknown"),
    }
}
