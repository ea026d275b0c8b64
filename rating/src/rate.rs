//! From readings to charges, totals and the overlay that turns the state before a batch into the state after it.
//! It knows no file, no commit and no duplicate: each reading is counted as it comes.

pub mod look_up;
mod open_key;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use platform_usage::{Dimensions, MeteredReading, Reason};
use shared_types::{Amount, MeterId, Month, OrganizationId, Position, ShardId};

use self::open_key::{Booked, OpenKey};
use crate::charges::{Charge, Fate, Priced, States};
use crate::evaluate::{EvaluateError, PriceIndex, Rule};
use crate::line_index::LineIndex;
use crate::plan::{Contract, Line, Plan, PriceModel, Resolved};
use crate::state::{Fact, Key, KeyState, Overlay, RatingState};
use crate::totals::Total;

/// What rating makes of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RatedBatch {
    /// One charge for each reading, in sealed order.
    pub charges: Vec<Charge>,
    /// What each touched key got, in the order of [`crate::TOTALS_ORDER`].
    pub totals: Vec<Total>,
    /// The state after the batch, for [`RatingState::apply`].
    pub overlay: Overlay,
}

/// Why a batch cannot be rated at all: each halts it, for going on would book something wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// The readings are not in sealed order, or one is there twice.
    #[error("reading {ordinal} at {position} does not come after the reading before it")]
    Unordered {
        /// Where its event stands.
        position: Position,
        /// Its number there.
        ordinal: u16,
    },
    /// An organization's readings lie in two shards, so nobody owns its keys and logs.
    #[error("organization {organization} has readings in shard {shard} and in shard {other}")]
    ShardMoved {
        /// The organization.
        organization: OrganizationId,
        /// Where it was.
        shard: ShardId,
        /// Where the reading lies.
        other: ShardId,
    },
    /// A key's state cannot be evaluated under the plan (`RAT-2`).
    #[error("the total of {key:?} cannot be evaluated")]
    Evaluate {
        /// The key.
        key: Box<Key>,
        /// Why.
        #[source]
        source: EvaluateError,
    },
    /// Under the plan a key's state is worth something else than what was booked (`RAT-3`).
    #[error("{key:?} was charged {booked}, its state is now worth {evaluated}")]
    TotalDiffers {
        /// The key.
        key: Box<Key>,
        /// What was charged.
        booked: Amount,
        /// F under this plan, rounded.
        evaluated: Amount,
    },
    /// A log has 2^64 leaves.
    #[error("the log {month} of organization {organization} is full")]
    LogFull {
        /// The organization.
        organization: OrganizationId,
        /// The log's month.
        month: Month,
    },
}

/// Rates readings on a state, without changing it.
///
/// - `readings`: one batch in sealed order (position, ordinal, identity), without duplicates. `threads`: how many organizations are rated at a
///   time, at least one; the result is the same for any number.
/// - A refused reading is quarantined with its reason; one without contract or price with `NoContract` or `Unpriced`; one whose key's
///   total, charge or quantity would leave its range with `AmountOverflow`. None of them changes a state or a log.
/// - A reading without the dimension whose values its price counts is quarantined with `InvalidDimension`.
/// - A free reading gets a place in its log and a row of totals; it owes nothing and does not enter the key's state.
/// - Every other reading is charged T after minus T before, at the price in force at its start.
/// - Errors: the first reading that halts the batch.
/// - Source: blueprint §5.
pub fn rate(state: &RatingState, plan: &Plan, readings: &[MeteredReading], threads: usize) -> Result<RatedBatch, RateError> {
    // Readings of several events stand at one record, if a re-rating had them read.
    let place = |reading: &MeteredReading| (reading.position, reading.ordinal, reading.identity);
    if let Some((_, reading)) = readings.iter().zip(readings.iter().skip(1)).find(|(before, reading)| place(before) >= place(reading)) {
        return Err(RateError::Unordered { position: reading.position, ordinal: reading.ordinal });
    }
    let prices = PriceIndex::of(plan);
    let desk = || Desk { state, plan, prices: &prices, lines: HashMap::new(), indices: HashMap::new(), scratch: Vec::new() };
    let groups = by_organization(readings);
    let threads = threads.clamp(1, groups.len().max(1));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut desk = desk();
        let mut done = Vec::new();
        while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push(desk.rate_organization(group));
        }
        done
    };
    let rated = if threads == 1 {
        work()
    } else {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let joined = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            joined.flatten().collect()
        })
    };
    gather(readings.len(), rated)
}

