//! Makes the bundle of an issued invoice: gathers readings and events from the batch files, registry documents, the way to the latest
//! checkpoint, and seals them. It rates nothing: what a bundle says is checked where it is built and by those who verify it.

mod billed;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Context as _, bail};
use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::{Int32Type, Int64Type};
use platform_billing::StoredInvoice;
use platform_evidence::bundle::{
    Bundle, BundleEvent, BundleInput, BundleKey, BundleReading, CoveredLog, Issue, RegistryDocuments, RegistryIndex, Sealed,
};
use platform_evidence::{LeafInput, SaltKey, Signer};
use platform_ingest::header::Header;
use platform_rating::{Charge, PriceIndex, charges_from_arrow};
use platform_registry::{TermSchedule, Version};
use platform_usage::{Event, EventLimits};
use serde_json::Value;
use shared_db::Database;
use shared_types::{BatchNo, Digest, IdentityHash, Instant, Month, OrganizationId, PriceId};

use crate::commands::Refused;
use crate::commands::invoice::find;
use crate::home::{Home, Store};
use crate::lake::{CHARGES, EVENTS, Lake, TOTALS, rows_of};

/// Headers read at once.
const PAGE: u32 = 500;

/// A sealed bundle, and what is said of it.
pub struct SealedBundle {
    /// Its files.
    pub sealed: Bundle<Sealed>,
    /// The issue of its invoice.
    pub issue: Issue,
    /// Readings that it is re-rated from.
    pub readings: usize,
    /// What its customer pins.
    pub log_key: String,
}

impl SealedBundle {
    /// Size of its files together.
    pub fn bytes(&self) -> usize {
        self.sealed.files().map(|(_, file)| file.bytes.len()).sum()
    }
}

/// Makes the bundle of an issued invoice, in memory; it only reads the home.
pub async fn seal(home: &Home, name: &str) -> anyhow::Result<SealedBundle> {
    let secrets = home.secrets()?;
    let signer = Signer::new(&home.settings.evidence.origin, &secrets.log)?;
    let key = BundleKey::new(&home.settings.evidence.origin, &secrets.bundle)?;
    let salts = SaltKey::from_bytes(&secrets.salt);
    let log = home.database_read_only(Store::Log).await?;
    let books = home.database_read_only(Store::Books).await?;
    let evidence = home.database_read_only(Store::Evidence).await?;
    let issued = issued(&books, name).await?;
    let issue = issued.issue.clone();
    let lake = Lake::open(home, &log).await?;
    let sources = Sources { log: &log, books: &books, evidence: &evidence, lake: &lake, salts: &salts };
    let input = gather(&sources, issued).await?;
    let readings = input.logs.iter().map(|log| log.readings.len()).sum();
    let sealed = Bundle::of(&input)?.seal(&key, &signer)?;
    Ok(SealedBundle { sealed, issue, readings, log_key: signer.key().to_string() })
}

/// Where everything is read from.
struct Sources<'a> {
    /// The batch log.
    log: &'a Database,
    /// Registry.
    books: &'a Database,
    /// Checkpoints.
    evidence: &'a Database,
    /// Batch files.
    lake: &'a Lake,
    /// Opens commitments.
    salts: &'a SaltKey,
}

/// An issued invoice, and the registry versions of the earlier invoices that it goes on from.
struct Issued {
    /// Content, canonical JSON.
    content: String,
    /// Its issue.
    issue: Issue,
    /// Versions in which earlier invoices of the same months were rounded.
    earlier_versions: Vec<Digest>,
}

/// A moment too early: the server seals a checkpoint within a second.
#[derive(Debug, thiserror::Error)]
#[error("organization {organization} is in no checkpoint yet: ask again in a moment, or run `tally drain`")]
pub struct NotSealed {
    /// Whose readings no checkpoint covers.
    pub organization: OrganizationId,
}

/// One leaf on its way into the bundle.
enum Leaf {
    /// The invoice covers it: what is shown of it, and whose event it was read from.
    Covered(Box<Covered>),
    /// It lies behind the end that the invoice covers: only its hash is needed to reach the log's root.
    Later(Digest),
}

