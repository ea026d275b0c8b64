//! What changes between two versions, from which instant on, and for which keys; and the refusal of changes that reach back over keys that
//! were already rated, unless these are rated again. It knows no ledger and no state: whoever asks brings the rated keys.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use shared_types::{ContractId, Instant, MeterId, Month, OrganizationId, SkuId};

use crate::Version;
use crate::band::{meet, names};
use crate::compile::cuts;
use crate::document::{BillableStates, Contract, Covers, Meter, PriceBook, PriceRow, Rounding, Sku};
use crate::matching::MatchIndex;

/// A change and how far back ratings could differ because of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The change in words, for example `price "list:h100:2026-10-01T00:00:00Z" of sku "h100" is altered`.
    pub what: String,
    /// Usage that starts at or after this instant could be rated differently; [`Instant::EPOCH`] means all of it. None: no rating differs.
    pub effective_at: Option<Instant>,
    /// Which rated keys it concerns.
    pub scope: Scope,
    /// What to do where it reaches back over a rated key.
    pub remedy: Remedy,
    /// Whether rating the reached keys again, or reading the events of a meter again, carries it out. Not so where units, families or
    /// currencies would be others.
    pub rerates: bool,
}

/// Which rated keys a change concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Keys of these SKUs under any contract. A changed meter is told by its SKUs.
    Skus(BTreeSet<SkuId>),
    /// Keys of these SKUs under these contracts: the ones that had the price book before.
    SkusUnder(BTreeSet<SkuId>, Arc<BTreeSet<ContractId>>),
    /// Keys under these contracts.
    Contracts(Arc<BTreeSet<ContractId>>),
    /// Keys of these organizations.
    Organizations(BTreeSet<OrganizationId>),
    /// Keys of all organizations but these.
    OtherOrganizations(Arc<BTreeSet<OrganizationId>>),
    /// Keys of billed time, of these SKUs and organizations, in whose month the instant lies: there it cuts.
    Cut(Arc<BTreeSet<SkuId>>, BTreeSet<OrganizationId>),
    /// The same of all organizations but these.
    OtherCut(Arc<BTreeSet<SkuId>>, Arc<BTreeSet<OrganizationId>>),
    /// No key.
    Nothing,
}

/// How a change could be made without reaching back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// By something with a later `effective_at`: the text ends where the instant follows, for example `give it`.
    After(String),
    /// Not at all: the text says what to leave as it was.
    Leave(String),
    /// None is needed: the change reaches no key.
    Unneeded,
}

/// A key that was rated, and up to when.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RatedKey {
    /// Who owes.
    pub organization: OrganizationId,
    /// Under which contract.
    pub contract: ContractId,
    /// For what.
    pub sku: SkuId,
    /// The UTC month in which its readings begin.
    pub service_period: Month,
    /// Start of its latest reading; of billed time the last instant of its latest piece.
    pub last_at: Instant,
}

/// One change that reaches back over rated keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The change.
    pub reach: Reach,
    /// The rated key with the latest usage.
    pub key: RatedKey,
    /// How many rated keys it reaches, at least one.
    pub keys: usize,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RatedKey { organization, contract, sku, last_at, .. } = &self.key;
        let back = match self.reach.effective_at {
            None | Some(Instant::EPOCH) => "all usage from the beginning".to_owned(),
            Some(at) => at.to_string(),
        };
        write!(
            f,
            "{}: this reaches back to {back}, but usage of organization {organization} under contract {contract} for sku {sku} was already \
             rated up to {last_at}",
            self.reach.what,
        )?;
        match self.keys {
            1 => {}
            2 => f.write_str(" (and one more key)")?,
            keys => write!(f, " (and {} more keys)", keys - 1)?,
        }
        match &self.reach.remedy {
            Remedy::After(what) if self.reach.rerates => {
                write!(f, "\n    remedy: {what} an effective_at after {last_at}, or publish with --rerate: that usage is rated again")
            }
            Remedy::After(what) => write!(f, "\n    remedy: {what} an effective_at after {last_at}; rating again cannot carry this out"),
            Remedy::Leave(what) if self.reach.rerates => {
                write!(f, "\n    remedy: {what}, or publish with --rerate: the events are read again, and that usage is rated again")
            }
            Remedy::Leave(what) => write!(f, "\n    remedy: {what}; rating again cannot carry this out"),
            Remedy::Unneeded => Ok(()),
        }
    }
}

