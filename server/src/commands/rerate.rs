//! `tally rerate`: rates what was rated before again, under a draft book or under the one in force. It shows what would change, by organization,
//! line and cause, what that comes to on invoices, and without `--preview` books it: the draft becomes the version in force and each shard rates again at its record.

mod invoiced;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::bail;
use clap::Args;
use platform_ingest::store;
use platform_rating::{Charge, Key, Plan, RatedBatch, RatingState};
use platform_registry::{TermSchedule, Version};
use serde_json::json;
use shared_types::{Amount, Digest, IdentityHash, MeterId, Month, OrganizationId, Sum};

use invoiced::{Invoiced, Moved, invoiced};

use super::Refused;
use super::registry::version_or_folder;
use super::registry::workflow::put_in_force;
use crate::book::draft_no;
use crate::clock::now;
use crate::home::Home;
use crate::kept;
use crate::read_models::Readers;
use crate::registries::Registries;
use crate::rerating::{Reached, UnitKey, Work, restore, unit_of};
use crate::roles::invoicing::policies_of;
use crate::{Common, Format, Outcome};

/// Arguments of `tally rerate`.
#[derive(Args)]
pub struct RerateArguments {
    /// The book to rate under: a folder of documents, or a draft such as draft-1; for previews, any version by its address too. The version in
    /// force by default, which changes nothing.
    #[arg(long)]
    book: Option<String>,
    /// Only show what would change.
    #[arg(long)]
    preview: bool,
    /// Only `organization=ID` or `month=YYYY-MM`, given once or more often. For previews: a version is booked for everything that it reaches.
    #[arg(long, value_parser = Scope::parse)]
    scope: Vec<Scope>,
}

/// What a preview looks at.
#[derive(Clone, Debug)]
enum Scope {
    Organization(String),
    Month(Month),
}

impl Scope {
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("organization", id)) if !id.is_empty() => Ok(Self::Organization(id.to_owned())),
            Some(("month", month)) => Month::parse(month).map(Self::Month).map_err(|error| error.to_string()),
            _ => Err(format!("{text:?} is no scope: give organization=ID or month=YYYY-MM")),
        }
    }

    /// Scopes of one kind widen, those of two kinds narrow each other.
    fn holds(scopes: &[Self], (organization, month): &UnitKey) -> bool {
        let organizations: Vec<bool> = scopes
            .iter()
            .filter_map(|scope| if let Self::Organization(id) = scope { Some(id == organization.as_str()) } else { None })
            .collect();
        let months: Vec<bool> =
            scopes.iter().filter_map(|scope| if let Self::Month(asked) = scope { Some(asked == month) } else { None }).collect();
        [organizations, months].iter().all(|asked| asked.is_empty() || asked.contains(&true))
    }
}

/// What rating again changes.
#[derive(Default)]
struct Differences {
    lines: Vec<Line>,
    /// Readings that would have no price any more, by organization and reason.
    lost: BTreeMap<(String, String), u64>,
    /// New readings that would have no price, likewise.
    unpriced: BTreeMap<(String, String), u64>,
    /// Readings that would be charged, and are in quarantine or were not read.
    come: u64,
    /// Whether any reading that is charged or free would be so otherwise.
    others: bool,
    /// Meters of which other levels are carried into later months: what these come to is not known before they are stated.
    levels: BTreeSet<MeterId>,
    sums: BTreeMap<String, i128>,
    /// Whether terms of contracts are others, which months that are open will come to.
    other_terms: bool,
    /// T of every key of the units that are rated again.
    moved: Moved,
    /// What organizations see of it.
    invoiced: BTreeMap<OrganizationId, Vec<Invoiced>>,
}

struct Line {
    key: Key,
    books: Month,
    before: i128,
    after: Amount,
    difference: Amount,
    readings: usize,
    /// Of these, how many are in quarantine or were not read so far.
    come: usize,
    causes: Vec<String>,
}