struct Covered {
    identity: IdentityHash,
    /// The number of the event, and whether it is a piece of it, is not known yet.
    reading: BundleReading,
    start_at: Instant,
    end_at: Option<Instant>,
}

/// An issued invoice with its ledger entry, and the versions by which the organization's earlier invoices were rounded.
async fn issued(books: &Database, name: &str) -> anyhow::Result<Issued> {
    let mut tx = books.read().await?;
    let StoredInvoice { invoice, issue } = find(&mut tx, name).await?;
    let id = &invoice.invoice_id;
    let issue = issue.ok_or_else(|| Refused(format!("invoice {id} is a draft: a bundle proves an issued invoice")))?;
    let entry = match issue.entry_no {
        None => None,
        Some(number) => {
            let entry = platform_ledger::entry_numbered(&mut tx, number).await?;
            Some((number, entry.with_context(|| format!("ledger entry {number} of invoice {id} is not there"))?.digest))
        }
    };
    let mut earlier_versions = Vec::new();
    for close in platform_billing::closes(&mut tx).await?.iter().filter(|close| close.period < invoice.period) {
        let earlier = platform_billing::invoices_in(&mut tx, &invoice.organization, close.period).await?;
        earlier_versions.extend(earlier.into_iter().map(|stored| stored.invoice.registry_version));
    }
    let content = invoice.canonical();
    Ok(Issued {
        issue: Issue {
            digest: Digest::of(content.as_bytes()),
            number: issue.shown(),
            issuer: issue.issuer.clone(),
            entry,
            issued_at: issue.issued_at,
        },
        earlier_versions,
        content,
    })
}

/// Everything about one invoice.
async fn gather(sources: &Sources<'_>, issued: Issued) -> anyhow::Result<BundleInput> {
    let invoice: Value = serde_json::from_str(&issued.content).context("the invoice's content is no JSON")?;
    let text = |name: &str| invoice.get(name).and_then(Value::as_str).with_context(|| format!("the invoice has no {name}"));
    let organization = OrganizationId::parse(text("organization")?)?;
    let covered = covered(&invoice)?;
    let proof = {
        let mut tx = sources.evidence.read().await?;
        let proof = platform_evidence::proof_of(&mut tx, &organization, sources.salts).await?;
        proof.ok_or_else(|| NotSealed { organization: organization.clone() })?
    };
    let through = proof.checkpoint.entry.batch_no;
    let Read { leaves, mut events, parsed } = read_batches(sources, &organization, &covered, through).await?;

    let mut numbers: HashMap<IdentityHash, usize> = HashMap::new();
    let (mut logs, mut shown, mut versions) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (month, of_month) in leaves {
        let (mut readings, mut later) = (Vec::new(), Vec::new());
        for (log_seq, leaf) in of_month {
            let Covered { identity, reading, start_at, end_at } = match leaf {
                Leaf::Covered(covered) => *covered,
                Leaf::Later(hash) => {
                    later.push(hash);
                    continue;
                }
            };
            let event = match numbers.get(&identity) {
                Some(number) => *number,
                None => {
                    let event = events.remove(&identity);
                    let number = shown.len();
                    shown.push(event.with_context(|| format!("the event of leaf {log_seq} of {month} is in no batch"))?);
                    numbers.insert(identity, number);
                    number
                }
            };
            versions.insert(reading.registry_version);
            let whole = shown.get(event).is_some_and(|event: &BundleEvent| (event.start_at, event.end_at) == (start_at, end_at));
            readings.push(BundleReading { event, piece: (!whole).then_some((start_at, end_at)), ..reading });
        }
        logs.push(CoveredLog { month, readings, later });
    }
    let in_force = Digest::parse(text("registry_version")?).context("the invoice's registry_version is no digest")?;
    versions.insert(in_force);
    billed::provable(&logs, &shown, &parsed, &mut billed::Versions::of(sources.books, &versions).await?, in_force)?;
    versions.extend(issued.earlier_versions);
    provable_terms(sources.books, &organization, &invoice, &versions).await?;
    let prices = logs.iter().flat_map(|log: &CoveredLog| &log.readings).map(|reading| reading.price.clone()).collect();
    let (registry, documents) = registry(sources.books, &organization, &versions, &prices).await?;
    Ok(BundleInput {
        salt: sources.salts.organization_salt(&organization),
        organization,
        invoice: issued.content,
        issue: issued.issue,
        logs,
        events: shown,
        registry,
        documents,
        proof,
        builder: format!("tally/{}", env!("CARGO_PKG_VERSION")),
    })
}

