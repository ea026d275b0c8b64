//! The second opinion on a whole month: re-rates every key that was booked in it, from the lake's rows and the registry's documents.
//! The export's format is `docs/architecture/export-format.md`. It answers with differences, not with what it could not judge.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use crate::table::Frame;
use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use crate::documents::{DOCUMENTS, Documents};
use crate::finding::{Finding, Findings, Stage};
use crate::measure::{Fact, State};
use crate::money::{self, plain, scaled};
use crate::registry::{UsedRows, Version};
use crate::table::{self, Damage};
use crate::time;
use crate::tree::sha256;

const EXPORT: &str = "export.json";

/// What was re-rated.
#[derive(Debug)]
pub struct Verdict {
    /// yyyymm.
    pub period: String,
    /// SHA-256 of `export.json`, which names every file.
    pub export: String,
    /// Keys booked in the month.
    pub keys: usize,
    /// Readings of these keys.
    pub readings: usize,
    /// What does not agree.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// What is recorded of the month.
    pub fn json(&self) -> Value {
        json!({
            "v": "1", "period": self.period, "agrees": self.findings.is_empty(), "export": self.export, "keys": self.keys.to_string(),
            "readings": self.readings.to_string(), "verifier": format!("tally-verify/{}", env!("CARGO_PKG_VERSION")),
            "differences": self.findings.iter().take(100).map(Finding::json).collect::<Vec<_>>(),
        })
    }
}

/// organization, contract, SKU, service period, currency.
type Name = (String, String, String, i32, String);

#[derive(Default)]
struct Key {
    /// Charged readings by price row.
    segments: BTreeMap<String, State>,
    /// Σ amounts of its charges up to the month, in 10^-9.
    charged: i128,
    /// Of these, those booked in the month.
    charged_in_month: i128,
    readings: u64,
    /// Σ amounts of its totals up to the month.
    booked: i128,
    booked_in_month: i128,
    booked_readings: u64,
}

/// Re-rates an export. An error means that it could not be judged at all.
pub fn verify(folder: &Path, month: &str) -> anyhow::Result<Verdict> {
    let text = std::fs::read(folder.join(EXPORT)).with_context(|| format!("{} is no export: it holds no {EXPORT}", folder.display()))?;
    let export: Value = serde_json::from_slice(&text).with_context(|| format!("{EXPORT} is no JSON"))?;
    let member = |name: &str| export.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    ensure!(member("v") == "1", "{EXPORT} has version {:?}, only \"1\" is read", member("v"));
    let period = member("period");
    ensure!(period == month.replace('-', ""), "the export is of {period}, not of {month}");
    let until: i32 = period.parse().context("the period is no month")?;
    let mut findings = Findings::default();
    let files = files(folder, &export, &mut findings)?;
    let versions = registry(&files, &mut findings)?;
    let mut keys: BTreeMap<Name, Key> = BTreeMap::new();
    let mut rows = UsedRows::default();
    let mut readings = 0;
    for (path, bytes) in &files {
        let charges = path.starts_with("charges/");
        if !charges && !path.starts_with("totals/") {
            continue;
        }
        for frame in table::read(bytes).map_err(|Damage { row_group, why }| anyhow::anyhow!("{path}, row group {row_group:?}: {why}"))? {
            let taken = if charges {
                take_charges(path, &frame, until, &versions, &mut rows, &mut keys, &mut findings)
            } else {
                take_totals(&frame, until, &mut keys)
            };
            readings += taken.with_context(|| format!("could not read {path}"))?;
        }
    }
    judge(&keys, &rows, &mut findings)?;
    revenue(&export, &keys, &mut findings)?;
    Ok(Verdict { period, export: hex::encode(sha256(&[&text])), keys: keys.len(), readings, findings: findings.sorted() })
}

fn files(folder: &Path, export: &Value, findings: &mut Findings) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for file in export.get("files").and_then(Value::as_array).into_iter().flatten() {
        let member = |name: &str| file.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let path = member("path");
        if path.split('/').any(|part| part.is_empty() || part == "..") {
            bail!("{path:?} is no path inside the export");
        }
        let bytes = std::fs::read(folder.join(&path)).with_context(|| format!("could not read {path}"))?;
        findings.compare(Stage::Files, &path, "", "digest", &member("sha256"), &hex::encode(sha256(&[&bytes])));
        files.insert(path, bytes);
    }
    Ok(files)
}