/// Why a version may not be published yet: every change that reaches back over rated keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReachBack {
    /// The changes, at least one.
    pub conflicts: Vec<Conflict>,
}

/// How many conflicts are written out.
const SHOWN: usize = 20;

impl fmt::Display for ReachBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the registry version reaches back over usage that was already rated")?;
        for conflict in self.conflicts.iter().take(SHOWN) {
            write!(f, "\n{conflict}")?;
        }
        match self.conflicts.len().checked_sub(SHOWN) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, "\nand {more} more changes"),
        }
    }
}

impl std::error::Error for ReachBack {}

/// Refuses changes that reach back over a key that was already rated at or after their instant.
///
/// - Source: blueprint §5, versions.
pub fn refuse_reach_back(reaches: &[Reach], rated: &[RatedKey]) -> Result<(), ReachBack> {
    refuse(reaches.iter(), rated)
}

/// Refuses, of the changes that reach back over rated keys, those that rating these again does not carry out.
pub fn refuse_rerating(reaches: &[Reach], rated: &[RatedKey]) -> Result<(), ReachBack> {
    refuse(reaches.iter().filter(|reach| !reach.rerates), rated)
}

/// For each change the rated keys that it reaches, as places in `rated`.
pub fn reached(reaches: &[Reach], rated: &[RatedKey]) -> Vec<Vec<usize>> {
    let index = Index::new(rated);
    reaches.iter().map(|reach| index.reached(reach)).collect()
}

fn refuse<'r>(reaches: impl Iterator<Item = &'r Reach>, rated: &[RatedKey]) -> Result<(), ReachBack> {
    let index = Index::new(rated);
    let mut conflicts = Vec::new();
    for reach in reaches {
        let reached: Vec<&RatedKey> = index.reached(reach).into_iter().filter_map(|at| rated.get(at)).collect();
        let latest = reached.iter().max_by_key(|key| (key.last_at, std::cmp::Reverse((&key.organization, &key.contract, &key.sku))));
        if let Some(key) = latest {
            conflicts.push(Conflict { reach: reach.clone(), key: (*key).clone(), keys: reached.len() });
        }
    }
    if conflicts.is_empty() { Ok(()) } else { Err(ReachBack { conflicts }) }
}

/// Rated keys by what scopes name.
struct Index<'k> {
    rated: &'k [RatedKey],
    by_sku: HashMap<&'k SkuId, Vec<usize>>,
    by_organization: HashMap<&'k OrganizationId, Vec<usize>>,
    by_contract: HashMap<&'k ContractId, Vec<usize>>,
}

impl<'k> Index<'k> {
    fn new(rated: &'k [RatedKey]) -> Self {
        let mut index = Self { rated, by_sku: HashMap::new(), by_organization: HashMap::new(), by_contract: HashMap::new() };
        for (at, key) in rated.iter().enumerate() {
            index.by_sku.entry(&key.sku).or_default().push(at);
            index.by_organization.entry(&key.organization).or_default().push(at);
            index.by_contract.entry(&key.contract).or_default().push(at);
        }
        index
    }

    /// Keys in the scope of a change that were rated at or after its instant.
    fn reached(&self, reach: &Reach) -> Vec<usize> {
        let Some(effective_at) = reach.effective_at else { return Vec::new() };
        let key = |at: &usize| self.rated.get(*at);
        let in_scope: Vec<usize> = match &reach.scope {
            Scope::Skus(skus) => skus.iter().filter_map(|sku| self.by_sku.get(sku)).flatten().copied().collect(),
            Scope::SkusUnder(skus, contracts) => {
                let of_skus = skus.iter().filter_map(|sku| self.by_sku.get(sku)).flatten().copied();
                of_skus.filter(|at| key(at).is_some_and(|key| contracts.contains(&key.contract))).collect()
            }
            Scope::Contracts(contracts) => {
                contracts.iter().filter_map(|contract| self.by_contract.get(contract)).flatten().copied().collect()
            }
            Scope::Organizations(organizations) => {
                organizations.iter().filter_map(|organization| self.by_organization.get(organization)).flatten().copied().collect()
            }
            Scope::OtherOrganizations(named) => {
                (0..self.rated.len()).filter(|at| key(at).is_some_and(|key| !named.contains(&key.organization))).collect()
            }
            Scope::Cut(skus, organizations) => self.cut(skus, effective_at, |organization| organizations.contains(organization)),
            Scope::OtherCut(skus, named) => self.cut(skus, effective_at, |organization| !named.contains(organization)),
            Scope::Nothing => Vec::new(),
        };
        in_scope.into_iter().filter(|at| key(at).is_some_and(|key| key.last_at >= effective_at)).collect()
    }