/// Refuses terms in a currency that these versions round in more than one way: what a key without a line came to, rounded as an earlier invoice
/// did, is then known to nobody who has only the bundle.
async fn provable_terms(
    books: &Database,
    organization: &OrganizationId,
    invoice: &Value,
    versions: &BTreeSet<Digest>,
) -> anyhow::Result<()> {
    let text = |of: &Value, name: &str| of.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let of = |name: &str| invoice.get(name).and_then(Value::as_array).into_iter().flatten();
    let months = of("logs").map(|log| text(log, "month")).chain([text(invoice, "period")]);
    let months = months.chain(of("terms").map(|term| text(term, "service_period")));
    let months: Vec<Month> = months.filter_map(|month| Month::from_number(month.parse().ok()?).ok()).collect();
    let address = Digest::parse(&text(invoice, "registry_version")).context("the invoice's registry_version is no digest")?;
    let currency = text(invoice, "currency");
    let mut tx = books.read().await?;
    let schedule = platform_registry::store::version(&mut tx, address).await?.as_ref().map(TermSchedule::of).unwrap_or_default();
    let mut termed = schedule.of_organization(organization).iter().filter(|termed| termed.currency.as_str() == currency);
    let Some(termed) = termed.find(|termed| months.iter().any(|month| termed.holds_in(*month))) else { return Ok(()) };
    let mut roundings = BTreeSet::new();
    for address in versions {
        let version = platform_registry::store::version(&mut tx, *address).await?;
        let version = version.with_context(|| format!("registry version {address} is not there"))?;
        roundings.extend(version.roundings().filter(|of| of.asset.as_str() == currency).map(|of| (of.scale, of.mode.name())));
    }
    if roundings.len() > 1 {
        let what = format!("contract {}, in {currency}, whose rounding changed,", termed.contract);
        bail!(NotProvable { what, kind: "terms of contracts" });
    }
    Ok(())
}

/// The months of the invoice with more than nothing in them, and how far it covers each log.
fn covered(invoice: &Value) -> anyhow::Result<BTreeMap<Month, u64>> {
    let logs = invoice.get("logs").and_then(Value::as_array).context("the invoice has no logs")?;
    let mut covered = BTreeMap::new();
    for log in logs {
        let number = |name: &str| log.get(name).and_then(Value::as_str).and_then(|text| text.parse::<u64>().ok());
        let month = number("month").and_then(|number| i32::try_from(number).ok()).context("a log of the invoice has no month")?;
        covered.insert(Month::from_number(month)?, number("to").context("a log of the invoice has no end")?);
    }
    covered.retain(|_, to| *to > 0);
    Ok(covered)
}

type Leaves = BTreeMap<Month, BTreeMap<u64, Leaf>>;

/// What the batches hold of an organization.
struct Read {
    leaves: Leaves,
    /// The events behind covered leaves.
    events: HashMap<IdentityHash, BundleEvent>,
    /// Of these the ones with an end, as they were read: time may be billed by them.
    parsed: HashMap<IdentityHash, Event>,
}

