//! What a running month will come to: gathers the usage as it stands and the fees of the schedule, and has `platform-rating` rate them with the
//! usage of the last days once more. It reads and books nothing; the same home as of the same instant gives the same forecast.

mod history;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use anyhow::Context as _;
use platform_billing::Policies;
use platform_billing::terms::{Spend, SpendError, Termed};
use platform_ingest::batch::ShardState;
use platform_ingest::store;
use platform_rating::forecast::{DAYS, behind, forecast, repeated};
use platform_rating::{ForecastLine, Horizon, Key, Plan, RatedBatch, RatingState, Stage, Standing};
use platform_registry::recurring::Fee;
use platform_registry::{RatedKey, Schedule, Version};
use platform_usage::{Accepted, Event, EventLimits, IdentityKey, MeterSet, MeteredReading, OWN_SOURCE};
use serde::Serialize;
use shared_types::{Amount, AssetId, Digest, Incarnation, Instant, MeterId, Month, OrganizationId, Position, Sequence, ShardId, Sum};

use crate::contract::wire;
use crate::read_models::Readers;
use crate::registries::Registries;
use crate::rerating::reread::Meters;
use crate::rerating::{UnitKey, Work, not_followed, parts, rated_key, restore, unit_of};
use crate::roles::invoicing::policies_of;

/// What a reading of the last days takes in memory, at most: it is repeated up to thirty times.
const READING_BYTES: u64 = 8_192;

const DAY_MICROS: i64 = 86_400_000_000;

/// How a forecast is made, for whoever reads it.
const METHOD: &str = "The usage of the last 7 days before as_of comes again, day by day, until the month is over (of who has fewer days: of those, \
                      begun ones counted; what is held over time without an end is held to the end already). Recurring fees of the month are those of \
                      the contracts. All readings are rated together by the book's prices, tiers included: nothing is scaled, and only each total is \
                      rounded, once, half to even, to 9 places. Terms of contracts \
                      look at the month's lines as an invoice rounds them. Late usage and readings in quarantine are not foreseen.";

/// What is asked.
pub struct Asked {
    /// Only this organization.
    pub organization: Option<OrganizationId>,
    /// The month; the one of the instant by default.
    pub period: Option<Month>,
    /// Usage before this instant has happened.
    pub as_of: Instant,
    /// The book.
    pub version: Version,
    /// What may be used of memory.
    pub memory_bytes: usize,
}

/// Why there is no forecast; the text says what to ask instead.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotForecast(pub String);

wire! {
    /// What a running month will come to at its end. Nothing of it is booked.
    #[derive(Serialize)]
    pub struct ForecastView {
        /// The month, `yyyy-mm`.
        pub period: String,
        /// Usage before this instant has happened.
        pub as_of: String,
        /// Content address of the book.
        pub version: String,
        /// How it is made, in words.
        pub method: String,
        /// By organization, contract line and currency.
        pub lines: Vec<ForecastLineView>,
        /// What terms of contracts make of the lines, in the order in which they are applied; those that move something.
        pub terms: Vec<ForecastTermView>,
        /// By organization and currency.
        pub sums: Vec<SumView>,
        /// Readings to come that would not be rated: they are in no line.
        pub unrated: Vec<UnratedView>,
    }
}

wire! {
    /// What a contract line will come to.
    #[derive(Serialize)]
    pub struct ForecastLineView {
        /// Who owes.
        pub organization: String,
        /// The contract.
        pub contract: String,
        /// What is sold.
        pub sku: String,
        /// The currency of the amounts.
        pub currency: String,
        /// What the quantities count.
        pub unit: String,
        /// What has happened.
        pub so_far: StageView,
        /// Recurring fees of the month that are still to come.
        pub fees: StageView,
        /// The usage that comes again.
        pub usage: StageView,
        /// How many days come again.
        pub days: u64,
        /// The running total at the end of the month: the three together.
        pub at_end: String,
    }
}

wire! {
    /// A part of a forecast.
    #[derive(Serialize)]
    pub struct StageView {
        /// How many readings.
        pub readings: u64,
        /// Sum of their quantities.
        pub quantity: String,
        /// By how much they move the running total.
        pub amount: String,
    }
}

