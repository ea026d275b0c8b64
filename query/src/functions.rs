//! The functions that a query may call: a closed list. What is not listed does not exist, so nothing random, unbounded, inexact or
//! reaching outside the session can be called; for the well-known ones that are missing there is a reason.

use std::sync::Arc;

use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};

use crate::bounded::{Bounded, GROWING};
use crate::checked::{Checked, Operation};
use crate::sum::CheckedSum;

/// Scalar functions of the engine that are exact on what they accept. They never see a decimal unless listed in [`EXACT`].
const SCALAR: &[&str] = &[
    "arrow_typeof",
    "bit_length",
    "btrim",
    "character_length",
    "coalesce",
    "concat",
    "concat_ws",
    "contains",
    "date_bin",
    "date_part",
    "date_trunc",
    "decode",
    "encode",
    "ends_with",
    "greatest",
    "least",
    "left",
    "lower",
    "ltrim",
    "make_date",
    "nullif",
    "nvl",
    "nvl2",
    "octet_length",
    "replace",
    "reverse",
    "right",
    "rtrim",
    "sha256",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "to_char",
    "to_date",
    "to_hex",
    "to_timestamp",
    "to_timestamp_micros",
    "to_timestamp_seconds",
    "upper",
];

/// Functions and aggregates that hand decimals on unchanged.
const EXACT: &[&str] =
    &["arrow_typeof", "coalesce", "greatest", "least", "nullif", "nvl", "nvl2", "count", "max", "min", "first_value", "last_value"];

const AGGREGATE: &[&str] = &["avg", "bool_and", "bool_or", "count", "first_value", "grouping", "last_value", "max", "min", "string_agg"];

const WINDOW: &[&str] =
    &["cume_dist", "dense_rank", "first_value", "lag", "last_value", "lead", "nth_value", "ntile", "percent_rank", "rank", "row_number"];

/// Our own, callable by name.
const OWN: &[&str] = &["abs", "divide_half_even", "round_half_even", "sum"];

/// Whether decimals pass through the function unchanged. Our own checked functions are told apart by type, not by name.
pub(crate) fn is_exact(name: &str) -> bool {
    EXACT.contains(&name)
}

/// Whether the function may be called at all, by the name it has in a plan.
pub(crate) fn is_listed(name: &str) -> bool {
    [SCALAR, AGGREGATE, WINDOW, OWN].iter().any(|list| list.contains(&name))
}

/// Why a function that people expect is missing.
pub(crate) fn missing(name: &str) -> &'static str {
    match name {
        "round" => "it rounds halves away from zero; use round_half_even(x, digits)",
        "trunc" | "ceil" | "ceiling" | "floor" => "it drops digits; use round_half_even(x, digits)",
        "mean" | "median" | "percentile_cont" | "approx_median" | "approx_percentile_cont" | "quantile_cont" => {
            "it is not exact; use divide_half_even(sum(x), count(x), digits) for a mean"
        }
        "stddev" | "stddev_pop" | "stddev_samp" | "var" | "var_pop" | "var_samp" | "variance" | "corr" | "covar_pop" | "covar_samp"
        | "sqrt" | "power" | "pow" | "exp" | "ln" | "log" | "log2" | "log10" => "it computes in floats; do it outside of SQL",
        "random" | "uuid" => "an answer must not depend on chance",
        "now" | "current_date" | "current_time" | "current_timestamp" | "today" => {
            "an answer must not depend on the clock; write the instant, for example TIMESTAMP '2026-11-01T00:00:00Z'"
        }
        "repeat" | "lpad" | "rpad" | "generate_series" | "range" | "unnest" => "it makes data of any size out of nothing",
        "arrow_cast" | "arrow_try_cast" | "try_cast" => "use CAST(x AS type)",
        "read_csv" | "read_parquet" | "read_json" | "read_text" | "parquet_metadata" => "a query reads read models and nothing else",
        _ => "it is not one of the functions that are known to be exact and bounded",
    }
}

/// The scalar functions of a session.
pub(crate) fn scalar() -> Vec<Arc<ScalarUDF>> {
    let mut functions = SessionStateDefaults::default_scalar_functions();
    functions.retain(|function| SCALAR.contains(&function.name()));
    for function in functions.iter_mut().filter(|function| GROWING.contains(&function.name())) {
        *function = Bounded::udf(function);
    }
    functions.extend([Operation::Magnitude, Operation::Round, Operation::Divide].map(Checked::udf));
    functions
}

/// The aggregates of a session, with the checked `sum`.
pub(crate) fn aggregate() -> Vec<Arc<AggregateUDF>> {
    let mut functions = SessionStateDefaults::default_aggregate_functions();
    functions.retain(|function| AGGREGATE.contains(&function.name()));
    functions.push(Arc::new(AggregateUDF::new_from_impl(CheckedSum::new())));
    functions
}

/// The window functions of a session.
pub(crate) fn window() -> Vec<Arc<WindowUDF>> {
    let mut functions = SessionStateDefaults::default_window_functions();
    functions.retain(|function| WINDOW.contains(&function.name()));
    functions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_function_exists() {
        let named = |names: Vec<String>, list: &[&str]| {
            for name in list {
                assert!(names.iter().any(|other| other == name), "{name}");
            }
        };
        named(scalar().iter().map(|function| function.name().to_owned()).collect(), SCALAR);
        named(aggregate().iter().map(|function| function.name().to_owned()).collect(), AGGREGATE);
        named(window().iter().map(|function| function.name().to_owned()).collect(), WINDOW);
    }
}