/// The organization's leaves of these months and the events behind them, from every batch that the checkpoint covers.
async fn read_batches(
    sources: &Sources<'_>,
    organization: &OrganizationId,
    covered: &BTreeMap<Month, u64>,
    through: BatchNo,
) -> anyhow::Result<Read> {
    let (mut leaves, mut events, mut parsed) = (Leaves::new(), HashMap::new(), HashMap::new());
    let (mut after, mut missing) = (BatchNo(0), BTreeSet::new());
    while let Some(headers) = headers_behind(sources, &mut after, through).await? {
        for header in &headers {
            if !touches(sources.lake, header, organization)? {
                continue;
            }
            let mut wanted = BTreeSet::new();
            for rows in sources.lake.read(header, CHARGES, None)? {
                let Some(rows) = rows_of(&rows, organization)? else { continue };
                for charge in charges_from_arrow(&rows)? {
                    let Some((month, log_seq)) = charge.fate.priced().map(|priced| (priced.log_month, priced.log_seq)) else { continue };
                    let Some(to) = covered.get(&month) else { continue };
                    let leaf = if log_seq < *to {
                        wanted.insert(charge.identity);
                        Leaf::Covered(Box::new(covered_of(charge)?))
                    } else {
                        Leaf::Later(leaf_of(log_seq, &charge).hash())
                    };
                    if leaves.entry(month).or_default().insert(log_seq, leaf).is_some() {
                        bail!("leaf {log_seq} of the log of {organization} for {month} is in two batches");
                    }
                }
            }
            read_events(sources, header, organization, &wanted, (&mut events, &mut parsed))?;
            missing.extend(wanted);
        }
    }
    // Of what was in quarantine, or read later, the event lies in a batch that may have no leaf of the organization.
    missing.retain(|identity| !events.contains_key(identity));
    let mut after = BatchNo(0);
    while let Some(headers) = headers_behind(sources, &mut after, through).await?.filter(|_| !missing.is_empty()) {
        for header in &headers {
            read_events(sources, header, organization, &missing, (&mut events, &mut parsed))?;
            missing.retain(|identity| !events.contains_key(identity));
        }
    }
    Ok(Read { leaves, events, parsed })
}

/// The next headers behind a batch, up to one that is the last; none behind it.
async fn headers_behind(sources: &Sources<'_>, after: &mut BatchNo, through: BatchNo) -> anyhow::Result<Option<Vec<Header>>> {
    if *after >= through {
        return Ok(None);
    }
    let mut tx = sources.log.read().await?;
    let headers = platform_ingest::store::batches_after(&mut tx, *after, PAGE).await?;
    let Some((last, _)) = headers.last() else { return Ok(None) };
    *after = last.batch_no;
    Ok(Some(headers.into_iter().map(|(header, _)| header).filter(|header| header.batch_no <= through).collect()))
}