/// Shows, and books unless it is a preview.
pub async fn run(arguments: RerateArguments, common: &Common) -> anyhow::Result<Outcome> {
    let RerateArguments { book, preview, scope } = arguments;
    if !preview && !scope.is_empty() {
        bail!(Refused(
            "--scope is for previews: a version is booked for everything that it reaches, so that nothing stays rated under the one before; \
             to change prices for some organizations only, give them a contract with a price book of their own"
                .to_owned()
        ));
    }
    let home = Home::open(&common.home)?;
    let bar = super::ingest::spinner("rating again");
    let again = again(&home, book.as_deref(), preview, &scope).await;
    bar.finish_and_clear();
    let again = again?;
    match common.format {
        Format::Json => println!("{}", again.differences.json(again.version, again.booked, again.in_force)),
        _ => print!("{}", again.text(preview)),
    }
    // Under the book in force everything stands already: a difference is a finding.
    Ok(if again.in_force && again.differences.others { Outcome::Found } else { Outcome::Done })
}

/// What rating again came to.
struct Again {
    differences: Differences,
    version: Digest,
    /// The control record at which it is booked.
    booked: Option<u64>,
    /// Whether the book is the one in force.
    in_force: bool,
}

impl Again {
    fn text(&self, preview: bool) -> String {
        self.differences.text(self.version, self.booked, self.in_force, preview)
    }
}

/// What rating again under a folder or a draft comes to, as `tally rerate` says it; booked, unless it is a preview.
pub async fn page(home: &Home, book: &str, preview: bool) -> anyhow::Result<String> {
    Ok(again(home, Some(book), preview, &[]).await?.text(preview))
}

async fn again(home: &Home, book: Option<&str>, preview: bool, scope: &[Scope]) -> anyhow::Result<Again> {
    let draft = match book {
        Some(book) => Some(version_or_folder(home, book).await?),
        None => None,
    };
    let readers = Readers::open(home).await?;
    let active = platform_registry::store::active(&mut readers.books.read().await?).await?;
    let active = active.ok_or_else(|| Refused("no registry version is published yet: nothing is rated".to_owned()))?;
    let version = draft.as_ref().unwrap_or(&active);
    let differences = differences(home, &readers, &active, version, scope).await?;
    let in_force = version.address() == active.address();
    let booked = match book.filter(|_| !preview && (!in_force || differences.come > 0)) {
        Some(book) => Some(book_under(home, book, &differences).await?),
        None => None,
    };
    Ok(Again { differences, version: version.address(), booked, in_force })
}

/// Puts the draft in force; the control record at which each shard rates again.
async fn book_under(home: &Home, book: &str, differences: &Differences) -> anyhow::Result<u64> {
    if draft_no(book).is_none() && !Path::new(book).is_dir() {
        bail!(Refused(format!(
            "--book {book} is a version, which is only previewed: booked is what a folder of documents or an approved draft says; \
             `tally registry show {book}` prints the documents"
        )));
    }
    if let Some(((organization, reason), readings)) = differences.lost.first_key_value() {
        bail!(Refused(format!(
            "{readings} readings of organization {organization} would be in quarantine as {reason}; `tally rerate --preview` lists them\n    \
             remedy: price them, or leave the meter, the contract or the match that takes their price away as it was"
        )));
    }
    let (_, control_no, changed) = put_in_force(home, book, true).await?;
    if !changed {
        bail!(Refused(format!("nothing was booked: what {book} says is in force already, and by now nothing of it is left to rate again")));
    }
    Ok(control_no)
}