    /// Keys of these SKUs in the month of an instant.
    fn cut(&self, skus: &BTreeSet<SkuId>, at: Instant, whose: impl Fn(&OrganizationId) -> bool) -> Vec<usize> {
        let of_skus = skus.iter().filter_map(|sku| self.by_sku.get(sku)).flatten().copied();
        let key = |place: &usize| self.rated.get(*place);
        of_skus.filter(|place| key(place).is_some_and(|key| key.service_period == at.month() && whose(&key.organization))).collect()
    }
}

/// Every change from one version to the next, in a fixed order: billable states, meters, SKUs, price books, contracts, cuts, roundings, units.
///
/// - A row of a price book reaches back to the `effective_at` at which it is added, removed or altered; its name is part of it.
/// - Billable states, meters, and family, meter and match of SKUs, reach back to the beginning. So does a SKU that takes readings from another one.
/// - Contracts are compared as what they mean: from which instant on an organization falls under another contract or price book.
/// - Where a price or contract begins under one version only, billed time of the whole meter is cut otherwise: it reaches the keys of that month.
pub fn reach_back(old: &Version, new: &Version) -> Vec<Reach> {
    let mut changes = Changes { old, new, reaches: Vec::new() };
    changes.billable_states();
    changes.meters();
    changes.skus();
    changes.price_books();
    changes.contracts();
    changes.cuts();
    changes.roundings_and_units();
    changes.reaches
}

/// Begin of the first service period into which the level of a meter is carried by one of two versions only, where nothing else of it differs.
fn carried_otherwise(before: &Meter, after: &Meter) -> Option<Instant> {
    let plain = |meter: &Meter| Meter { recurring_from: None, recurring_until: None, ..meter.clone() };
    if plain(before) != plain(after) {
        return None;
    }
    if before.recurring_from != after.recurring_from {
        return before.recurring_from.into_iter().chain(after.recurring_from).min();
    }
    before.recurring_until.into_iter().chain(after.recurring_until).min()
}

struct Changes<'v> {
    old: &'v Version,
    new: &'v Version,
    reaches: Vec<Reach>,
}

impl<'v> Changes<'v> {
    fn add(&mut self, what: String, effective_at: Instant, scope: Scope, remedy: Remedy) {
        self.reaches.push(Reach { what, effective_at: Some(effective_at), scope, remedy, rerates: true });
    }

    /// A change that rating again does not carry out.
    fn fixed(&mut self, what: String, scope: Scope, remedy: Remedy) {
        self.reaches.push(Reach { what, effective_at: Some(Instant::EPOCH), scope, remedy, rerates: false });
    }

    /// A change by which no rating differs.
    fn quiet(&mut self, what: String) {
        self.reaches.push(Reach { what, effective_at: None, scope: Scope::Nothing, remedy: Remedy::Unneeded, rerates: true });
    }

    fn meters(&mut self) {
        let (old, new) = (by_id(self.old.meters(), |meter| meter.id.as_str()), by_id(self.new.meters(), |meter| meter.id.as_str()));
        for (id, before, after) in paired(&old, &new) {
            let Some(change) = change(before, after) else { continue };
            let what = format!("meter {id:?} {change}");
            if before.is_none() {
                self.quiet(what);
                continue;
            }
            let skus = self.old.skus().filter(|sku| sku.meter.as_str() == id).map(|sku| sku.id.clone()).collect();
            if let Some(period) = before.zip(after).and_then(|(before, after)| carried_otherwise(before, after)) {
                let what = format!("from {} on, the level of meter {id:?} is carried otherwise", period.month());
                let remedy = format!("leave recurring_from and recurring_until of meter {id:?} as they were up to now");
                self.add(what, period, Scope::Skus(skus), Remedy::Leave(remedy));
                continue;
            }
            let (scope, remedy) = (Scope::Skus(skus), Remedy::Leave(format!("leave meter {id:?} as it was")));
            // Events are read again, and leases cut anew, but lines go on in one unit.
            match (before, after) {
                (Some(before), Some(after)) if before.unit == after.unit => self.add(what, Instant::EPOCH, scope, remedy),
                _ => self.fixed(what, scope, remedy),
            }
        }
    }

