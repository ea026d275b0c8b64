//! The invoicing role: behind the ledger's fold it drafts the invoices of each closed month and gives them their numbers, organization by
//! organization, each in a transaction of its own. What was done is not done again, so it goes on wherever a process was killed.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use platform_billing::terms::{DiscountTier, Over, Rule, Scope, SkuFacts, Term, Termed, TrueUp};
use platform_billing::{Close, CloseError, Held, InvoiceError, Policies, Rounding, RoundingMode, SkuText, Terms};
use platform_registry::document::{self, Recurring, TermRule};
use platform_registry::{TermSchedule, Version};
use shared_db::{Database, OutboxEvent, Transaction};
use shared_types::{BatchNo, ContractId, Digest, Month, OrganizationId};
use tokio::sync::watch;

use crate::clock::now;
use crate::home::{BillingSettings, IssueWhen};

/// Organizations and invoices taken at a time.
const PAGE: u32 = 200;

/// Drafts and issues.
pub struct Invoicing {
    books: Database,
    settings: BillingSettings,
    /// Raised with every entry that is booked here: evidence follows it.
    entries: watch::Sender<u64>,
    /// The last close that was looked at to its end: until there is another, or an opinion, a cut of the ledger brings nothing to do.
    seen: Option<Month>,
}

impl Invoicing {
    /// In the books, as the settings say.
    pub fn new(books: Database, settings: BillingSettings, entries: watch::Sender<u64>) -> Self {
        Self { books, settings, entries, seen: None }
    }

    /// Works behind the ledger's fold until that ends and everything is drafted and issued.
    ///
    /// - `asked`: raised when something else than a batch gives reason to look, such as a second opinion.
    pub async fn run(
        mut self,
        mut ledger: watch::Receiver<BatchNo>,
        asked: Arc<tokio::sync::Notify>,
        patience: Option<Duration>,
    ) -> anyhow::Result<()> {
        loop {
            ledger.borrow_and_update();
            match (self.work().await, patience) {
                (Ok(()), _) => {}
                (Err(error), Some(patience)) => {
                    tracing::error!(error = format!("{error:#}"), "could not invoice; trying again");
                    // Nothing more is folded once the server ends: what does not work then is tried again by the next one.
                    if ended_within(&ledger, patience).await {
                        return Err(error.context("could not invoice"));
                    }
                    continue;
                }
                (Err(error), None) => return Err(error.context("could not invoice")),
            }
            tokio::select! {
                changed = ledger.changed() => if changed.is_err() {
                    // The fold has ended: what it folded last is looked at once more.
                    return self.work().await;
                },
                () = asked.notified() => self.seen = None,
            }
        }
    }

    /// Drafts and issues all that can be; nothing when there is nothing to do.
    async fn work(&mut self) -> anyhow::Result<()> {
        let last = platform_billing::last_close(&mut self.books.read().await?).await?;
        if last == self.seen {
            return Ok(());
        }
        let closes = platform_billing::closes(&mut self.books.read().await?).await?;
        let mut held: BTreeSet<OrganizationId> =
            platform_billing::held(&mut self.books.read().await?).await?.into_iter().map(|held| held.organization).collect();
        for close in closes.iter().filter(|close| close.drafted.is_none()) {
            self.draft(close, &mut held).await?;
        }
        // Numbers follow the months: behind one that waits for its opinion the later ones wait too.
        let may_issue = |close: &&Close| self.settings.issue == IssueWhen::AtClose || close.opinion == Some(true);
        for close in closes.iter().take_while(may_issue) {
            self.issue(close).await?;
        }
        self.seen = last;
        Ok(())
    }