fn registry(files: &BTreeMap<String, Vec<u8>>, findings: &mut Findings) -> anyhow::Result<HashMap<String, Version>> {
    let documents = Documents::of(files.get(DOCUMENTS).with_context(|| format!("the export lists no {DOCUMENTS}"))?);
    let (mut versions, mut listed) = (HashMap::new(), HashSet::new());
    for (path, bytes) in files.iter().filter(|(path, _)| path.starts_with("registry/") && *path != DOCUMENTS) {
        let index: Value = serde_json::from_slice(bytes).with_context(|| format!("{path} is no JSON"))?;
        let mut version = Version::default();
        for entry in index.get("documents").and_then(Value::as_array).into_iter().flatten() {
            let digest = entry.get("digest").and_then(Value::as_str).unwrap_or_default();
            match documents.find(digest) {
                // Nothing is withheld from the second opinion.
                None => findings.add(Stage::Registry, path, "", "document", digest, "missing"),
                Some(found) => {
                    let document = found.read().with_context(|| format!("{DOCUMENTS}, {}", found.row()))?;
                    version.add(&document).with_context(|| format!("{DOCUMENTS}, {}", found.row()))?;
                }
            }
            listed.insert(digest.to_owned());
        }
        versions.insert(hex::encode(sha256(&[bytes])), version);
    }
    documents.judge(&listed, findings);
    Ok(versions)
}

fn take_charges(
    path: &str,
    frame: &Frame,
    until: i32,
    versions: &HashMap<String, Version>,
    rows: &mut UsedRows,
    keys: &mut BTreeMap<Name, Key>,
    findings: &mut Findings,
) -> anyhow::Result<usize> {
    let texts = |name: &str| table::given_texts(frame, name);
    let (organizations, meters, dimensions) = (texts("organization")?, texts("meter")?, texts("dimensions")?);
    let (contracts, skus, prices, currencies) = (texts("contract")?, texts("sku_id")?, texts("price_id")?, texts("currency")?);
    let fates = texts("fate")?;
    let quantities = table::decimals(frame, "quantity")?;
    let amounts = table::decimals(frame, "amount")?;
    let (starts, ends) = (table::instants(frame, "start_at")?, table::instants(frame, "end_at")?);
    let identities = table::identities(frame, "identity")?;
    let periods = table::int32s(frame, "accounting_period")?;
    let services = table::int32s(frame, "service_period")?;
    let addresses = table::hashes(frame, "registry_version")?;
    let mut known: HashMap<&str, BTreeMap<String, String>> = HashMap::new();
    let row_of = |columns: &[String], row: usize| columns.get(row).cloned().unwrap_or_default();
    for row in 0..frame.height() {
        let place = || format!("row {row}");
        let (Some(period), Some(service)) = (periods.get(row).copied(), services.get(row).copied()) else { bail!("row {row} is short") };
        let (Some(Some(quantity)), Some(Some(amount)), Some(Some(start))) = (quantities.get(row), amounts.get(row), starts.get(row)) else {
            bail!("row {row} has no quantity, amount or start");
        };
        ensure!(period <= until, "row {row} is of accounting period {period}");
        let name = (row_of(&organizations, row), row_of(&contracts, row), row_of(&skus, row), service, row_of(&currencies, row));
        findings.compare(Stage::Charges, path, &place(), "service period", &time::month(*start), &service);
        let address = addresses.get(row).map(hex::encode).unwrap_or_default();
        let text = dimensions.get(row).map(String::as_str).unwrap_or_default();
        if !known.contains_key(text) {
            known.insert(text, serde_json::from_str(text).with_context(|| format!("the dimensions {text:?} are no JSON"))?);
        }
        let meter = row_of(&meters, row);
        let price = match (versions.get(&address), known.get(text)) {
            (Some(version), Some(values)) => version.resolve(&name.0, &meter, values, *start),
            _ => None,
        };
        let expected =
            price.as_ref().map(|price| [price.contract.as_str(), &price.sku, &price.price, &price.currency].join(" ")).unwrap_or_default();
        let found = [name.1.as_str(), &name.2, &row_of(&prices, row), &name.4].join(" ");
        findings.compare(Stage::Prices, path, &place(), "price", &expected, &found);
        let price = row_of(&prices, row);
        if let Some(version) = versions.get(&address)
            && !rows.take(version, &price, &meter)?
        {
            findings.add(Stage::Prices, path, place(), "price row", "the same in every version that priced by it", "different");
        }
        let used = rows.get(&price);
        let free = used.is_some_and(crate::price::Price::is_free);
        findings.compare(Stage::Charges, path, &place(), "fate", &(if free { "free" } else { "charged" }).to_owned(), &row_of(&fates, row));
        let key = keys.entry(name).or_default();
        key.readings += 1;
        key.charged = key.charged.checked_add(*amount).context("amounts leave 128 bits")?;
        if period == until {
            key.charged_in_month += amount;
        }
        if !free {
            let fact = used.filter(|used| used.needs_facts()).map(|used| Fact {
                place: (*start, identities.get(row).copied().unwrap_or_default()),
                end: ends.get(row).copied().flatten(),
                quantity: *quantity,
                value: used.counts().and_then(|of| known.get(text)?.get(of).cloned()),
            });
            key.segments.entry(price).or_default().add(*quantity, fact)?;
        }
    }
    Ok(frame.height())
}