wire! {
    /// What a term of a contract will come to.
    #[derive(Serialize)]
    pub struct ForecastTermView {
        /// Who owes.
        pub organization: String,
        /// The contract.
        pub contract: String,
        /// Its name in the contract.
        pub term: String,
        /// `discount`, `capacity`, `graduated_discount`, `commitment`, `maximum_spend` or `minimum_spend`.
        pub kind: &'static str,
        /// The currency of the amounts.
        pub currency: String,
        /// What it is applied to.
        pub spend: String,
        /// How many months the term looks at together; null where it looks at each by itself.
        pub months: Option<u16>,
        /// What it was applied to in the earlier ones of these, as rated by now; null without `months`.
        pub spend_before: Option<String>,
        /// What it adds, or takes off where below zero.
        pub amount: String,
    }
}

wire! {
    /// What an organization will owe.
    #[derive(Serialize)]
    pub struct SumView {
        /// Who owes.
        pub organization: String,
        /// The currency.
        pub currency: String,
        /// What has happened.
        pub so_far: String,
        /// At the end of the month.
        pub at_end: String,
        /// What an invoice asks for the month's lines, each rounded to the currency, and for its terms; null where the terms of a contract leave
        /// the range of amounts, and a close would leave the organization without an invoice.
        pub invoice: Option<String>,
    }
}

wire! {
    /// Readings to come that would not be rated.
    #[derive(Serialize)]
    pub struct UnratedView {
        /// Who would send them.
        pub organization: String,
        /// The reason of the quarantine.
        pub reason: String,
        /// How many.
        pub readings: u64,
    }
}

/// A UTC date, for its beginning, or an instant.
pub fn instant_of(text: &str) -> Result<Instant, String> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    Instant::parse(&whole).map_err(|_| format!("{text:?} is neither a date such as 2026-10-01 nor an instant such as 2026-10-01T08:00:00Z"))
}