/// A reading with its index in the batch.
type Numbered<'a> = (usize, &'a MeteredReading);

/// Readings of each organization, in sealed order.
fn by_organization(readings: &[MeteredReading]) -> Vec<Vec<Numbered<'_>>> {
    let mut groups: HashMap<&OrganizationId, Vec<Numbered<'_>>> = HashMap::new();
    for numbered in readings.iter().enumerate() {
        groups.entry(&numbered.1.organization).or_default().push(numbered);
    }
    groups.into_values().collect()
}

/// What one organization's readings became; charges with their index in the batch.
struct RatedOrganization {
    charges: Vec<(usize, Charge)>,
    totals: Vec<Total>,
    keys: Vec<(Key, KeyState)>,
    logs: Vec<((OrganizationId, Month), u64)>,
}

/// Puts organizations together in an order that no thread has a say in.
fn gather(readings: usize, rated: Vec<Result<RatedOrganization, (usize, RateError)>>) -> Result<RatedBatch, RateError> {
    let mut charges: Vec<Option<Charge>> = Vec::new();
    charges.resize_with(readings, || None);
    let mut batch = RatedBatch::default();
    let mut first_error: Option<(usize, RateError)> = None;
    for organization in rated {
        match organization {
            Ok(organization) => {
                for (index, charge) in organization.charges {
                    if let Some(place) = charges.get_mut(index) {
                        *place = Some(charge);
                    }
                }
                batch.totals.extend(organization.totals);
                batch.overlay.keys.extend(organization.keys);
                batch.overlay.logs.extend(organization.logs);
            }
            Err((index, error)) if first_error.as_ref().is_none_or(|(first, _)| index < *first) => first_error = Some((index, error)),
            Err(_) => {}
        }
    }
    if let Some((_, error)) = first_error {
        return Err(error);
    }
    batch.charges = charges.into_iter().flatten().collect();
    batch.totals.sort_by(|a, b| place_of(a).cmp(&place_of(b)));
    batch.overlay.keys.sort_by(|(a, _), (b, _)| a.cmp(b));
    batch.overlay.logs.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(batch)
}

pub(crate) fn place_of(total: &Total) -> impl Ord {
    (
        (&total.organization, &total.contract, &total.sku),
        (total.service_period, &total.currency, total.accounting_period, total.last_sequence),
    )
}

/// What a thread keeps at hand from one organization to the next.
struct Desk<'a> {
    state: &'a RatingState,
    plan: &'a Plan,
    prices: &'a PriceIndex<'a>,
    lines: HashMap<(usize, &'a MeterId, &'a Dimensions), Option<&'a Line>>,
    indices: HashMap<(usize, &'a MeterId), LineIndex<'a>>,
    scratch: Vec<u8>,
}

impl<'a> Desk<'a> {
    fn rate_organization(&mut self, readings: &[Numbered<'a>]) -> Result<RatedOrganization, (usize, RateError)> {
        let mut account = Account::default();
        let mut charges = Vec::with_capacity(readings.len());
        if let Some((_, first)) = readings.first() {
            account.contracts = self.plan.contracts_of(&first.organization);
        }
        let shard = readings.first().map(|(_, first)| first.position.shard);
        for (index, reading) in readings {
            if let Some(shard) = shard.filter(|shard| *shard != reading.position.shard) {
                let (organization, other) = (reading.organization.clone(), reading.position.shard);
                return Err((*index, RateError::ShardMoved { organization, shard, other }));
            }
            let fate = account.fate(self, reading).map_err(|error| (*index, error))?;
            charges.push((*index, charge(reading, fate, self.plan)));
        }
        Ok(account.close(charges))
    }

    fn resolve(&mut self, contracts: &'a [Contract], reading: &'a MeteredReading) -> Result<Resolved<'a>, Reason> {
        let (lines, indices) = (&mut self.lines, &mut self.indices);
        self.plan.resolve_under(contracts, reading.start_at, |index, book| {
            let found = lines.entry((index, &reading.meter, &reading.dimensions));
            *found.or_insert_with(|| {
                indices.entry((index, &reading.meter)).or_insert_with(|| LineIndex::of(book, &reading.meter)).line(&reading.dimensions)
            })
        })
    }
}