/// Whether a batch has anything of the organization: its totals are few and name every organization with a leaf.
fn touches(lake: &Lake, header: &Header, organization: &OrganizationId) -> anyhow::Result<bool> {
    for rows in lake.read(header, TOTALS, Some(&["organization"]))? {
        if rows_of(&rows, organization)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The accepted events of some identities, as their sources sent them.
fn read_events(
    sources: &Sources<'_>,
    header: &Header,
    organization: &OrganizationId,
    wanted: &BTreeSet<IdentityHash>,
    (events, parsed): (&mut HashMap<IdentityHash, BundleEvent>, &mut HashMap<IdentityHash, Event>),
) -> anyhow::Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let columns = ["identity", "outcome", "organization", "accepted_at", "attributes", "shard", "sequence"];
    for rows in sources.lake.read(header, EVENTS, Some(&columns))? {
        let Some(rows) = rows_of(&rows, organization)? else { continue };
        let column = |name: &str| rows.column_by_name(name).with_context(|| format!("events have no column {name}"));
        let identities = column("identity")?.as_fixed_size_binary();
        let outcomes = column("outcome")?.as_string::<i32>();
        let attributes = column("attributes")?.as_string::<i32>();
        let accepted = column("accepted_at")?.as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
        let shards = column("shard")?.as_primitive::<Int32Type>();
        let sequences = column("sequence")?.as_primitive::<Int64Type>();
        for row in 0..rows.num_rows() {
            if outcomes.value(row) != "accepted" || identities.is_null(row) || attributes.is_null(row) {
                continue;
            }
            let Some(identity) = IdentityHash::from_slice(identities.value(row)).filter(|identity| wanted.contains(identity)) else {
                continue;
            };
            let accepted_at = Instant::from_micros(accepted.value(row))?;
            let place = || format!("the event at {}/{} of batch {}", shards.value(row), sequences.value(row), header.batch_no);
            // What was accepted was plausible when it was.
            let limits = EventLimits { far_future_micros: i64::MAX };
            let event = Event::parse(attributes.value(row).as_bytes(), accepted_at, &limits)
                .map_err(|defect| anyhow::anyhow!("{} does not read: {defect}", place()))?;
            events.insert(
                identity,
                BundleEvent {
                    id: event.id().to_owned(),
                    event_type: event.event_type().to_owned(),
                    source: event.source().clone(),
                    project: event.project().cloned(),
                    subject: event.subject().map(str::to_owned),
                    data: event.data().map(str::to_owned),
                    start_at: event.start_at(),
                    end_at: event.end_at(),
                    identity,
                    salt: sources.salts.reading_salt(&identity),
                },
            );
            if event.end_at().is_some() {
                parsed.insert(identity, event);
            }
        }
    }
    Ok(())
}

/// What is shown of a charge that has a leaf.
fn covered_of(charge: Charge) -> anyhow::Result<Covered> {
    let priced = charge.fate.priced().context("a leaf has no price")?;
    let reading = BundleReading {
        event: 0,
        contract: priced.contract.clone(),
        sku: priced.sku.clone(),
        price: priced.price.clone(),
        meter: charge.meter,
        unit: charge.unit,
        quantity: charge.quantity,
        piece: None,
        registry_version: charge.registry_version,
    };
    Ok(Covered { identity: charge.identity, reading, start_at: charge.start_at, end_at: charge.end_at })
}

fn leaf_of(log_seq: u64, charge: &Charge) -> LeafInput {
    LeafInput {
        log_seq,
        meter: charge.meter.clone(),
        unit: charge.unit.clone(),
        quantity: charge.quantity,
        start_at: charge.start_at,
        end_at: charge.end_at,
        registry_version: charge.registry_version,
        commitment: charge.commitment,
    }
}

/// The indexes of versions, and of their documents those that the organization may see; refused where one has a price among these that
/// bundles do not prove.
async fn registry(
    books: &Database,
    organization: &OrganizationId,
    versions: &BTreeSet<Digest>,
    prices: &BTreeSet<PriceId>,
) -> anyhow::Result<(Vec<RegistryIndex>, RegistryDocuments)> {
    let mut tx = books.read().await?;
    let (mut indexes, mut documents) = (Vec::with_capacity(versions.len()), RegistryDocuments::default());
    for address in versions {
        let version = platform_registry::store::version(&mut tx, *address).await?;
        let version = version.with_context(|| format!("registry version {address} is not there"))?;
        provable(&version, prices)?;
        for entry in version.shown_to(organization)? {
            documents.insert(entry.digest, &entry.canonical);
        }
        indexes.push(RegistryIndex { index: version.index() });
    }
    Ok((indexes, documents))
}

/// A price, or a line, that bundles of this format do not prove.
#[derive(Debug, thiserror::Error)]
#[error("{what} is of the kind {kind}, which bundles cannot prove: send the invoice without one")]
pub struct NotProvable {
    what: String,
    kind: &'static str,
}

/// Only what every verifier recomputes goes into a bundle: another price would look wrong to those who check it.
fn provable(version: &Version, prices: &BTreeSet<PriceId>) -> anyhow::Result<()> {
    let compiled = platform_registry::compile(version)?;
    let rows = PriceIndex::of(&compiled.plan);
    match prices.iter().find_map(|price| Some((price.clone(), rows.get(price)?.unproved()?))) {
        Some((price, kind)) => bail!(NotProvable { what: format!("price {price}"), kind }),
        None => Ok(()),
    }
}

/// Writes a sealed bundle into a folder that is empty or does not exist; durable when it returns.
pub fn write(bundle: &Bundle<Sealed>, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("could not create {}", folder.display()))?;
    let mut found = std::fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))?;
    if let Some(entry) = found.next() {
        bail!(Refused(format!(
            "{} is not empty, it holds {}: a bundle is a closed world and gets a folder of its own",
            folder.display(),
            entry?.file_name().display()
        )));
    }
    let mut folders = BTreeSet::from([folder.to_owned()]);
    for (path, file) in bundle.files() {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
            folders.insert(parent.to_owned());
        }
        let mut written = std::fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
        std::io::Write::write_all(&mut written, &file.bytes).with_context(|| format!("could not write {}", path.display()))?;
        written.sync_all()?;
    }
    // Names are durable once their folders are, the inner ones first.
    for folder in folders.iter().rev() {
        std::fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}