/// What the home's running month will come to.
pub async fn of(readers: &Readers, asked: &Asked) -> anyhow::Result<ForecastView> {
    let period = asked.period.unwrap_or_else(|| asked.as_of.month());
    let end = period.next().context("the month has no end")?.start();
    if asked.as_of < period.start() || asked.as_of >= end {
        let running = if asked.as_of >= end { "is over" } else { "has not begun" };
        return Err(NotForecast(format!(
            "{period} {running} at {}: a forecast is of a running month; give another period or as_of",
            asked.as_of
        ))
        .into());
    }
    let (compiled, secrets) = (platform_registry::compile(&asked.version)?, readers.home.secrets()?);
    let maker = Maker {
        plan: compiled.plan,
        meters: MeterSet::new(compiled.meters)?,
        identity: IdentityKey::new(&secrets.identity),
        policies: policies_of(&asked.version)?,
        period,
        as_of: asked.as_of,
        end,
    };
    let (ends, through) = {
        let mut tx = readers.log.read().await?;
        readers.lake.refresh(&mut tx).await?;
        (store::shard_states(&mut tx).await?, store::head(&mut tx).await?.0)
    };
    let state = restore(&readers.log, &readers.lake, through).await?;
    let mut people: BTreeMap<OrganizationId, Person> = BTreeMap::new();
    let wanted = |organization: &OrganizationId| asked.organization.as_ref().is_none_or(|wanted| wanted == organization);
    let (since, mut keys, mut looked_at) = (maker.since().month(), Vec::new(), Vec::new());
    for (key, kept) in state.keys().filter(|(key, _)| wanted(&key.organization)) {
        let person = people.entry(key.organization.clone()).or_default();
        if maker.together(&key.organization, key.service_period, |_| true) {
            looked_at.push(rated_key((key, kept)));
        }
        if key.service_period < since {
            person.earlier = true;
            continue;
        }
        if key.service_period > period {
            continue;
        }
        keys.push(rated_key((key, kept)));
        person.units.insert(unit_of(key));
        person.readings = kept.segments.values().fold(person.readings, |sum, segment| sum.saturating_add(segment.readings));
    }
    for keys in [&keys, &looked_at] {
        if let Some(error) = not_followed(&readers.books, &asked.version, keys).await? {
            return Err(NotForecast(error.to_string()).into());
        }
    }
    if let Some(meter) = read_otherwise(readers, &asked.version, &keys).await? {
        return Err(NotForecast(format!(
            "meter {meter} reads usage that was rated otherwise under this book: a forecast goes on from readings as they stand; leave the meter \
             as it is, or publish the book with --rerate first"
        ))
        .into());
    }
    let registries = Registries::new(readers.books.clone(), &secrets);
    let threads = readers.home.settings.batch.threads;
    let work = Work { log: &readers.log, lake: &readers.lake, registries: &registries, through, threads };
    for (key, total) in maker.earlier(&work, readers, asked, &state, &ends).await? {
        maker.before(people.entry(key.organization.clone()).or_default(), &key, total)?;
    }
    for fee in Schedule::of(&asked.version).of_period(period).into_iter().filter(|fee| wanted(&fee.organization)) {
        people.entry(fee.organization.clone()).or_default().fees.push(fee);
    }
    for organization in maker.owing().filter(|organization| wanted(organization)) {
        people.entry(organization.clone()).or_default();
    }
    let room = u64::try_from(asked.memory_bytes)?.checked_div(READING_BYTES).unwrap_or_default();
    let sizes = people.iter().map(|(organization, person)| (organization.clone(), person.readings)).collect();
    let together = parts(sizes, room).map_err(|(organization, readings)| {
        NotForecast(format!(
            "organization {organization} has {readings} readings since the last week began, and {room} fit into the memory that a query may \
             have: give it more (query.memory_bytes_max)"
        ))
    })?;
    let mut view = ForecastView {
        period: period.to_string(),
        as_of: asked.as_of.to_string(),
        version: asked.version.address().to_string(),
        method: METHOD.to_owned(),
        lines: Vec::new(),
        terms: Vec::new(),
        sums: Vec::new(),
        unrated: Vec::new(),
    };
    for part in together {
        let units: BTreeSet<UnitKey> =
            part.iter().filter_map(|organization| people.get(organization)).flat_map(|person| person.units.clone()).collect();
        let mut standing: BTreeMap<OrganizationId, Vec<Standing>> = BTreeMap::new();
        for ((organization, _), found) in work.standing(&units).await? {
            standing.entry(organization).or_default().extend(found);
        }
        // Keys do not say whether a recurring fee or usage made them: rows do, which are read where it decides how many days come again.
        let earlier = |organization: &OrganizationId| people.get(organization).is_some_and(|person| person.earlier);
        let begins = |organization: &OrganizationId| standing.get(organization).is_some_and(|found| maker.begins(found));
        let asked = part.iter().filter(|organization| earlier(organization) && begins(organization)).cloned().collect();
        let used_before = history::used_before(readers, through, asked, since).await?;
        for organization in part {
            let Some(person) = people.remove(&organization) else { continue };
            let standing = standing.remove(&organization).unwrap_or_default();
            let used_before = used_before.contains(&organization);
            tokio::task::block_in_place(|| maker.add(&mut view, &organization, &person, used_before, &standing))?;
            tokio::task::yield_now().await;
        }
    }
    Ok(view)
}

/// A meter that the book alters and of which usage was rated.
async fn read_otherwise(readers: &Readers, version: &Version, keys: &[RatedKey]) -> anyhow::Result<Option<MeterId>> {
    let Some(active) = platform_registry::store::active(&mut readers.books.read().await?).await? else { return Ok(None) };
    let (before, after) = (platform_registry::compile(&active)?, platform_registry::compile(version)?);
    let altered = Meters::of(&before).otherwise(&Meters::of(&after));
    let rated = keys.iter().filter_map(|key| before.skus.get(&key.sku)).map(|sku| &sku.meter);
    Ok(rated.filter(|meter| altered.contains(*meter)).min().cloned())
}

/// What is known of an organization before its usage is read.
#[derive(Default)]
struct Person {
    /// Whether it has keys of an earlier month than the ones that are read, of usage or of recurring fees.
    earlier: bool,
    units: BTreeSet<UnitKey>,
    readings: u64,
    fees: Vec<Fee>,
    /// What earlier months came to under contracts whose terms look at several months together.
    spend: Spend,
}