/// Rates again, beside the owner of the home if there is one, and changes nothing.
async fn differences(home: &Home, readers: &Readers, active: &Version, version: &Version, scope: &[Scope]) -> anyhow::Result<Differences> {
    let (states, through) = {
        let mut tx = readers.log.read().await?;
        (store::shard_states(&mut tx).await?, store::head(&mut tx).await?.0)
    };
    let state = restore(&readers.log, &readers.lake, through).await?;
    if let Some(state) = states.iter().find(|state| state.registry_version != active.address() && state.registry_version != Digest::ZERO) {
        bail!(Refused(format!(
            "version {} is in force, and shard {} has not reached it yet: wait, or run `tally drain`, and ask once more",
            active.address(),
            state.position.shard
        )));
    }
    if version.address() != active.address() {
        refuse_what_stays(readers, active, version, &state).await?;
    }
    let registries = Registries::new(readers.books.clone(), &home.secrets()?);
    let threads = home.settings.batch.threads;
    let work = Work { log: &readers.log, lake: &readers.lake, registries: &registries, through, threads };
    let plan: Plan = platform_registry::compile(version)?.plan;
    let reached = work.reached_by(&state, (active, version), &plan, |unit| Scope::holds(scope, unit)).await?;
    let units: BTreeSet<&UnitKey> = reached.shards.values().flat_map(|(units, _)| units).collect();
    let known = state.keys().filter(|(key, _)| units.contains(&unit_of(key)));
    let moved = known.map(|(key, known)| (key.clone(), (known.total, known.total))).collect();
    let mut differences = Differences { moved, ..Differences::default() };
    work.foresee(&state, &plan, &reached, (&states, now()), |batch| differences.take(batch, &reached, version.address())).await?;
    differences.levels.retain(|meter| version.meters().any(|found| found.id == *meter && found.recurring_from.is_some()));
    differences.levels.extend(carried_otherwise(active, version));
    differences.lines.sort_by(|a, b| a.key.cmp(&b.key));
    let organizations: BTreeSet<&OrganizationId> = differences.moved.keys().map(|key| &key.organization).collect();
    let standing = state.keys().filter(|(key, _)| organizations.contains(&key.organization) && !differences.moved.contains_key(*key));
    let standing: BTreeMap<&Key, Amount> = standing.map(|(key, known)| (key, known.total)).collect();
    let (before, after) = (policies_of(active)?, policies_of(version)?);
    let closes_next = states.iter().filter_map(|state| state.oldest_open).min();
    differences.invoiced = invoiced(&differences.moved, &standing, (&before, &after), closes_next)?;
    differences.other_terms = TermSchedule::of(active) != TermSchedule::of(version);
    Ok(differences)
}

/// Changes that rating again cannot follow are refused before anything is shown of them.
async fn refuse_what_stays(readers: &Readers, active: &Version, version: &Version, state: &RatingState) -> anyhow::Result<()> {
    let used = state.keys().map(|(key, _)| &key.organization).collect();
    let kept = kept::refuse_changed(&mut readers.books.read().await?, Some(active), version, &used).await;
    kept.map_err(|error| Refused(error.to_string()))?;
    let rated: Vec<_> = state.keys().map(crate::rerating::rated_key).collect();
    let reaches = platform_registry::reach_back(active, version);
    platform_registry::refuse_rerating(&reaches, &rated).map_err(|error| Refused(error.to_string()).into())
}

/// Meters whose levels a version carries into other months.
fn carried_otherwise(active: &Version, version: &Version) -> BTreeSet<MeterId> {
    let of = |version: &Version| -> BTreeMap<MeterId, _> {
        version.meters().map(|meter| (meter.id.clone(), (meter.recurring_from, meter.recurring_until))).collect()
    };
    let (was, is) = (of(active), of(version));
    let carries = |of: &BTreeMap<MeterId, _>, meter: &MeterId| of.get(meter).copied().unwrap_or_default();
    was.keys().chain(is.keys()).filter(|meter| carries(&was, meter) != carries(&is, meter)).cloned().collect()
}