    /// Drafts what a close covers. An organization whose invoice does not fit is left without one from this close on: it holds up nobody else.
    async fn draft(&self, close: &Close, held: &mut BTreeSet<OrganizationId>) -> anyhow::Result<()> {
        let policies = policies(&mut self.books.read().await?, close.registry_version).await?;
        let mut after = None;
        loop {
            let page = platform_billing::organizations(&mut self.books.read().await?, close, &policies.terms, after.as_ref(), PAGE).await?;
            for organization in page.iter().filter(|organization| !held.contains(*organization)).cloned().collect::<Vec<_>>() {
                let mut tx = self.books.begin().await?;
                match platform_billing::draft_organization(&mut tx, close, &organization, &policies).await {
                    Ok(_) => tx.commit().await?,
                    Err(CloseError::Invoice(error @ InvoiceError::Overflow { .. })) => {
                        tracing::error!(period = %close.period, %organization, %error, "this organization is not invoiced; all others are");
                        drop(tx);
                        let left = Held { organization: organization.clone(), period: close.period, problem: error.to_string() };
                        let mut tx = self.books.begin().await?;
                        platform_billing::hold(&mut tx, &left).await?;
                        tx.commit().await?;
                        held.insert(organization);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            match page.into_iter().next_back() {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        let mut tx = self.books.begin().await?;
        platform_billing::finish_drafts(&mut tx, close).await?;
        tx.commit().await?;
        tracing::info!(period = %close.period, "invoices are drafted");
        Ok(())
    }

    async fn issue(&self, close: &Close) -> anyhow::Result<()> {
        loop {
            let page = platform_billing::unissued(&mut self.books.read().await?, close.period, PAGE).await?;
            if page.is_empty() {
                return Ok(());
            }
            for invoice_id in page {
                let mut tx = self.books.begin().await?;
                let issue = platform_billing::issue(&mut tx, &invoice_id, &self.settings.issuer, now()).await?;
                let event = OutboxEvent {
                    subject: "platform.billing.invoice-issued".to_owned(),
                    event_type: "platform.billing.invoice-issued".to_owned(),
                    version: 1,
                    correlation_id: invoice_id.to_string(),
                    payload:
                        serde_json::json!({"invoice_id": invoice_id, "number": issue.shown(), "registry_version": close.registry_version})
                            .to_string(),
                };
                shared_db::enqueue(&mut tx, event).await?;
                tx.commit().await?;
                if let Some(entry_no) = issue.entry_no {
                    self.entries.send_replace(entry_no);
                }
            }
        }
    }
}

/// Waits; whether a source of batch numbers ended meanwhile.
pub async fn ended_within(source: &watch::Receiver<BatchNo>, patience: Duration) -> bool {
    // What it shows meanwhile stays to be seen.
    let mut source = source.clone();
    let ended = async { while source.changed().await.is_ok() {} };
    tokio::time::timeout(patience, ended).await.is_ok()
}

/// What invoices need to know of a registry version.
pub async fn policies(tx: &mut Transaction, version: Digest) -> anyhow::Result<Policies> {
    let Some(version) = platform_registry::store::version(tx, version).await? else { return Ok(Policies::default()) };
    policies_of(&version)
}

/// What invoices need to know of a version, published or not.
pub fn policies_of(version: &Version) -> anyhow::Result<Policies> {
    let compiled = platform_registry::compile(version)?;
    let roundings = compiled.roundings.into_values().map(|rounding| {
        let mode = match rounding.mode {
            document::RoundingMode::HalfAwayFromZero => RoundingMode::HalfAwayFromZero,
            document::RoundingMode::HalfEven => RoundingMode::HalfEven,
        };
        (rounding.asset, Rounding { mode, scale: rounding.scale })
    });
    let meters: BTreeMap<_, _> = compiled.meters.into_iter().map(|meter| (meter.id.clone(), meter)).collect();
    let mut policies = Policies { roundings: roundings.collect(), terms: terms(&TermSchedule::of(version)), ..Policies::default() };
    for (id, sku) in compiled.skus {
        let Some(meter) = meters.get(&sku.meter) else { continue };
        let facts = SkuFacts { family: sku.family.as_str().into(), recurring: Recurring::is_own(&meter.event_type) };
        policies.terms.skus.insert(id.clone(), facts);
        let description = sku.description.unwrap_or_else(|| id.to_string());
        policies.skus.insert(id, SkuText { description, unit: meter.unit.clone() });
    }
    Ok(policies)
}

/// Terms as billing has them.
fn terms(schedule: &TermSchedule) -> Terms {
    let mut known: BTreeMap<ContractId, Arc<[Term]>> = BTreeMap::new();
    let mut of = |termed: &[platform_registry::Termed]| -> Vec<Termed> {
        let of = termed.iter().map(|termed| Termed {
            contract: termed.contract.clone(),
            currency: termed.currency.clone(),
            from: termed.from,
            until: termed.until,
            over: match termed.over {
                document::TermsOver::Everything => Over::Everything,
                document::TermsOver::Usage => Over::Usage,
            },
            terms: Arc::clone(known.entry(termed.contract.clone()).or_insert_with(|| termed.terms.iter().map(term).collect())),
        });
        of.collect()
    };
    Terms {
        default: of(schedule.default()),
        own: schedule.own().map(|(organization, termed)| (organization.clone(), of(termed))).collect(),
        skus: BTreeMap::new(),
    }
}

fn term(term: &document::Term) -> Term {
    let rule = match &term.rule {
        TermRule::Discount { percent } => Rule::Discount { percent: *percent },
        TermRule::Capacity {} => Rule::Capacity {},
        TermRule::GraduatedDiscount { tiers } => {
            let tiers = tiers.iter().map(|tier| DiscountTier { up_to: tier.up_to, percent: tier.percent });
            Rule::GraduatedDiscount { tiers: tiers.collect() }
        }
        TermRule::Commitment { amount, overage_factor, true_up } => Rule::Commitment {
            amount: *amount,
            overage_factor: *overage_factor,
            true_up: match true_up {
                document::TrueUp::Owed => TrueUp::Owed,
                document::TrueUp::None => TrueUp::None,
            },
        },
        TermRule::MaximumSpend { amount } => Rule::MaximumSpend { amount: *amount },
        TermRule::MinimumSpend { amount } => Rule::MinimumSpend { amount: *amount },
    };
    let description = term.description.clone().unwrap_or_else(|| {
        match &term.rule {
            TermRule::Discount { percent } => return format!("Discount of {percent} %"),
            TermRule::Capacity {} => "Capacity",
            TermRule::GraduatedDiscount { .. } => "Graduated discount",
            TermRule::Commitment { .. } => "Commitment",
            TermRule::MaximumSpend { .. } => "Maximum spend",
            TermRule::MinimumSpend { .. } => "Minimum spend",
        }
        .to_owned()
    });
    let scope = Scope { families: term.families.clone(), skus: term.skus.clone() };
    // Documents have 1 to 120.
    let months = u16::try_from(term.months).ok().and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MIN);
    Term { id: term.id.clone(), description, rule, months, scope }
}