    /// Billable states decide how events of the meters that name them are read and how their time is counted.
    fn billable_states(&mut self) {
        let old = by_id(self.old.billable_states(), |policy| policy.id.as_str());
        let new = by_id(self.new.billable_states(), |policy| policy.id.as_str());
        for (id, before, after) in paired(&old, &new) {
            let Some(change) = change(before, after) else { continue };
            let what = format!("billable_states {id:?} {change}");
            let described = |policy: Option<&BillableStates>| policy.map(|policy| BillableStates { description: None, ..policy.clone() });
            if before.is_none() || described(before) == described(after) {
                self.quiet(what);
                continue;
            }
            let meters: BTreeSet<&str> =
                self.old.meters().filter(|meter| meter.billable.as_deref() == Some(id)).map(|meter| meter.id.as_str()).collect();
            let skus = self.old.skus().filter(|sku| meters.contains(sku.meter.as_str())).map(|sku| sku.id.clone()).collect();
            let remedy = format!("leave billable_states {id:?} as it was; bill another event type by new ones");
            match after {
                // Readings are the pieces into which these states cut a lease: the lease is read again, and cut anew.
                Some(_) => self.add(what, Instant::EPOCH, Scope::Skus(skus), Remedy::Leave(remedy)),
                None => self.fixed(what, Scope::Skus(skus), Remedy::Leave(remedy)),
            }
        }
    }

    fn skus(&mut self) {
        let (old, new) = (by_id(self.old.skus(), |sku| sku.id.as_str()), by_id(self.new.skus(), |sku| sku.id.as_str()));
        for (id, before, after) in paired(&old, &new) {
            let Some(change) = change(before, after) else { continue };
            let Some(before) = before.filter(|before| after.is_none_or(|after| !same_line(before, after))) else {
                self.quiet(format!("sku {id:?} {change}"));
                continue;
            };
            let what = match after {
                None => format!("sku {id:?} {change}"),
                Some(after) => format!("{} of sku {id:?} {change}", altered_fields(before, after)),
            };
            let remedy = format!("leave sku {id:?} as it was, price another SKU in a new price book and give the contract that binds it");
            let scope = Scope::Skus(BTreeSet::from([before.id.clone()]));
            // What a SKU asks of a reading may change; a line whose family, meter or very SKU is gone cannot be adjusted.
            if after.is_some_and(|after| (&after.family, &after.meter) == (&before.family, &before.meter)) {
                self.add(what, Instant::EPOCH, scope, Remedy::After(remedy));
            } else {
                self.fixed(what, scope, Remedy::After(remedy));
            }
        }
    }

    fn price_books(&mut self) {
        let (old, new) = (by_id(self.old.price_books(), |book| book.id.as_str()), by_id(self.new.price_books(), |book| book.id.as_str()));
        let mut contracts: BTreeMap<&str, BTreeSet<ContractId>> = BTreeMap::new();
        for contract in self.old.contracts() {
            contracts.entry(&contract.price_book).or_default().insert(contract.id.clone());
        }
        for (id, before, after) in paired(&old, &new) {
            let contracts = Arc::new(contracts.remove(id).unwrap_or_default());
            match (before, after) {
                (Some(before), Some(after)) => {
                    if before.currency != after.currency {
                        let what = format!("currency of price book {id:?} changes from {} to {}", before.currency, after.currency);
                        let remedy = format!("leave price book {id:?} as it was, write a new one and give the contract that binds it");
                        self.fixed(what, Scope::Contracts(Arc::clone(&contracts)), Remedy::After(remedy));
                    }
                    self.rows(rows(before), rows(after), &contracts);
                    self.takeovers(before, after, &contracts);
                }
                (Some(before), None) => self.rows(rows(before), Rows::new(), &contracts),
                (None, Some(after)) => self.rows(Rows::new(), rows(after), &contracts),
                (None, None) => {}
            }
        }
    }