fn take_totals(frame: &Frame, until: i32, keys: &mut BTreeMap<Name, Key>) -> anyhow::Result<usize> {
    let texts = |name: &str| table::given_texts(frame, name);
    let mut names = texts("organization")?.into_iter().zip(texts("contract")?).zip(texts("sku_id")?).zip(texts("currency")?);
    let (services, periods) = (table::int32s(frame, "service_period")?, table::int32s(frame, "accounting_period")?);
    let (amounts, readings) = (table::decimals(frame, "amount")?, table::int64s(frame, "readings")?);
    for (((service, period), amount), readings) in services.into_iter().zip(periods).zip(amounts).zip(readings) {
        let (((organization, contract), sku), currency) = names.next().context("columns of different lengths")?;
        ensure!(period <= until, "a row is of accounting period {period}");
        let amount = amount.context("a row has no amount")?;
        let key = keys.entry((organization, contract, sku, service, currency)).or_default();
        key.booked = key.booked.checked_add(amount).context("amounts leave 128 bits")?;
        key.booked_readings += u64::try_from(readings)?;
        if period == until {
            key.booked_in_month += amount;
        }
    }
    Ok(0)
}

/// T of each key, from its readings alone, beside what was booked.
fn judge(keys: &BTreeMap<Name, Key>, rows: &UsedRows, findings: &mut Findings) -> anyhow::Result<()> {
    for ((organization, contract, sku, service, currency), key) in keys {
        let name = format!("{organization} {contract}/{sku} {service} {currency}");
        let mut exact = money::zero();
        for (price, state) in &key.segments {
            // A row that its version lacks is a finding of the charge already.
            let Some(row) = rows.get(price) else { continue };
            exact += row.worth(state, *service).with_context(|| format!("price {price} of {name}"))?;
        }
        let total = plain(&money::total(&exact));
        let mut is = |what: &str, expected: String, found: i128| {
            findings.compare(Stage::Charges, "keys", &name, what, &expected, &plain(&scaled(found, 9)))
        };
        is("sum of its charges", total.clone(), key.charged);
        is("total booked", total, key.booked);
        is("amount booked in the month", plain(&scaled(key.charged_in_month, 9)), key.booked_in_month);
        findings.compare(Stage::Charges, "keys", &name, "readings", &key.readings, &key.booked_readings);
    }
    Ok(())
}

/// What the ledger posted as revenue in the month, by currency.
fn revenue(export: &Value, keys: &BTreeMap<Name, Key>, findings: &mut Findings) -> anyhow::Result<()> {
    let mut posted = BTreeMap::new();
    for sum in export.get("revenue").and_then(Value::as_array).into_iter().flatten() {
        let member = |name: &str| sum.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        posted.insert(member("currency"), money::decimal(&member("amount"))?);
    }
    let mut made = BTreeMap::new();
    for ((_, _, _, _, currency), key) in keys {
        *made.entry(currency.clone()).or_insert_with(money::zero) += scaled(key.charged_in_month, 9);
    }
    for currency in posted.keys().chain(made.keys()).collect::<std::collections::BTreeSet<_>>() {
        let shown = |sums: &BTreeMap<String, money::Number>| plain(&sums.get(currency).cloned().unwrap_or_else(money::zero));
        findings.compare(Stage::Charges, EXPORT, currency, "revenue of the month", &shown(&made), &shown(&posted));
    }
    Ok(())
}