fn charge(reading: &MeteredReading, fate: Fate, plan: &Plan) -> Charge {
    Charge {
        identity: reading.identity,
        ordinal: reading.ordinal,
        position: reading.position,
        organization: reading.organization.clone(),
        project: reading.project.clone(),
        source: reading.source.clone(),
        meter: reading.meter.clone(),
        unit: reading.unit.clone(),
        dimensions: reading.dimensions.clone(),
        quantity: reading.quantity,
        start_at: reading.start_at,
        end_at: reading.end_at,
        accepted_at: reading.accepted_at,
        accounting_period: reading.accounting_period,
        registry_version: plan.version,
        supersedes: None,
        commitment: reading.commitment,
        fate,
    }
}

/// One organization within a batch.
#[derive(Default)]
struct Account<'a> {
    contracts: &'a [Contract],
    /// Slots by the addresses of contract and price row in the plan, and the service period.
    slot_of: HashMap<(usize, usize, Month), Slot<'a>>,
    key_of: HashMap<Key, usize>,
    keys: Vec<OpenKey>,
    logs: BTreeMap<Month, u64>,
}

/// A price in a key: what readings have in common.
#[derive(Clone)]
struct Slot<'a> {
    resolved: Resolved<'a>,
    contract_line: Arc<str>,
    /// Index into [`Account::keys`].
    key: usize,
}

impl<'a> Account<'a> {
    /// Decides a reading's fate and books it.
    fn fate(&mut self, desk: &mut Desk<'a>, reading: &'a MeteredReading) -> Result<Fate, RateError> {
        if let Some(reason) = reading.refused {
            return Ok(Fate::Quarantined { reason });
        }
        let resolved = match desk.resolve(self.contracts, reading) {
            Ok(resolved) => resolved,
            Err(reason) => return Ok(Fate::Quarantined { reason }),
        };
        let service_period = reading.start_at.month();
        let address = (std::ptr::from_ref(resolved.contract).addr(), std::ptr::from_ref(resolved.price).addr(), service_period);
        let slot = match self.slot_of.entry(address) {
            Entry::Occupied(slot) => slot.into_mut(),
            Entry::Vacant(vacant) => {
                let key = open(&mut self.keys, &mut self.key_of, desk, reading, &resolved, service_period)?;
                let contract_line = format!("{}/{}", resolved.contract.id, resolved.line.sku).into();
                vacant.insert(Slot { resolved, contract_line, key })
            }
        };
        #[expect(clippy::indexing_slicing, reason = "a slot's index was taken when the key was pushed, and keys are never removed")]
        let key = &mut self.keys[slot.key];
        let price = slot.resolved.price;
        let moved = match &price.model {
            PriceModel::Free { rule } => Moved::Free(rule),
            _ => match key.book(price, &Fact::of(reading, service_period), &mut desk.scratch)? {
                Ok(booked) => Moved::Charged(booked),
                Err(reason) => return Ok(Fate::Quarantined { reason }),
            },
        };
        key.touch(reading, price, moved.amount(), &slot.resolved.line.family);
        let size = self.logs.entry(service_period).or_insert_with(|| desk.state.log_size(&reading.organization, service_period));
        let log_seq = *size;
        let full = || RateError::LogFull { organization: reading.organization.clone(), month: service_period };
        *size = size.checked_add(1).ok_or_else(full)?;
        let priced = Priced {
            // Logs go by the UTC month of the start, and so do service periods as long as they are calendar months.
            log_month: service_period,
            log_seq,
            contract: slot.resolved.contract.id.clone(),
            contract_line: Arc::clone(&slot.contract_line),
            service_period,
            sku: slot.resolved.line.sku.clone(),
            price: price.id.clone(),
            rule: Rule::of(price),
            currency: slot.resolved.currency.clone(),
        };
        Ok(match moved {
            Moved::Free(rule) => Fate::Free { priced, named: Arc::clone(rule) },
            Moved::Charged(Booked { before, after, amount }) => Fate::Charged { priced, states: Some(States { before, after }), amount },
        })
    }