    fn rows(&mut self, old: Rows<'v>, new: Rows<'v>, contracts: &Arc<BTreeSet<ContractId>>) {
        for ((sku, effective_at), before, after) in paired(&old, &new) {
            let (Some(change), Some(row)) = (change(before, after), before.or(after)) else { continue };
            let renamed = after.filter(|after| after.id != row.id).map(|after| format!(" and is now named {:?}", after.id.as_str()));
            let what = format!("price {:?} of sku {:?} {change}{}", row.id.as_str(), sku.as_str(), renamed.unwrap_or_default());
            let remedy = match before {
                None => "give it".to_owned(),
                Some(row) => format!("leave price {:?} as it was and give a new price", row.id.as_str()),
            };
            let scope = Scope::SkusUnder(BTreeSet::from([sku.clone()]), Arc::clone(contracts));
            self.add(what, effective_at, scope, Remedy::After(remedy));
        }
    }

    /// SKUs that a book begins to price and that win readings over SKUs with fewer dimensions, whatever their `effective_at`:
    /// a reading goes to the most specific SKU of the book first, and only then is a price looked up.
    fn takeovers(&mut self, before: &PriceBook, after: &PriceBook, contracts: &Arc<BTreeSet<ContractId>>) {
        let (old_skus, new_skus) = (by_id(self.old.skus(), |sku| sku.id.as_str()), by_id(self.new.skus(), |sku| sku.id.as_str()));
        let old_lines: Vec<&Sku> = sku_ids(before).into_iter().filter_map(|id| old_skus.get(id).copied()).collect();
        let new_lines = sku_ids(after).into_iter().filter_map(|id| new_skus.get(id).copied());
        let mut by_meter: HashMap<&str, MatchIndex<'_>> = HashMap::new();
        for sku in new_lines {
            let was_there = old_lines.binary_search_by(|old| old.id.cmp(&sku.id)).ok().and_then(|at| old_lines.get(at));
            if was_there.is_some_and(|old| old.meter == sku.meter && same_match(old, sku)) {
                continue;
            }
            let index = by_meter.entry(sku.meter.as_str()).or_insert_with(|| {
                let of_meter = old_lines.iter().enumerate().filter(|(_, old)| old.meter == sku.meter);
                MatchIndex::new(of_meter.map(|(item, old)| (&old.matches, item)))
            });
            let mut losers: BTreeSet<SkuId> = BTreeSet::new();
            index.compatible(
                &sku.matches,
                |size| size < names(sku),
                |found| {
                    let reached =
                        found.iter().filter_map(|item| old_lines.get(*item)).filter(|old| names(old) < names(sku) && meet(old, sku));
                    losers.extend(reached.map(|loser| loser.id.clone()));
                },
            );
            losers.remove(&sku.id);
            let Some(first) = losers.first() else { continue };
            let others = if losers.len() > 1 { format!(" and {} more", losers.len() - 1) } else { String::new() };
            let (id, book) = (sku.id.as_str(), &after.id);
            let what = format!("in price book {book:?}, sku {id:?} takes readings from sku {:?}{others}", first.as_str());
            let remedy = format!("price sku {id:?} in a new price book only and give the contract that binds it");
            self.add(what, Instant::EPOCH, Scope::SkusUnder(losers, Arc::clone(contracts)), Remedy::After(remedy));
        }
    }

    fn contracts(&mut self) {
        let (old, new) = (Schedules::new(self.old), Schedules::new(self.new));
        let named: BTreeSet<&OrganizationId> = old.own.keys().chain(new.own.keys()).copied().collect();
        let mut groups: BTreeMap<Difference<'v>, BTreeSet<OrganizationId>> = BTreeMap::new();
        for organization in &named {
            if let Some(difference) = first_difference(old.of(organization), new.of(organization)) {
                groups.entry(difference).or_default().insert((*organization).clone());
            }
        }
        for (difference, organizations) in groups {
            let Some(first) = organizations.first() else { continue };
            let whom = match organizations.len() {
                1 => format!("organization {:?} falls", first.as_str()),
                count => format!("organization {:?} and {} more fall", first.as_str(), count - 1),
            };
            self.contract(&whom, difference, Scope::Organizations(organizations));
        }
        if let Some(difference) = first_difference(&old.default, &new.default) {
            let named = Arc::new(named.into_iter().cloned().collect());
            self.contract("every organization without a contract of its own falls", difference, Scope::OtherOrganizations(named));
        }
    }