impl Differences {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.lost.is_empty() && self.unpriced.is_empty()
    }

    fn take(&mut self, batch: &RatedBatch, reached: &Reached, version: Digest) -> anyhow::Result<()> {
        // A piece that stood nowhere is of time that is cut anew where time of the same event was taken back.
        let taken_back = batch.charges.iter().filter(|charge| charge.supersedes.is_some() && charge.registry_version != version);
        let cut: BTreeSet<(IdentityHash, &MeterId)> = taken_back.map(|charge| (charge.identity, &charge.meter)).collect();
        let (mut readings, mut come): (BTreeMap<Key, BTreeSet<_>>, BTreeMap<Key, usize>) = (BTreeMap::new(), BTreeMap::new());
        for of_one in batch.charges.chunk_by(|a, b| (a.identity, a.ordinal) == (b.identity, b.ordinal)) {
            for charge in of_one {
                if let Some(key) = charge.key() {
                    readings.entry(key).or_default().insert((charge.identity, charge.ordinal));
                }
            }
            // What stands is taken back before another row stands in its place, if any does.
            let Some(last) = of_one.last() else { continue };
            let without = |last: &Charge| (last.organization.to_string(), last.fate.reason().unwrap_or_default().to_owned());
            match (of_one, last.key()) {
                ([one], Some(key)) if one.registry_version == version && !cut.contains(&(one.identity, &one.meter)) => {
                    *come.entry(key).or_default() += 1;
                    self.come += 1;
                    self.levels.insert(one.meter.clone());
                }
                ([_], None) => *self.unpriced.entry(without(last)).or_default() += 1,
                (_, key) => {
                    self.others = true;
                    if key.is_none() {
                        self.levels.insert(last.meter.clone());
                        *self.lost.entry(without(last)).or_default() += 1;
                    }
                }
            }
        }
        for total in &batch.totals {
            let key = total.key();
            let same_unit = |other: &Key| (&other.organization, other.service_period) == (&key.organization, key.service_period);
            // A key that readings move into was not rated before: its causes are those of its unit.
            let of = |wanted: &dyn Fn(&Key) -> bool| -> Vec<String> {
                let concerns = reached.changes.iter().filter(|(_, keys)| keys.iter().any(wanted));
                concerns.map(|(reach, _)| reach.what.clone()).collect()
            };
            let mut causes = of(&|other| *other == key);
            let come = come.get(&key).copied().unwrap_or_default();
            if causes.is_empty() && come == 0 {
                causes = of(&same_unit);
            }
            let difference = i128::from(total.amount.units());
            self.moved.entry(key.clone()).or_insert((Amount::ZERO, Amount::ZERO)).1 = total.total;
            *self.sums.entry(key.currency.to_string()).or_default() += difference;
            self.lines.push(Line {
                books: total.accounting_period,
                before: i128::from(total.total.units()) - difference,
                after: total.total,
                difference: total.amount,
                readings: readings.get(&key).map_or(0, BTreeSet::len),
                come,
                causes,
                key,
            });
        }
        Ok(())
    }

    fn json(&self, version: Digest, booked: Option<u64>, in_force: bool) -> serde_json::Value {
        let lines = self.lines.iter().map(|line| {
            json!({
                "organization": line.key.organization, "contract": line.key.contract, "sku": line.key.sku,
                "service_period": line.key.service_period.to_string(), "accounting_period": line.books.to_string(),
                "currency": line.key.currency, "before": exact(line.before), "after": line.after, "difference": line.difference,
                "readings": line.readings, "not_charged_before": line.come, "causes": line.causes,
            })
        });
        let named = |((organization, reason), readings): (&(String, String), &u64)| json!({"organization": organization, "reason": reason, "readings": readings});
        let (lost, unpriced) = (self.lost.iter().map(named), self.unpriced.iter().map(named));
        let invoices =
            self.invoiced.iter().flat_map(|(organization, invoiced)| invoiced.iter().map(|invoiced| invoiced.json(organization)));
        let sums: BTreeMap<&String, String> = self.sums.iter().map(|(currency, sum)| (currency, exact(*sum))).collect();
        json!({
            "version": version, "in_force": in_force, "control_no": booked,
            "lines": lines.collect::<Vec<_>>(), "invoices": invoices.collect::<Vec<_>>(),
            "levels": self.levels, "terms_changed": self.other_terms, "quarantined": lost.collect::<Vec<_>>(),
            "unpriced": unpriced.collect::<Vec<_>>(), "differences": sums,
        })
    }

    fn text(&self, address: Digest, booked: Option<u64>, in_force: bool, preview: bool) -> String {
        let mut out = String::new();
        let mut say = |text: String| {
            out.push_str(&text);
            out.push('\n');
        };
        for lines in self.lines.chunk_by(|a, b| a.key.organization == b.key.organization) {
            let Some(Line { key: Key { organization, .. }, .. }) = lines.first() else { continue };
            say(format!("organization {organization}"));
            for line in lines {
                say(format!(
                    "  {}  {}/{}  {} {} instead of {}: {}, {} in the books of {}",
                    line.key.service_period,
                    line.key.contract,
                    line.key.sku,
                    line.key.currency,
                    line.after,
                    exact(line.before),
                    signed(line.difference),
                    counted(line.readings, "", "").trim_end(),
                    line.books,
                ));
                if line.come > 0 {
                    say(format!("    cause: {} not charged so far: in quarantine, or not read", counted(line.come, "is", "are")));
                }
                line.causes.iter().for_each(|cause| say(format!("    cause: {cause}")));
            }
            self.invoiced.get(organization).into_iter().flatten().flat_map(Invoiced::lines).for_each(&mut say);
        }
        for ((organization, reason), readings) in &self.lost {
            say(format!(
                "organization {organization}: {readings} readings would be in quarantine as {reason}: price them, or leave what reads them; else it is not booked"
            ));
        }
        for ((organization, reason), readings) in &self.unpriced {
            say(format!("organization {organization}: {readings} readings that were not read so far would be in quarantine as {reason}"));
        }
        for (currency, sum) in &self.sums {
            say(format!("in all {currency} {}", exact(*sum)));
        }
        if !self.levels.is_empty() {
            let meters: Vec<&str> = self.levels.iter().map(MeterId::as_str).collect();
            say(format!(
                "not in these figures: the levels of {} that are carried into later months are others under it; Tallystick states them anew once it \
                 is booked, and they come to more or less there",
                meters.join(", ")
            ));
        }
        if self.other_terms {
            say("terms of contracts are others under it: `tally forecast --book` says what a running month comes to".to_owned());
        }
        say(match booked {
            Some(control_no) => format!("version {address} is in force; every shard rates again at control record {control_no}"),
            None if in_force && self.is_empty() => {
                format!("everything stands as version {address}, which is in force, rates it: nothing to book")
            }
            None if in_force && self.others => {
                format!("version {address} is in force and rates some usage otherwise than it stands: run `tally check`")
            }
            None if in_force => format!(
                "version {address} is in force and has prices for usage in quarantine: publish its documents once more, with --rerate, to charge it"
            ),
            None if self.is_empty() => format!("version {address} changes nothing that was rated; nothing is booked"),
            None if preview => "this is a preview: nothing is booked".to_owned(),
            None => "nothing is booked".to_owned(),
        });
        out
    }
}