/// Of an organization, in one currency.
#[derive(Default)]
struct Sums {
    so_far: Sum,
    at_end: Sum,
    invoice: Sum,
    /// Whether terms leave the range of amounts.
    beyond: bool,
}

/// What all organizations have in common.
struct Maker {
    plan: Plan,
    meters: MeterSet,
    identity: IdentityKey,
    policies: Policies,
    period: Month,
    as_of: Instant,
    end: Instant,
}

impl Maker {
    /// From where on usage can come again.
    fn since(&self) -> Instant {
        let micros = self.as_of.micros().saturating_sub(DAYS.saturating_mul(DAY_MICROS));
        Instant::from_micros(micros).unwrap_or(Instant::EPOCH)
    }

    /// Whether a term looks at months before this one.
    fn looks_back(&self) -> bool {
        let terms = &self.policies.terms;
        let in_force = terms.own.values().flatten().chain(&terms.default).filter(|termed| termed.holds_in(self.period));
        in_force.flat_map(|termed| termed.terms.iter()).any(|term| term.months.get() > 1)
    }

    /// Whether a term looks at a month together with this one.
    fn together(&self, organization: &OrganizationId, month: Month, of: impl Fn(&Termed) -> bool) -> bool {
        let in_force = self.policies.terms.of(organization).iter().filter(|termed| termed.holds_in(self.period) && of(termed));
        month < self.period && in_force.flat_map(|termed| termed.behind(month, self.period)).any(|month| month == self.period)
    }

    /// What keys of earlier months that a term looks at together with this one come to: under another book than the one in force as if it were put
    /// in force with its usage rated again.
    async fn earlier(
        &self,
        work: &Work<'_>,
        readers: &Readers,
        asked: &Asked,
        state: &RatingState,
        ends: &[ShardState],
    ) -> anyhow::Result<BTreeMap<Key, Amount>> {
        let wanted = |(organization, month): &UnitKey| {
            asked.organization.as_ref().is_none_or(|wanted| wanted == organization) && self.together(organization, *month, |_| true)
        };
        let kept = state.keys().filter(|(key, _)| wanted(&unit_of(key)));
        let mut totals: BTreeMap<Key, Amount> = kept.map(|(key, kept)| (key.clone(), kept.total)).collect();
        let active = platform_registry::store::active(&mut readers.books.read().await?).await?;
        let Some(active) = active.filter(|active| active.address() != asked.version.address() && self.looks_back()) else {
            return Ok(totals);
        };
        let reached = work.reached_by(state, (&active, &asked.version), &self.plan, wanted).await?;
        let take = |batch: &RatedBatch| {
            totals.extend(batch.totals.iter().map(|total| (total.key(), total.total)));
            Ok(())
        };
        work.foresee(state, &self.plan, &reached, (ends, asked.as_of), take).await?;
        Ok(totals)
    }

    /// Takes in what a key of an earlier month came to, where a term looks at it together with this month.
    fn before(&self, person: &mut Person, key: &Key, total: Amount) -> anyhow::Result<()> {
        let of_contract = |termed: &Termed| (&termed.contract, &termed.currency) == (&key.contract, &key.currency);
        if self.together(&key.organization, key.service_period, of_contract) {
            let rounding = self.policies.roundings.get(&key.currency).context("a currency of the book has no rounding")?;
            let rounded = rounding.round(total).context("a line leaves the range of amounts")?;
            person.spend.add(&key.contract, &key.currency, key.service_period, &key.sku, rounded);
        }
        Ok(())
    }

    /// Organizations whose contracts may ask for something without usage.
    fn owing(&self) -> impl Iterator<Item = &OrganizationId> {
        let owed = |termed: &Termed| termed.holds_in(self.period) && termed.terms.iter().any(|term| term.rule.owed_unused());
        self.policies.terms.own.iter().filter(move |(_, termed)| termed.iter().any(owed)).map(|(organization, _)| organization)
    }

    /// Whether an organization's usage, as far as it was read, begins in the days that come again.
    fn begins(&self, standing: &[Standing]) -> bool {
        let first = standing.iter().map(|found| &found.charge).filter(|charge| charge.source.as_str() != OWN_SOURCE);
        first.map(|charge| charge.start_at).min().is_some_and(|first| first > self.since())
    }