    fn contract(&mut self, whom: &str, (effective_at, before, after): Difference<'v>, scope: Scope) {
        let shown = |side: Side<'_>| match side {
            Some((contract, book)) => format!("contract {:?} (price book {book:?})", contract.as_str()),
            None => "no contract".to_owned(),
        };
        let what = format!("{whom} under {} instead of {}", shown(after), shown(before));
        let remedy = "leave the contracts as they were and give a new contract".to_owned();
        self.add(what, effective_at, scope, Remedy::After(remedy));
    }

    /// Instants at which leases are cut under one version only. Months begin under both.
    fn cuts(&mut self) {
        let old = by_id(self.old.meters(), |meter| meter.id.as_str());
        let billed = |meter: &&Meter| meter.billable.is_some();
        for meter in self.new.meters().filter(billed) {
            let Some(before) = old.get(meter.id.as_str()).copied().filter(billed) else { continue };
            let (before, after) = (cuts(before, self.old), cuts(meter, self.new));
            let skus = self.old.skus().chain(self.new.skus()).filter(|sku| sku.meter == meter.id).map(|sku| sku.id.clone());
            let skus: Arc<BTreeSet<SkuId>> = Arc::new(skus.collect());
            let named: BTreeSet<&OrganizationId> = before.own.keys().chain(after.own.keys()).collect();
            let mut at: BTreeMap<(Instant, bool), BTreeSet<OrganizationId>> = BTreeMap::new();
            for organization in &named {
                for cut in cut_by_one(before.of(organization), after.of(organization)) {
                    at.entry(cut).or_default().insert((*organization).clone());
                }
            }
            for (cut, organizations) in at {
                self.cut(&meter.id, cut, Scope::Cut(Arc::clone(&skus), organizations));
            }
            let named: Arc<BTreeSet<OrganizationId>> = Arc::new(named.into_iter().cloned().collect());
            for cut in cut_by_one(&before.default, &after.default) {
                self.cut(&meter.id, cut, Scope::OtherCut(Arc::clone(&skus), Arc::clone(&named)));
            }
        }
    }

    fn cut(&mut self, meter: &MeterId, (at, begins): (Instant, bool), scope: Scope) {
        let what = if begins { "is cut where a price or contract begins" } else { "is cut no more where a price or contract began" };
        let remedy = match begins {
            true => Remedy::After("give what begins there".to_owned()),
            false => Remedy::Leave("leave what began there as it was".to_owned()),
        };
        // A piece that ended there goes on.
        let reaches = if begins { Ok(at) } else { Instant::from_micros(at.micros().saturating_sub(1)) };
        self.add(format!("billed time of meter {:?} {what}: {at}", meter.as_str()), reaches.unwrap_or(at), scope, remedy);
    }

    fn roundings_and_units(&mut self) {
        let asset = |rounding: &'v Rounding| rounding.asset.as_str();
        let (old, new) = (by_id(self.old.roundings(), asset), by_id(self.new.roundings(), asset));
        for (id, before, after) in paired(&old, &new) {
            if let Some(change) = change(before, after) {
                self.quiet(format!("rounding of {id} {change}"));
            }
        }
        let (old, new) = (by_id(self.old.units(), |unit| unit.id.as_str()), by_id(self.new.units(), |unit| unit.id.as_str()));
        for (id, before, after) in paired(&old, &new) {
            if let Some(change) = change(before, after) {
                self.quiet(format!("unit {id:?} {change}"));
            }
        }
    }
}

/// Instants inside months that only one of two versions has, and whether it is the later one.
fn cut_by_one(before: &[Instant], after: &[Instant]) -> BTreeSet<(Instant, bool)> {
    let set = |instants: &[Instant]| -> BTreeSet<Instant> { instants.iter().copied().filter(|at| *at != at.month().start()).collect() };
    let (before, after) = (set(before), set(after));
    before.symmetric_difference(&after).map(|at| (*at, after.contains(at))).collect()
}

