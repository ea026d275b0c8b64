//! The folds: consumers of the batch log, each with its own database and cursor. Each takes the batches after its cursor, nets them,
//! and writes effects, cursor and cut in one transaction: it can neither skip nor repeat nor show half a batch.

mod lake;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use platform_billing::{KeyDelta, PriceSum, Rerated, ShardEnd};
use platform_catalog::hours::HourDelta;
use platform_evidence::{AuditHead, CutInput, LeafInput, LedgerHead, SaltKey, Signer};
use platform_ingest::header::Header;
use platform_ingest::store;
use platform_rating::{COUNTED, Charge, Total, charges_from_arrow, counted_from_arrow, decode_segments, totals_from_arrow};
use shared_db::Database;
use shared_types::{AssetId, BatchNo, Digest, Instant, Month, OrganizationId, Sum};
use tokio::sync::watch;

pub use self::lake::LakeFold;
use super::invoicing::ended_within;
use crate::clock::now;
use crate::home::{Home, Secrets};
use crate::lake::{CHARGES, Lake, TOTALS};

/// Batches that one cut nets at most.
const BATCHES: u32 = 200;
/// How long a fold lets batches gather before it cuts again.
const GATHER: Duration = Duration::from_millis(150);

/// One fold.
#[async_trait]
pub trait Fold: Send + 'static {
    /// Its name in cursors and cuts.
    fn name(&self) -> &'static str;
    /// Where its cursor stands.
    async fn cursor(&self) -> anyhow::Result<BatchNo>;
    /// Folds some of the batches after the cursor, none beyond `end`; the new cursor.
    async fn cut(&mut self, end: BatchNo) -> anyhow::Result<BatchNo>;
}

/// Runs a fold behind a source of batch numbers until the source ends and everything is folded.
pub async fn follow<F: Fold>(
    mut fold: F,
    mut source: watch::Receiver<BatchNo>,
    reached: watch::Sender<BatchNo>,
    patience: Option<Duration>,
) -> anyhow::Result<()> {
    let mut cursor = fold.cursor().await?;
    reached.send_replace(cursor);
    loop {
        let end = *source.borrow_and_update();
        while cursor < end {
            let started = std::time::Instant::now();
            match (fold.cut(end).await, patience) {
                (Ok(next), _) => {
                    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                    tracing::debug!(fold = fold.name(), through = %next, batches = next.0.saturating_sub(cursor.0), micros, "folded");
                    cursor = next;
                }
                (Err(error), Some(patience)) => {
                    tracing::error!(fold = fold.name(), error = format!("{error:#}"), "could not fold; trying again");
                    // Once the server ends, what does not work is left to the next one: it has the batch log.
                    if ended_within(&source, patience).await {
                        return Err(error.context(format!("could not fold into the {}", fold.name())));
                    }
                }
                (Err(error), None) => return Err(error.context(format!("could not fold into the {}", fold.name()))),
            }
            reached.send_replace(cursor);
        }
        // An error says that the source ended: what it showed last is folded.
        if source.changed().await.is_err() {
            if *source.borrow() <= cursor {
                return Ok(());
            }
            continue;
        }
        if patience.is_some() {
            tokio::time::sleep(GATHER).await;
        }
    }
}

/// Runs the evidence fold behind the ledger and behind the entries that invoicing books, until both end. What is booked beside usage moves no
/// batch: then the fold seals the ledger's new head alone.
pub async fn seal(
    mut fold: EvidenceFold,
    mut ledger: watch::Receiver<BatchNo>,
    mut entries: watch::Receiver<u64>,
    reached: watch::Sender<BatchNo>,
    patience: Option<Duration>,
) -> anyhow::Result<()> {
    let mut cursor = fold.cursor().await?;
    reached.send_replace(cursor);
    let (mut folding, mut invoicing) = (true, true);
    loop {
        let end = *ledger.borrow_and_update();
        entries.borrow_and_update();
        let worked = async {
            let mut cursor = cursor;
            while cursor < end {
                cursor = fold.cut(end).await?;
                reached.send_replace(cursor);
            }
            fold.seal_heads().await?;
            Ok::<_, anyhow::Error>(cursor)
        };
        match (worked.await, patience) {
            (Ok(next), _) => cursor = next,
            (Err(error), Some(patience)) => {
                tracing::error!(fold = fold.name(), error = format!("{error:#}"), "could not fold; trying again");
                if ended_within(&ledger, patience).await {
                    return Err(error.context(format!("could not fold into the {}", fold.name())));
                }
                cursor = fold.cursor().await.unwrap_or(cursor);
                continue;
            }
            (Err(error), None) => return Err(error.context(format!("could not fold into the {}", fold.name()))),
        }
        if !folding && !invoicing && *ledger.borrow() <= cursor {
            return Ok(());
        }
        // An error says that the source ended: what it showed last is looked at once more.
        tokio::select! {
            changed = ledger.changed(), if folding => folding = changed.is_ok(),
            changed = entries.changed(), if invoicing => invoicing = changed.is_ok(),
            else => {}
        }
        if patience.is_some() {
            tokio::time::sleep(GATHER).await;
        }
    }
}

