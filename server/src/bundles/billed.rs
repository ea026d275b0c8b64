//! What verifiers ask of readings that were rated again, and of billed time, before a bundle is made: what they could not prove is refused by name.
//! The rules are those of bundle-format.md, step 3; here the issuer's own meters read the events.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use anyhow::Context as _;
use platform_evidence::bundle::{BundleEvent, BundleReading, CoveredLog};
use platform_usage::{Event, MeterSet};
use shared_db::Database;
use shared_types::{Digest, IdentityHash, Instant, MeterId, Quantity};

use super::NotProvable;

/// What a version reads.
struct Meters {
    all: MeterSet,
    /// Those whose time is billed by states.
    billed: HashSet<MeterId>,
}

/// Pieces of billed time by meter and begin: end, and level.
type Pieces = HashMap<(MeterId, Instant), (Option<Instant>, Quantity)>;

/// The meters of versions, and what they read of events.
pub(super) struct Versions {
    known: HashMap<Digest, Meters>,
    read: HashMap<(usize, Digest), Pieces>,
}

impl Versions {
    pub(super) async fn of(books: &Database, addresses: &BTreeSet<Digest>) -> anyhow::Result<Self> {
        let (mut known, mut tx) = (HashMap::new(), books.read().await?);
        for address in addresses {
            let version = platform_registry::store::version(&mut tx, *address).await?;
            let version = version.with_context(|| format!("registry version {address} is not there"))?;
            let billed = version.meters().filter(|meter| meter.billable.is_some()).map(|meter| meter.id.clone());
            let billed: HashSet<MeterId> = billed.collect();
            let all = if billed.is_empty() { MeterSet::default() } else { MeterSet::new(platform_registry::compile(&version)?.meters)? };
            known.insert(*address, Meters { all, billed });
        }
        Ok(Self { known, read: HashMap::new() })
    }

    fn bills(&self, version: Digest, meter: &MeterId) -> bool {
        self.known.get(&version).is_some_and(|meters| meters.billed.contains(meter))
    }

    /// The pieces that a version reads of an event; none of one that has no end.
    fn pieces(&mut self, number: usize, event: Option<&Event>, version: Digest) -> &Pieces {
        self.read.entry((number, version)).or_insert_with(|| {
            let Some((meters, event)) = self.known.get(&version).zip(event) else { return Pieces::new() };
            let of_time = meters.all.read(event).into_iter().filter(|reading| meters.billed.contains(&reading.meter));
            of_time.filter_map(|reading| Some(((reading.meter, reading.start_at), (reading.end_at, reading.result.ok()?)))).collect()
        })
    }
}

/// Refuses readings that verifiers cannot prove: one that was taken back, and a later version does not read it; of billed time, which they cut from the
/// event themselves, a piece that its version or the invoice's cuts otherwise, and one that is missing where time was taken back.
///
/// - `events`, `parsed`: those of the bundle, and of these the ones with an end as they were read. `in_force`: the invoice's version.
pub(super) fn provable(
    logs: &[CoveredLog],
    events: &[BundleEvent],
    parsed: &HashMap<IdentityHash, Event>,
    versions: &mut Versions,
    in_force: Digest,
) -> anyhow::Result<()> {
    let mut chains: BTreeMap<(Instant, &MeterId, usize), Vec<&BundleReading>> = BTreeMap::new();
    for reading in logs.iter().flat_map(|log| &log.readings) {
        let Some(event) = events.get(reading.event) else { continue };
        let begin = reading.piece.map_or(event.start_at, |(start, _)| start);
        chains.entry((begin, &reading.meter, reading.event)).or_default().push(reading);
    }
    for ((begin, meter, number), leaves) in &chains {
        let Some(event) = events.get(*number) else { continue };
        let billed = |versions: &Versions, leaf: &BundleReading| versions.bills(leaf.registry_version, meter);
        let billed_now = versions.bills(in_force, meter);
        let refuse = |why: &str, kind| {
            let what = format!("a reading of meter {meter} at {begin}, which {why},");
            Err(NotProvable { what, kind })
        };
        if !billed_now && !leaves.iter().any(|leaf| billed(versions, leaf)) {
            if leaves.len() % 2 == 0 {
                refuse("a later version does not read any more", "readings that were taken back")?;
            }
            continue;
        }
        let parsed = parsed.get(&event.identity);
        let name = ((*meter).clone(), *begin);
        for (place, leaf) in leaves.iter().enumerate() {
            let end = leaf.piece.map_or(event.end_at, |(_, end)| end);
            if place % 2 == 0 {
                let by_own = billed(versions, leaf);
                let mut is = |version| versions.pieces(*number, parsed, version).get(&name) == Some(&(end, leaf.quantity));
                if by_own && !is(leaf.registry_version) {
                    refuse("its version cuts otherwise", "billed time that its version did not cut")?;
                }
                let otherwise = if billed_now { !is(in_force) } else { leaf.piece.is_some() };
                if otherwise && place + 1 == leaves.len() {
                    refuse("the invoice's version cuts otherwise", "billed time that was not cut anew")?;
                }
                continue;
            }
            let owed: Vec<Instant> = if billed_now {
                let pieces = versions.pieces(*number, parsed, in_force).iter().filter(|((of, _), _)| of == *meter);
                let reach = pieces.filter(|((_, start), (until, _))| {
                    until.is_none_or(|until| until > *begin) && end.is_none_or(|end| *start < end) && start.month() == begin.month()
                });
                reach.map(|((_, start), _)| *start).collect()
            } else {
                Some(event.start_at).filter(|start| start.month() == begin.month()).into_iter().collect()
            };
            let stands = |start: &Instant| chains.get(&(*start, meter, *number)).is_some_and(|leaves| leaves.len() % 2 == 1);
            if !owed.iter().all(stands) {
                refuse("was taken back, and does not stand anew as the invoice's version has it", "billed time that is missing")?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