/// Whether two SKUs are rated and booked alike; descriptions are for people.
fn same_line(a: &Sku, b: &Sku) -> bool {
    (&a.family, &a.meter) == (&b.family, &b.meter) && same_match(a, b)
}

/// Whether two SKUs ask for the same values and ranges.
fn same_match(a: &Sku, b: &Sku) -> bool {
    (&a.matches, &a.above, &a.up_to) == (&b.matches, &b.above, &b.up_to)
}

fn altered_fields(before: &Sku, after: &Sku) -> String {
    let fields = [("family", before.family != after.family), ("meter", before.meter != after.meter), ("match", !same_match(before, after))];
    let altered: Vec<&str> = fields.into_iter().filter(|(_, altered)| *altered).map(|(field, _)| field).collect();
    altered.join(" and ")
}

/// What became of a document or row; none when nothing did.
fn change<T: PartialEq>(before: Option<&T>, after: Option<&T>) -> Option<&'static str> {
    match (before, after) {
        (None, None) => None,
        (None, Some(_)) => Some("is added"),
        (Some(_), None) => Some("is removed"),
        (Some(before), Some(after)) => (before != after).then_some("is altered"),
    }
}

fn by_id<'v, T>(items: impl Iterator<Item = &'v T>, id: impl Fn(&'v T) -> &'v str) -> BTreeMap<&'v str, &'v T> {
    items.map(|item| (id(item), item)).collect()
}

/// Old and new of every key of either.
fn paired<'v, K: Ord + Copy, T>(old: &BTreeMap<K, &'v T>, new: &BTreeMap<K, &'v T>) -> Vec<(K, Option<&'v T>, Option<&'v T>)> {
    let keys: BTreeSet<K> = old.keys().chain(new.keys()).copied().collect();
    keys.into_iter().map(|key| (key, old.get(&key).copied(), new.get(&key).copied())).collect()
}

type Rows<'v> = BTreeMap<(&'v SkuId, Instant), &'v PriceRow>;

/// Rows by SKU and instant. A row with another name is another row: the state of a key remembers rows by name.
fn rows(book: &PriceBook) -> Rows<'_> {
    book.prices.iter().map(|row| ((&row.sku, row.effective_at), row)).collect()
}

/// The SKUs of a book, in order.
fn sku_ids(book: &PriceBook) -> BTreeSet<&str> {
    book.prices.iter().map(|row| row.sku.as_str()).collect()
}

/// Contract and price book, or none.
type Side<'v> = Option<(&'v ContractId, &'v str)>;
/// From when on, what was, what is.
type Difference<'v> = (Instant, Side<'v>, Side<'v>);

/// Contracts by rising instant: of organizations that are named, and of all others.
struct Schedules<'v> {
    own: BTreeMap<&'v OrganizationId, Vec<&'v Contract>>,
    default: Vec<&'v Contract>,
}

impl<'v> Schedules<'v> {
    fn new(version: &'v Version) -> Self {
        let mut contracts: Vec<&Contract> = version.contracts().collect();
        contracts.sort_by_key(|contract| contract.effective_at);
        let mut schedules = Self { own: BTreeMap::new(), default: Vec::new() };
        for contract in contracts {
            match &contract.covers {
                Covers::Default => schedules.default.push(contract),
                Covers::Organizations(organizations) => {
                    for organization in organizations {
                        schedules.own.entry(organization).or_default().push(contract);
                    }
                }
            }
        }
        schedules
    }

    /// Contracts of its own hide the default ones altogether.
    fn of(&self, organization: &OrganizationId) -> &[&'v Contract] {
        self.own.get(organization).unwrap_or(&self.default)
    }
}

/// The first instant at which two schedules mean different things.
fn first_difference<'v>(old: &[&'v Contract], new: &[&'v Contract]) -> Option<Difference<'v>> {
    let starts: BTreeSet<Instant> = old.iter().chain(new).map(|contract| contract.effective_at).collect();
    let in_force = |contracts: &[&'v Contract], at: Instant| -> Side<'v> {
        let after = contracts.partition_point(|contract| contract.effective_at <= at);
        let contract = contracts.get(after.checked_sub(1)?)?;
        Some((&contract.id, contract.price_book.as_str()))
    };
    starts.into_iter().map(|at| (at, in_force(old, at), in_force(new, at))).find(|(_, before, after)| before != after)
}
