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

/// Rows of readings that were rated again, by key, reading and place in the log: of those of one key every other one takes the one before
/// back, and the last one stands.
type Chains = BTreeMap<(Name, (u128, i32)), BTreeMap<i64, Row>>;

struct Row {
    place: String,
    quantity: i128,
    /// The version, the meter and the price that rated it.
    by: (String, String, String),
    fact: Fact,
    values: String,
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
    let damaged = |path: &str| {
        let path = path.to_owned();
        move |Damage { row_group, why }| anyhow::anyhow!("{path}, row group {row_group:?}: {why}")
    };
    let mut again = HashSet::new();
    for (path, bytes) in files.iter().filter(|(path, _)| path.starts_with("charges/")) {
        for frame in table::read_columns(bytes, |name| AGAIN.contains(&name)).map_err(damaged(path))? {
            rated_again(&frame, &mut again).with_context(|| format!("could not read {path}"))?;
        }
    }
    let mut readings = 0;
    let mut chains = Chains::new();
    for (path, bytes) in files.iter().filter(|(path, _)| path.starts_with("charges/") || path.starts_with("totals/")) {
        for frame in table::read(bytes).map_err(damaged(path))? {
            let taken = if path.starts_with("charges/") {
                take_charges(path, &frame, until, &versions, &again, (&mut rows, &mut keys, &mut chains), &mut findings)
            } else {
                take_totals(&frame, until, &mut keys)
            };
            readings += taken.with_context(|| format!("could not read {path}"))?;
        }
    }
    stand(chains, &versions, &mut rows, &mut keys, &mut findings)?;
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

/// What says which readings were rated again.
const AGAIN: [&str; 3] = ["identity", "ordinal", "supersedes"];

/// The readings of which a row takes back, or stands anew.
fn rated_again(frame: &Frame, again: &mut HashSet<(u128, i32)>) -> anyhow::Result<()> {
    let readings = table::identities(frame, "identity")?.into_iter().zip(table::int32s(frame, "ordinal")?);
    again.extend(readings.zip(table::present(frame, "supersedes")?).filter(|(_, superseding)| *superseding).map(|(reading, _)| reading));
    Ok(())
}

fn take_charges(
    path: &str,
    frame: &Frame,
    until: i32,
    versions: &HashMap<String, Version>,
    again: &HashSet<(u128, i32)>,
    (rows, keys, chains): (&mut UsedRows, &mut BTreeMap<Name, Key>, &mut Chains),
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
    let (ordinals, log_seqs) = (table::int32s(frame, "ordinal")?, table::int64s(frame, "log_seq")?);
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
        let free = versions.get(&address).is_some_and(|version| version.is_free(&price));
        findings.compare(Stage::Charges, path, &place(), "fate", &(if free { "free" } else { "charged" }).to_owned(), &row_of(&fates, row));
        let identity = identities.get(row).copied().unwrap_or_default();
        let reading = (identity, ordinals.get(row).copied().unwrap_or_default());
        let fact = Fact { place: (*start, identity), end: ends.get(row).copied().flatten(), quantity: *quantity, value: None };
        let key = keys.entry(name.clone()).or_default();
        key.readings += 1;
        key.charged = key.charged.checked_add(*amount).context("amounts leave 128 bits")?;
        if period == until {
            key.charged_in_month += amount;
        }
        let found =
            Row { place: format!("{path}, {}", place()), quantity: *quantity, by: (address, meter, price), fact, values: text.to_owned() };
        if again.contains(&reading) {
            let log_seq = log_seqs.get(row).copied().unwrap_or_default();
            chains.entry((name, reading)).or_default().insert(log_seq, found);
        } else {
            charge(found, versions, rows, key, findings)?;
        }
    }
    Ok(frame.height())
}

/// Gives a row that stands to its price.
fn charge(
    row: Row,
    versions: &HashMap<String, Version>,
    rows: &mut UsedRows,
    key: &mut Key,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let Row { place, quantity, by: (address, meter, price), mut fact, values } = row;
    let version = versions.get(&address);
    if let Some(version) = version
        && !rows.take(version, &price, &meter)?
    {
        findings.add(Stage::Prices, &place, "", "price row", "the same in every version that priced by it", "different");
    }
    let used = rows.get(&price);
    if !used.is_some_and(crate::price::Price::is_free) {
        let fact = match used.filter(|used| used.needs_facts()) {
            None => None,
            Some(used) => {
                if let Some(of) = used.counts() {
                    let mut values: BTreeMap<String, String> = serde_json::from_str(&values)?;
                    fact.value = values.remove(of);
                }
                Some(fact)
            }
        };
        key.segments.entry(price).or_default().add(quantity, fact)?;
    }
    Ok(())
}

/// What stands of the readings that were rated again.
fn stand(
    chains: Chains,
    versions: &HashMap<String, Version>,
    rows: &mut UsedRows,
    keys: &mut BTreeMap<Name, Key>,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    for ((name, _), chain) in chains {
        let mut standing: Option<Row> = None;
        for row in chain.into_values() {
            standing = match standing {
                None => Some(row),
                Some(before) => {
                    let expected = before.quantity.checked_neg().unwrap_or(i128::MIN);
                    findings.compare(Stage::Charges, &row.place, "", "quantity that is taken back", &expected, &row.quantity);
                    findings.compare(Stage::Charges, &row.place, "", "price that is taken back", &before.by.2, &row.by.2);
                    None
                }
            };
        }
        if let Some(row) = standing {
            charge(row, versions, rows, keys.entry(name).or_default(), findings)?;
        }
    }
    Ok(())
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