/// A number of readings and what they do.
fn counted(readings: usize, one: &str, more: &str) -> String {
    if readings == 1 { format!("1 reading {one}") } else { format!("{readings} readings {more}") }
}

fn exact(units: i128) -> String {
    Sum::from_units(units).map_or_else(|_| format!("{units} × 10^-9"), |sum| sum.to_string())
}

fn signed(amount: Amount) -> String {
    if amount > Amount::ZERO { format!("+{amount}") } else { amount.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_of_one_kind_widen_and_those_of_two_kinds_narrow_each_other() {
        let unit = |organization: &str, month: &str| (organization.parse().unwrap(), Month::parse(month).unwrap());
        let holds = |scopes: &[&str], organization, month| {
            let scopes: Vec<Scope> = scopes.iter().map(|text| Scope::parse(text).unwrap()).collect();
            Scope::holds(&scopes, &unit(organization, month))
        };
        assert!(holds(&[], "a", "2026-10") && holds(&["organization=b", "organization=a"], "a", "2026-10"));
        assert!(!holds(&["organization=a", "month=2026-09"], "a", "2026-10") && holds(&["month=2026-10"], "a", "2026-10"));
        assert!(Scope::parse("sku=x").is_err() && Scope::parse("month=2026-13").is_err());
    }
}