    /// Adds the lines of an organization.
    ///
    /// - `used_before`: whether it has used something in an earlier month than those whose readings stand here.
    fn add(
        &self,
        view: &mut ForecastView,
        organization: &OrganizationId,
        person: &Person,
        used_before: bool,
        standing: &[Standing],
    ) -> anyhow::Result<()> {
        let mut readings: Vec<MeteredReading> = standing.iter().filter_map(Standing::reading).collect();
        readings.sort_by_key(|reading| (reading.position, reading.ordinal, reading.identity));
        let own = |reading: &MeteredReading| reading.source.as_str() == OWN_SOURCE;
        let (fees_had, used): (Vec<MeteredReading>, Vec<MeteredReading>) = readings.iter().cloned().partition(own);
        let so_far: Vec<MeteredReading> = readings
            .into_iter()
            .filter(|reading| reading.start_at.month() == self.period && (own(reading) || reading.start_at < self.as_of))
            .collect();
        let shard = ShardId::of_organization(organization.as_str());
        let known = self.fees_to_come(person, &fees_had, shard)?;
        let first = used.iter().map(|reading| reading.start_at).min().filter(|_| !used_before).unwrap_or_else(|| self.since());
        let horizon = Horizon::of(self.as_of, self.end, first);
        let again = repeated(&self.plan, &used, &horizon, u64::try_from(known.len())?.saturating_add(1));
        let made = forecast(&self.plan, &so_far, &known, &again)?;
        let mut sums: BTreeMap<AssetId, Sums> = BTreeMap::new();
        let mut spend = person.spend.clone();
        for line in &made.lines {
            let sum = sums.entry(line.key.currency.clone()).or_default();
            let rounding = self.policies.roundings.get(&line.key.currency).context("a currency of the book has no rounding")?;
            let rounded = rounding.round(line.at_end).context("a line leaves the range of amounts")?;
            sum.so_far = sum.so_far.checked_add(line.so_far.amount.into())?;
            sum.at_end = sum.at_end.checked_add(line.at_end.into())?;
            sum.invoice = sum.invoice.checked_add(rounded.into())?;
            spend.add(&line.key.contract, &line.key.currency, self.period, &line.key.sku, rounded);
            view.lines.push(shown(line, horizon.days));
        }
        for termed in self.policies.terms.of(organization).iter().filter(|termed| termed.holds_in(self.period)) {
            let applied = match spend.apply(termed, self.period, &self.policies) {
                Ok(applied) => applied,
                // Nobody else's forecast depends on it.
                Err(SpendError::OutOfRange { .. }) => {
                    sums.entry(termed.currency.clone()).or_default().beyond = true;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for applied in applied.into_iter().filter(|applied| applied.amount != Amount::ZERO) {
                let sum = sums.entry(termed.currency.clone()).or_default();
                sum.invoice = sum.invoice.checked_add(applied.amount.into())?;
                view.terms.push(ForecastTermView {
                    organization: organization.to_string(),
                    contract: termed.contract.to_string(),
                    term: applied.term.id.clone(),
                    kind: applied.term.rule.kind(),
                    currency: termed.currency.to_string(),
                    spend: applied.spend.to_string(),
                    months: applied.window.map(|window| window.months),
                    spend_before: applied.window.map(|window| window.spend_before.to_string()),
                    amount: applied.amount.to_string(),
                });
            }
        }
        let sum = |(currency, Sums { so_far, at_end, invoice, beyond }): (AssetId, Sums)| SumView {
            organization: organization.to_string(),
            currency: currency.to_string(),
            so_far: so_far.to_string(),
            at_end: at_end.to_string(),
            invoice: (!beyond).then(|| invoice.to_string()),
        };
        view.sums.extend(sums.into_iter().map(sum));
        let unrated = |(reason, readings): (&&str, &u64)| UnratedView {
            organization: organization.to_string(),
            reason: (*reason).to_owned(),
            readings: *readings,
        };
        view.unrated.extend(made.unrated.iter().map(unrated));
        Ok(())
    }

    /// The recurring fees of the month that were not counted yet, read by the book's meters.
    fn fees_to_come(&self, person: &Person, had: &[MeteredReading], shard: ShardId) -> anyhow::Result<Vec<MeteredReading>> {
        let counted: HashSet<_> = had.iter().map(|reading| reading.identity).collect();
        let mut found = Vec::new();
        for (fee, sequence) in person.fees.iter().zip(1..) {
            let limits = EventLimits { far_future_micros: i64::MAX };
            let event = Event::parse(fee.event().as_bytes(), self.as_of, &limits)
                .map_err(|defect| anyhow::anyhow!("the recurring fee {} is no event: {defect}", fee.event_id()))?;
            let identity = event.identity_hash(&self.identity);
            if counted.contains(&identity) {
                continue;
            }
            let first = Position { shard, incarnation: Incarnation(0), sequence: Sequence(0) };
            let accepted = Accepted { position: behind(first, sequence), identity, accepted_at: self.as_of, commitment: Digest::ZERO };
            found.extend(self.meters.read(&event).into_iter().map(|reading| reading.of_event(&event, &accepted, self.period)));
        }
        Ok(found)
    }
}

fn shown(line: &ForecastLine, days: i64) -> ForecastLineView {
    let stage =
        |stage: &Stage| StageView { readings: stage.readings, quantity: stage.quantity.to_string(), amount: stage.amount.to_string() };
    ForecastLineView {
        organization: line.key.organization.to_string(),
        contract: line.key.contract.to_string(),
        sku: line.key.sku.to_string(),
        currency: line.key.currency.to_string(),
        unit: line.unit.to_string(),
        so_far: stage(&line.so_far),
        fees: stage(&line.known),
        usage: stage(&line.repeated),
        days: u64::try_from(days).unwrap_or_default(),
        at_end: line.at_end.to_string(),
    }
}

impl ForecastView {
    /// The forecast for people.
    pub fn text(&self) -> String {
        let mut out = format!("Forecast of {} as of {}, under version {}\n", self.period, self.as_of, self.version);
        let mut say = |text: String| {
            out.push_str(&text);
            out.push('\n');
        };
        for sum in &self.sums {
            say(format!("organization {}: {} {} so far, {} at the end", sum.organization, sum.currency, sum.so_far, sum.at_end));
            let lines = self.lines.iter().filter(|line| (&line.organization, &line.currency) == (&sum.organization, &sum.currency));
            for line in lines {
                let mut stages = vec![format!("{} so far ({} {})", line.so_far.amount, line.so_far.quantity, line.unit)];
                if line.fees.readings > 0 {
                    stages.push(format!("{} for fees to come ({})", line.fees.amount, line.fees.quantity));
                }
                if line.usage.readings > 0 {
                    let days = if line.days == 1 { "the last day".to_owned() } else { format!("the last {} days", line.days) };
                    stages.push(format!(
                        "{} for {days} again ({} in {} readings)",
                        line.usage.amount, line.usage.quantity, line.usage.readings
                    ));
                }
                say(format!("  {}/{}  {} {} = {}", line.contract, line.sku, line.currency, line.at_end, stages.join(" + ")));
            }
            for term in self.terms.iter().filter(|term| (&term.organization, &term.currency) == (&sum.organization, &sum.currency)) {
                let before = term.spend_before.as_ref().map(|before| format!(", behind {before} in earlier months")).unwrap_or_default();
                say(format!(
                    "  {}#{} ({})  {} {} of {}{before}",
                    term.contract, term.term, term.kind, term.currency, term.amount, term.spend
                ));
            }
            match &sum.invoice {
                Some(invoice) => say(format!("  on the invoice, lines rounded and terms with them: {} {invoice}", sum.currency)),
                None => say("  no invoice could be made: the terms of a contract leave the range of amounts".to_owned()),
            }
        }
        for unrated in &self.unrated {
            say(format!(
                "organization {}: {} readings to come would be in quarantine as {}: they are in no line",
                unrated.organization, unrated.readings, unrated.reason
            ));
        }
        say(if self.sums.is_empty() { "nothing was used, and no fee or term is to come".to_owned() } else { self.method.clone() });
        out
    }
}
