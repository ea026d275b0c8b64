//! What a large registry costs: reading and checking its TOML, comparing it with the version before, and compiling it for intake and rating.
//! The registry is made here: a list book of `skus` SKUs with three prices each, and as many contracts with a book of their own.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant as Timer};

use anyhow::{Context, ensure};
use platform_registry::{SourceFile, Version, compile, diff};
use serde_json::json;

use crate::figures::{Samples, milliseconds, table};
use crate::machine::{Profile, own_time, wait_for_quiet};
use crate::result::{Begun, Reported};

/// Prices of each SKU of the list.
const VERSIONS: usize = 3;
/// SKUs that a contract's own book prices.
const OWN: usize = 10;
/// Compilations before the measured ones.
const WARM: usize = 3;

/// Runs the bench.
pub async fn run(
    scratch: &Path,
    profile: Profile,
    patience: Duration,
    skus: usize,
    contracts: usize,
    rounds: u32,
) -> anyhow::Result<Reported> {
    ensure!(skus >= OWN && rounds > 0, "there are at least {OWN} SKUs and one round");
    let begun = Begun::now("registry", profile, scratch).await?;
    let (before, text) = (text(skus, contracts, "0.5")?, text(skus, contracts, "0.4")?);
    let read = |text: &str| Version::check(&[SourceFile { name: "bench.toml".to_owned(), text: text.to_owned() }]);
    let (old, new) = (read(&before)?, read(&text)?);
    for _ in 0..WARM {
        compile(&new)?;
    }
    wait_for_quiet(patience)?;
    let (mut checks, mut compilations, mut comparisons) = (Samples::default(), Samples::default(), Samples::default());
    let (mut lines, mut differences, mut used) = (0, 0, Duration::ZERO);
    for _ in 0..rounds {
        checks.push(timed(|| read(&text).map(|_| ()))?);
        let own = own_time()?;
        compilations.push(timed(|| {
            compile(&new).map(|compiled| lines = compiled.plan.books.iter().flat_map(|book| book.lines.values()).map(Vec::len).sum())
        })?);
        used += own_time()?.checked_sub(own).context("the processor's clock went back")?;
        comparisons.push(timed(|| {
            differences = diff(&old, &new).len();
            anyhow::Ok(())
        })?);
    }
    let expected = skus + contracts * OWN;
    ensure!(lines == expected && differences == skus, "{lines} lines instead of {expected}, {differences} differences instead of {skus}");
    let row = |name: &str, samples: &Samples| {
        let of = |percent: usize| format!("{:.1}", milliseconds(samples.percentile(percent)));
        vec![name.to_owned(), of(50), of(95), of(100)]
    };
    let head = ["", "median ms", "95 % ms", "most ms"].map(str::to_owned).to_vec();
    let rows = [head, row("check", &checks), row("compile", &compilations), row("diff", &comparisons)];
    let figures = json!({
        "skus": skus, "price_versions": VERSIONS, "contracts": contracts, "skus_of_a_contract": OWN, "rounds": rounds, "lines": lines,
        "differences": differences, "toml_bytes": text.len(), "check": checks.json(), "compile": compilations.json(),
        "compile_processor_ms": milliseconds(used / rounds), "diff": comparisons.json(),
    });
    begun.end(figures, &table(&rows))
}

fn timed<E>(work: impl FnOnce() -> Result<(), E>) -> Result<Duration, E> {
    let started = Timer::now();
    work()?;
    Ok(started.elapsed())
}

/// A registry as TOML; `last` is the newest price of each SKU of the list.
fn text(skus: usize, contracts: usize, last: &str) -> anyhow::Result<String> {
    let mut text = String::from(
        "[[unit]]\nid = \"token\"\n[[rounding]]\nasset = \"USD\"\nscale = 2\n[[meter]]\nid = \"tokens\"\nevent_type = \"llm.request\"\n\
         aggregation = \"sum\"\nvalue = \"tokens\"\nunit = \"token\"\ndimensions = { model = \"model\", kind = \"kind\" }\n",
    );
    for sku in 0..skus {
        writeln!(
            text,
            "[[sku]]\nid = \"sku-{sku}\"\nfamily = \"llm\"\nmeter = \"tokens\"\nmatch = {{ model = \"m-{}\", kind = \"k-{}\" }}",
            sku / 10,
            sku % 10
        )?;
    }
    text.push_str("[[price_book]]\nid = \"list\"\ncurrency = \"USD\"\n");
    for sku in 0..skus {
        for (month, price) in [(1, "0.9"), (5, "0.7"), (9, last)] {
            row(&mut text, sku, month, price)?;
        }
    }
    text.push_str("[[contract]]\nid = \"standard\"\ndefault = true\nprice_book = \"list\"\neffective_at = \"2026-01-01T00:00:00Z\"\n");
    for contract in 0..contracts {
        writeln!(text, "[[price_book]]\nid = \"book-{contract}\"\ncurrency = \"USD\"")?;
        for sku in 0..OWN {
            row(&mut text, (contract * 7 + sku) % skus, 1, "0.3")?;
        }
        writeln!(
            text,
            "[[contract]]\nid = \"contract-{contract}\"\norganization = \"org-{contract}\"\nprice_book = \"book-{contract}\"\n\
             effective_at = \"2026-01-01T00:00:00Z\""
        )?;
    }
    Ok(text)
}

fn row(text: &mut String, sku: usize, month: u32, price: &str) -> std::fmt::Result {
    writeln!(
        text,
        "[[price_book.price]]\nsku = \"sku-{sku}\"\neffective_at = \"2026-{month:02}-01T00:00:00Z\"\nmodel = \"per_unit\"\n\
         per = \"1000000\"\nunit_price = \"{price}\""
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_small_one_runs_through() {
        let scratch = tempfile::tempdir().unwrap();
        let reported = run(scratch.path(), Profile::Dev, Duration::ZERO, 20, 3, 2).await.unwrap();
        assert_eq!(reported.json["figures"]["lines"], 50);
        assert_eq!(reported.json["figures"]["differences"], 20);
    }
}