/// At most `limit` headers after a batch, none beyond `end`.
pub async fn page(log: &Database, after: BatchNo, end: BatchNo, limit: u32) -> anyhow::Result<Vec<(Header, Digest)>> {
    let mut tx = log.read().await?;
    let left = end.0.saturating_sub(after.0);
    let mut headers = store::batches_after(&mut tx, after, limit.min(u32::try_from(left).unwrap_or(u32::MAX))).await?;
    headers.retain(|(header, _)| header.batch_no <= end);
    Ok(headers)
}

/// The headers after a cursor that one cut takes, none beyond `end`.
async fn headers(log: &Database, after: BatchNo, end: BatchNo) -> anyhow::Result<Vec<(Header, Digest)>> {
    page(log, after, end, BATCHES).await
}

/// The headers of exactly the batches `first..=last`: what a recorded cut took.
pub async fn headers_of_cut(log: &Database, first: BatchNo, last: BatchNo) -> anyhow::Result<Vec<(Header, Digest)>> {
    let mut all = Vec::new();
    let mut after = BatchNo(first.0.saturating_sub(1));
    while after < last {
        let more = headers(log, after, last).await?;
        after = more.last().map(|(header, _)| header.batch_no).context("a cut names batches that the log does not hold")?;
        all.extend(more);
    }
    Ok(all)
}

async fn cursor_of(database: &Database, fold: &str) -> anyhow::Result<BatchNo> {
    let mut tx = database.read().await?;
    Ok(shared_db::cursor(&mut tx, fold).await?)
}

/// First and last batch of a cut.
fn bounds(headers: &[(Header, Digest)]) -> anyhow::Result<(BatchNo, BatchNo)> {
    let first = headers.first().context("a cut of no batches")?.0.batch_no;
    let last = headers.last().context("a cut of no batches")?.0.batch_no;
    Ok((first, last))
}

/// The latest acceptance of the batches: folds date their effects by it, never by a clock.
fn accepted_to(headers: &[(Header, Digest)]) -> Instant {
    headers.iter().map(|(header, _)| header.accepted_to).max().unwrap_or(Instant::EPOCH)
}

/// `totals` → postings and balances, running totals by accounting period, and the lock of a month that every shard has passed.
pub struct LedgerFold {
    log: Database,
    books: Database,
    lake: Lake,
}

impl LedgerFold {
    /// Into the books.
    pub fn new(log: Database, books: Database, lake: Lake) -> Self {
        Self { log, books, lake }
    }

    /// Folds exactly these batches as one entry group; locks each month whose last shard passes its close in them.
    pub async fn fold(&self, headers: &[(Header, Digest)]) -> anyhow::Result<()> {
        let (first, last) = bounds(headers)?;
        let (mut deltas, mut ends) = (Vec::new(), Vec::new());
        for (header, _) in headers {
            let again = self.lake.rerates(header)?;
            for rows in self.lake.read(header, TOTALS, None)? {
                for total in totals_from_arrow(&rows)? {
                    let range = header.ranges.iter().find(|range| again && range.shard == total.shard);
                    let rerated = range.map(|range| Rerated { batch_no: header.batch_no, registry_version: range.registry_version });
                    deltas.push(delta(total, rerated)?);
                }
            }
            ends.extend(header.ranges.iter().map(|range| ShardEnd {
                shard: range.shard,
                oldest_open: range.oldest_open,
                registry_version: range.registry_version,
                batch_no: header.batch_no,
            }));
        }
        let group = platform_billing::postings_of(first, last, accepted_to(headers), &deltas)?;
        let mut tx = self.books.begin().await?;
        platform_ledger::open_for(&mut tx, &group).await?;
        platform_ledger::append(&mut tx, &group).await?;
        for period in platform_billing::fold(&mut tx, last, &deltas, &ends).await? {
            platform_ledger::close_through(&mut tx, period).await?;
            tracing::info!(%period, "every shard has passed the close: the month is locked");
        }
        tx.commit().await?;
        Ok(())
    }
}

/// A row of `totals` as billing takes it.
fn delta(total: Total, rerated: Option<Rerated>) -> anyhow::Result<KeyDelta> {
    let segments = decode_segments(&total.state)?;
    let prices = segments
        .into_iter()
        .map(|(price_id, segment)| PriceSum { price_id, quantity: segment.quantity, readings: segment.readings })
        .collect();
    Ok(KeyDelta {
        organization: total.organization,
        contract: total.contract,
        contract_line: total.contract_line,
        sku: total.sku,
        service_period: total.service_period,
        currency: total.currency,
        family: total.family,
        accounting_period: total.accounting_period,
        quantity: total.quantity,
        amount: i128::from(total.amount.units()),
        readings: total.readings,
        total: total.total,
        prices,
        log_sizes: total.log_sizes,
        rerated,
    })
}