    /// Charges, and what became of every key and log that a charged or free reading touched.
    fn close(self, charges: Vec<(usize, Charge)>) -> RatedOrganization {
        let mut rated = RatedOrganization { charges, totals: Vec::new(), keys: Vec::new(), logs: Vec::new() };
        let Some(organization) = self.keys.first().map(|key| key.key.organization.clone()) else { return rated };
        for key in self.keys.into_iter().filter(|key| !key.rows.is_empty()) {
            let size = self.logs.get(&key.key.service_period);
            let log_sizes: BTreeMap<Month, u64> = size.map(|size| (key.key.service_period, *size)).into_iter().collect();
            rated.totals.extend(key.rows.iter().map(|row| row.total(&key, &log_sizes)));
            rated.keys.push((key.key, key.state));
        }
        rated.logs.extend(self.logs.into_iter().map(|(month, size)| ((organization.clone(), month), size)));
        rated
    }
}

/// The index of a reading's key among the open ones, opened if need be.
fn open(
    keys: &mut Vec<OpenKey>,
    key_of: &mut HashMap<Key, usize>,
    desk: &Desk<'_>,
    reading: &MeteredReading,
    resolved: &Resolved<'_>,
    service_period: Month,
) -> Result<usize, RateError> {
    let key = Key {
        organization: reading.organization.clone(),
        contract: resolved.contract.id.clone(),
        sku: resolved.line.sku.clone(),
        service_period,
        currency: resolved.currency.clone(),
    };
    match key_of.entry(key) {
        Entry::Occupied(index) => Ok(*index.get()),
        Entry::Vacant(vacant) => {
            let opened = OpenKey::of(vacant.key(), desk, reading.position.shard, &resolved.line.family)?;
            keys.push(opened);
            Ok(*vacant.insert(keys.len().saturating_sub(1)))
        }
    }
}

/// A priced reading on its way to a fate.
enum Moved<'a> {
    Free(&'a Arc<str>),
    Charged(Booked),
}