#[async_trait]
impl Fold for LedgerFold {
    fn name(&self) -> &'static str {
        "ledger"
    }

    async fn cursor(&self) -> anyhow::Result<BatchNo> {
        cursor_of(&self.books, self.name()).await
    }

    async fn cut(&mut self, end: BatchNo) -> anyhow::Result<BatchNo> {
        let mut headers = headers(&self.log, self.cursor().await?, end).await?;
        // What was rated again is an entry of its own, beside no live usage: its batch leads to the cause.
        for at in 0..headers.len() {
            let Some((header, _)) = headers.get(at) else { break };
            if self.lake.rerates(header)? {
                headers.truncate(at.max(1));
                break;
            }
        }
        self.fold(&headers).await?;
        Ok(bounds(&headers)?.1)
    }
}

/// Charges of some batches, in sealed order.
fn charges_of(lake: &Lake, headers: &[(Header, Digest)]) -> anyhow::Result<Vec<Charge>> {
    let mut charges = Vec::new();
    for (header, _) in headers {
        let from = charges.len();
        for rows in lake.read(header, CHARGES, None)? {
            charges.extend(charges_from_arrow(&rows)?);
        }
        if let Some(batch) = charges.get_mut(from..) {
            batch.sort_by_key(Charge::place);
        }
    }
    Ok(charges)
}

/// `charges` → hour buckets.
pub struct UsageFold {
    log: Database,
    usage: Database,
    lake: Lake,
}

impl UsageFold {
    /// Into the usage database.
    pub fn new(log: Database, usage: Database, lake: Lake) -> Self {
        Self { log, usage, lake }
    }

    /// Folds exactly these batches.
    pub async fn fold(&self, headers: &[(Header, Digest)]) -> anyhow::Result<()> {
        let (first, last) = bounds(headers)?;
        let mut batches = Vec::new();
        for (header, _) in headers {
            batches.extend(self.lake.read(header, CHARGES, Some(COUNTED))?);
        }
        let mut deltas = Vec::new();
        for rows in &batches {
            deltas.extend(counted_from_arrow(rows)?.into_iter().map(|counted| HourDelta {
                organization: counted.organization,
                project: counted.project,
                meter: counted.meter,
                unit: counted.unit,
                at: counted.start_at,
                quantity: counted.quantity,
                amount: counted.amount,
                currency: counted.currency,
            }));
        }
        let mut tx = self.usage.begin().await?;
        platform_catalog::hours::fold_hours(&mut tx, BatchNo(first.0.saturating_sub(1)), last, &deltas).await?;
        tx.commit().await?;
        Ok(())
    }
}

#[async_trait]
impl Fold for UsageFold {
    fn name(&self) -> &'static str {
        platform_catalog::hours::FOLD
    }

    async fn cursor(&self) -> anyhow::Result<BatchNo> {
        cursor_of(&self.usage, self.name()).await
    }

    async fn cut(&mut self, end: BatchNo) -> anyhow::Result<BatchNo> {
        let headers = headers(&self.log, self.cursor().await?, end).await?;
        self.fold(&headers).await?;
        Ok(bounds(&headers)?.1)
    }
}

/// `charges` → organization logs, and a signed checkpoint over all of them. It cuts where the ledger cut.
pub struct EvidenceFold {
    log: Database,
    books: Database,
    evidence: Database,
    lake: Lake,
    salt: SaltKey,
    signer: Signer,
    tiles: PathBuf,
}

impl EvidenceFold {
    /// Into the evidence database; tiles that a crash left unpublished are published.
    pub async fn open(
        home: &Home,
        secrets: &Secrets,
        log: Database,
        books: Database,
        evidence: Database,
        lake: Lake,
        tiles: PathBuf,
    ) -> anyhow::Result<Self> {
        let fold = Self {
            log,
            books,
            evidence,
            lake,
            salt: SaltKey::from_bytes(&secrets.salt),
            signer: Signer::new(&home.settings.evidence.origin, &secrets.log)?,
            tiles,
        };
        fold.publish().await?;
        Ok(fold)
    }

    /// The checkpoint and tiles as files, after the commit: the database is the truth.
    async fn publish(&self) -> anyhow::Result<()> {
        // A restored home may come without what follows from it.
        std::fs::create_dir_all(&self.tiles)?;
        let mut tx = self.evidence.read().await?;
        platform_evidence::publish(&mut tx, &self.tiles, self.signer.key()).await?;
        Ok(())
    }

    /// Folds exactly these batches; the ledger must have folded them.
    pub async fn fold(&self, headers: &[(Header, Digest)]) -> anyhow::Result<()> {
        let mut cut = cut_input(&self.lake, headers, ledger_head(&self.books).await?, now())?;
        cut.audit = Some(audit_head(&self.books).await?);
        self.take(&cut).await
    }

    /// Seals the heads of the ledger when they moved without a batch; nothing otherwise.
    pub async fn seal_heads(&self) -> anyhow::Result<()> {
        let cursor = self.cursor().await?;
        let last = platform_evidence::latest(&mut self.evidence.read().await?).await?;
        let Some(last) = last else { return Ok(()) };
        let ledger = ledger_head(&self.books).await?;
        // A ledger that is ahead is sealed with the batches that it has folded.
        if last.entry.batch_no != cursor || ledger.batch_no != cursor || last.entry.ledger == ledger {
            return Ok(());
        }
        self.take(&CutInput {
            first: cursor.next().context("batch numbers are used up")?,
            last: cursor,
            last_digest: last.entry.batch_digest,
            leaves: Vec::new(),
            sums: Vec::new(),
            organizations: Vec::new(),
            ledger,
            registry_version: last.entry.registry_version,
            audit: Some(audit_head(&self.books).await?),
            recorded_at: now(),
        })
        .await?;
        self.publish().await
    }

    async fn take(&self, cut: &CutInput) -> anyhow::Result<()> {
        let mut tx = self.evidence.begin().await?;
        platform_evidence::fold(&mut tx, cut, &self.salt, &self.signer).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Where the ledger stands: what a checkpoint says of it.
async fn ledger_head(books: &Database) -> anyhow::Result<LedgerHead> {
    let mut tx = books.read().await?;
    let head = platform_ledger::head(&mut tx).await?;
    Ok(LedgerHead {
        batch_no: shared_db::cursor(&mut tx, platform_ledger::FOLD).await?,
        seq: head.as_ref().map_or(0, |head| head.number),
        digest: head.map_or(Digest::ZERO, |head| head.digest),
    })
}

/// Where the audit chains stand: what a checkpoint says of them.
async fn audit_head(books: &Database) -> anyhow::Result<AuditHead> {
    let head = platform_audit::heads(&mut books.read().await?).await?.head;
    Ok(AuditHead { chains: head.chains, records: head.records, digest: head.digest })
}

/// What evidence takes of some batches: leaves by organization and month in sealed order, and the charged sums.
pub fn cut_input(lake: &Lake, headers: &[(Header, Digest)], ledger: LedgerHead, recorded_at: Instant) -> anyhow::Result<CutInput> {
    let (first, last) = bounds(headers)?;
    let mut leaves: BTreeMap<(OrganizationId, Month), Vec<LeafInput>> = BTreeMap::new();
    let mut sums: BTreeMap<(OrganizationId, AssetId), Sum> = BTreeMap::new();
    for charge in charges_of(lake, headers)? {
        let (Some(priced), Some(amount)) = (charge.fate.priced(), charge.fate.amount()) else { continue };
        let sum = sums.entry((charge.organization.clone(), priced.currency.clone())).or_default();
        *sum = sum.checked_add(amount.into())?;
        leaves.entry((charge.organization.clone(), priced.log_month)).or_default().push(LeafInput {
            log_seq: priced.log_seq,
            meter: charge.meter.clone(),
            unit: charge.unit.clone(),
            quantity: charge.quantity,
            start_at: charge.start_at,
            end_at: charge.end_at,
            registry_version: charge.registry_version,
            commitment: charge.commitment,
        });
    }
    // The newest control record that any shard of the cut has applied says which version is in force.
    let in_force = headers.iter().flat_map(|(header, _)| &header.ranges).max_by_key(|range| range.control_no);
    Ok(CutInput {
        first,
        last,
        last_digest: headers.last().context("a cut of no batches")?.1,
        leaves: leaves.into_iter().map(|((organization, month), leaves)| (organization, month, leaves)).collect(),
        sums: sums.into_iter().map(|((organization, currency), amount)| (organization, currency, amount)).collect(),
        organizations: Vec::new(),
        ledger,
        registry_version: in_force.map_or(Digest::ZERO, |range| range.registry_version),
        audit: None,
        recorded_at,
    })
}

#[async_trait]
impl Fold for EvidenceFold {
    fn name(&self) -> &'static str {
        platform_evidence::FOLD
    }

    async fn cursor(&self) -> anyhow::Result<BatchNo> {
        cursor_of(&self.evidence, self.name()).await
    }

    async fn cut(&mut self, end: BatchNo) -> anyhow::Result<BatchNo> {
        let headers = headers(&self.log, self.cursor().await?, end).await?;
        self.fold(&headers).await?;
        self.publish().await?;
        Ok(bounds(&headers)?.1)
    }
}