impl Moved<'_> {
    fn amount(&self) -> Amount {
        match self {
            Self::Free(_) => Amount::ZERO,
            Self::Charged(booked) => booked.amount,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{PriceBook, PriceRow, Tier};
    use shared_types::{AssetId, ContractId, Digest, IdentityHash, Incarnation, Instant, PriceId, Sequence, SkuId, SourceId, UnitId};

    /// One book in USD, one line for meter `m`, one contract for everybody; each price is (effective_at, model).
    fn plan(prices: &[(&str, PriceModel)]) -> Plan {
        let prices = prices.iter().enumerate().map(|(at, (effective_at, model))| PriceRow {
            id: PriceId::parse(&format!("p-{at}")).unwrap(),
            effective_at: Instant::parse(effective_at).unwrap(),
            per: "1".parse().unwrap(),
            model: model.clone(),
            basis: crate::Basis::default(),
        });
        let meter = MeterId::parse("m").unwrap();
        let line = Line {
            sku: SkuId::parse("s").unwrap(),
            family: "tokens".into(),
            meter: meter.clone(),
            matches: Dimensions::default(),
            bands: Vec::new(),
            prices: prices.collect(),
        };
        let plan = Plan {
            version: Digest([1; 32]),
            books: vec![PriceBook { currency: AssetId::parse("USD").unwrap(), lines: BTreeMap::from([(meter, vec![line])]) }],
            contracts: BTreeMap::new(),
            default_contracts: vec![Contract { id: ContractId::parse("c").unwrap(), effective_at: Instant::EPOCH, book: 0 }],
        };
        plan.validate().unwrap();
        plan
    }

    fn per_unit(price: &str) -> PriceModel {
        PriceModel::PerUnit { unit_price: price.parse().unwrap() }
    }

    fn reading(sequence: u64, quantity: &str, start_at: &str) -> MeteredReading {
        let start_at = Instant::parse(start_at).unwrap();
        MeteredReading {
            position: Position { shard: ShardId::of_organization("o"), incarnation: Incarnation(1), sequence: Sequence(sequence) },
            ordinal: 0,
            identity: IdentityHash([0; 16]),
            organization: OrganizationId::parse("o").unwrap(),
            project: None,
            source: SourceId::parse("src").unwrap(),
            meter: MeterId::parse("m").unwrap(),
            unit: UnitId::parse("u").unwrap(),
            dimensions: Dimensions::default(),
            quantity: quantity.parse().unwrap(),
            start_at,
            end_at: None,
            accepted_at: start_at,
            accounting_period: start_at.month(),
            commitment: Digest::ZERO,
            refused: None,
        }
    }

    fn check(plan: &Plan, readings: &[MeteredReading], charges: &[&str]) -> RatedBatch {
        let batch = rate(&RatingState::default(), plan, readings, 2).unwrap();
        let shown = batch.charges.iter().map(|charge| match &charge.fate {
            Fate::Charged { priced, amount, .. } => format!("{} {} {} #{}", charge.quantity, priced.price, amount, priced.log_seq),
            Fate::Free { priced, named } => format!("{} {} free by {named} #{}", charge.quantity, priced.price, priced.log_seq),
            Fate::Quarantined { reason } => format!("{} {reason}", charge.quantity),
        });
        assert_eq!(shown.collect::<Vec<_>>(), charges);
        batch
    }

    #[test]
    fn a_late_event_is_rated_at_the_price_in_force_when_it_happened() {
        let plan = plan(&[("2026-03-01T00:00:00Z", per_unit("2.1")), ("2026-03-01T01:00:00Z", per_unit("3"))]);
        let readings = [
            reading(1, "1", "2026-03-01T01:00:00Z"),
            reading(2, "1", "2026-03-01T00:59:59.999999Z"),
            reading(3, "1", "2026-02-28T23:59:59Z"),
        ];
        let batch = check(&plan, &readings, &["1 p-1 3 #0", "1 p-0 2.1 #1", "1 unpriced"]);
        assert_eq!(batch.totals.len(), 1);
        assert_eq!((batch.totals[0].total.to_string(), batch.totals[0].readings), ("5.1".to_owned(), 2));
    }

    #[test]
    fn free_readings_get_a_log_place_and_a_row_but_no_state() {
        let free = PriceModel::Free { rule: "launch".into() };
        let plan = plan(&[("2026-03-01T00:00:00Z", free), ("2026-03-05T00:00:00Z", per_unit("1"))]);
        let free_only = check(&plan, &[reading(1, "4", "2026-03-01T00:00:00Z")], &["4 p-0 free by launch #0"]);
        let total = &free_only.totals[0];
        assert_eq!((total.amount, total.readings, &total.state[..]), (Amount::ZERO, 1, &[1, 0, 0, 0, 0][..]));
        assert_eq!(total.log_sizes.values().collect::<Vec<_>>(), [&1]);
        let both = [reading(1, "4", "2026-03-01T00:00:00Z"), reading(2, "5", "2026-03-05T00:00:00Z")];
        let batch = check(&plan, &both, &["4 p-0 free by launch #0", "5 p-1 5 #1"]);
        assert_eq!((batch.totals[0].quantity.to_string(), batch.totals[0].total.to_string()), ("9".to_owned(), "5".to_owned()));
    }

    #[test]
    fn a_volume_price_can_give_money_back() {
        let tier = |up_to: Option<&str>, price: &str| Tier {
            up_to: up_to.map(|bound| bound.parse().unwrap()),
            unit_price: price.parse().unwrap(),
            flat_fee: "0".parse().unwrap(),
        };
        let plan = plan(&[("2026-03-01T00:00:00Z", PriceModel::Volume { tiers: vec![tier(Some("10"), "1"), tier(None, "0.5")] })]);
        let readings = [reading(1, "10", "2026-03-02T00:00:00Z"), reading(2, "1", "2026-03-02T00:00:00Z")];
        check(&plan, &readings, &["10 p-0 10 #0", "1 p-0 -4.5 #1"]);
    }

    #[test]
    fn an_overflow_is_quarantined_and_leaves_no_trace() {
        let plan = plan(&[("2026-03-01T00:00:00Z", per_unit("9000000000"))]);
        let at = "2026-03-02T00:00:00Z";
        let readings = [reading(1, "2", at), reading(2, "1", at), reading(3, "1", at), reading(4, "-1", at)];
        let mut refused = reading(5, "1", at);
        refused.refused = Some(Reason::NegativeQuantity);
        let shown = ["2 amount_overflow", "1 p-0 9000000000 #0", "1 amount_overflow", "-1 p-0 -9000000000 #1", "1 negative_quantity"];
        let batch = check(&plan, &[&readings[..], &[refused]].concat(), &shown);
        assert_eq!(batch.totals[0].readings, 2);
        let alone = check(&plan, &[reading(1, "2", at)], &["2 amount_overflow"]);
        assert_eq!((alone.totals.len(), alone.overlay), (0, Overlay::default()));
    }

    #[test]
    fn sums_of_a_row_that_leave_their_range_go_to_a_second_row() {
        let plan = plan(&[("2026-03-01T00:00:00Z", per_unit("9000000000"))]);
        let mut readings: Vec<MeteredReading> = (1..=3).map(|at| reading(at, "1", "2026-03-02T00:00:00Z")).collect();
        readings[1].quantity = "-1".parse().unwrap();
        readings[1].accounting_period = readings[1].accounting_period.next().unwrap();
        let batch = check(&plan, &readings, &["1 p-0 9000000000 #0", "-1 p-0 -9000000000 #1", "1 p-0 9000000000 #2"]);
        let rows = batch.totals.iter().map(|total| format!("{} {} {}", total.accounting_period, total.amount, total.last_sequence));
        assert_eq!(rows.collect::<Vec<_>>(), ["2026-03 9000000000 1", "2026-03 9000000000 3", "2026-04 -9000000000 2"]);
    }

    /// A state under `before` that a batch under `after` then meets.
    fn halt(before: &Plan, after: &Plan) -> String {
        let mut state = RatingState::default();
        let first = rate(&state, before, &[reading(1, "1", "2026-03-02T00:00:00Z")], 1).unwrap();
        state.apply(first.overlay);
        let error = rate(&state, after, &[reading(2, "1", "2026-03-12T00:00:00Z")], 1).unwrap_err();
        match error {
            RateError::Evaluate { source, .. } => source.to_string(),
            RateError::TotalDiffers { booked, evaluated, .. } => format!("{booked} is now {evaluated}"),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_plan_that_lost_or_changed_a_used_price_halts() {
        let used = plan(&[("2026-03-01T00:00:00Z", per_unit("1"))]);
        let mut renamed = used.clone();
        for line in renamed.books[0].lines.values_mut().flatten() {
            line.prices[0].id = PriceId::parse("q").unwrap();
        }
        assert_eq!(halt(&used, &renamed), "price p-0 was used before and is not in the registry version");
        assert_eq!(halt(&used, &plan(&[("2026-03-01T00:00:00Z", per_unit("2"))])), "1 is now 2");
    }

    #[test]
    fn the_earliest_halting_reading_is_named_for_any_number_of_threads() {
        let plan = plan(&[("2026-03-01T00:00:00Z", per_unit("1"))]);
        let at = "2026-03-02T00:00:00Z";
        let twice = [reading(1, "1", at), reading(1, "1", at)];
        assert!(matches!(rate(&RatingState::default(), &plan, &twice, 1), Err(RateError::Unordered { .. })));
        let in_shard = |organization: &str, shard: u8| {
            let position = Position { shard: ShardId::new(shard).unwrap(), ..reading(1, "1", at).position };
            MeteredReading { organization: OrganizationId::parse(organization).unwrap(), position, ..reading(1, "1", at) }
        };
        let moved = [in_shard("a", 1), in_shard("b", 2), in_shard("b", 3), in_shard("a", 4)];
        for threads in [0, 1, 2, 8] {
            let error = rate(&RatingState::default(), &plan, &moved, threads).unwrap_err();
            assert_eq!(error.to_string(), "organization b has readings in shard 2 and in shard 3");
        }
    }
}
