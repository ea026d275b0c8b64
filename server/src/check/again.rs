//! Rows of usage that was rated again: each takes back exactly what stands, and one other row stands in its place; what was in quarantine has one
//! row that stands for it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use platform_ingest::header::Header;
use platform_rating::Charge;
use shared_types::{Digest, MeterId, Position};

use super::Report;
use crate::read_models::Readers;
use crate::rerating::reread::Meters;

/// What stands of each reading, and what versions read otherwise than the ones before.
#[derive(Default)]
pub struct Stands {
    /// By identity and ordinal.
    readings: HashMap<([u8; 16], u16), Standing>,
    /// Meters by the version that had their events read again. A version may be put in force behind others.
    otherwise: HashMap<Digest, BTreeSet<MeterId>>,
}

struct Standing {
    quantity: i128,
    amount: i64,
    is: Is,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Is {
    /// Charged or free.
    Counted,
    /// Taken back, and nothing in its place yet.
    TakenBack,
    InQuarantine,
}

impl Is {
    fn of(charge: &Charge) -> Self {
        if charge.fate.priced().is_some() { Self::Counted } else { Self::InQuarantine }
    }
}

impl Stands {
    /// Empty, where any registry record has usage rated again; else nothing need be remembered. A record that does not read is another
    /// check's finding.
    pub async fn of(readers: &Readers) -> Option<Self> {
        let mut tx = readers.books.read().await.ok()?;
        let Ok(controls) = platform_registry::store::controls_after(&mut tx, shared_types::ControlNo(0)).await else {
            return Some(Self::default());
        };
        controls.iter().any(platform_registry::Control::rerates).then_some(())?;
        let (mut stands, mut known) = (Self::default(), HashMap::<Digest, Arc<Meters>>::new());
        for control in controls {
            let Some(version) = control.registry_version() else { continue };
            let meters = match known.get(&version) {
                Some(meters) => Arc::clone(meters),
                None => {
                    let found = platform_registry::store::version(&mut tx, version).await.ok().flatten();
                    let compiled = found.and_then(|found| platform_registry::compile(&found).ok())?;
                    let meters = Arc::new(Meters::of(&compiled));
                    known.insert(version, Arc::clone(&meters));
                    meters
                }
            };
            if control.rerates() {
                // What waited in quarantine may have been read by any version before.
                let all = stands.otherwise.entry(version).or_default();
                for earlier in known.values() {
                    all.extend(earlier.otherwise(&meters).into_iter().chain(earlier.cut_otherwise(&meters).into_keys()));
                }
            }
        }
        Some(stands)
    }

    fn reads_otherwise(&self, header: &Header, charge: &Charge) -> bool {
        let version = header.ranges.iter().find(|range| range.shard == charge.position.shard).map(|range| range.registry_version);
        version.and_then(|version| self.otherwise.get(&version)).is_some_and(|meters| meters.contains(&charge.meter))
    }

    /// Takes in the rows of a batch, in the order of [`Charge::place`].
    ///
    /// - `accepted`: the identities of accepted events.
    pub fn hold(&mut self, header: &Header, charges: &[Charge], accepted: &HashMap<[u8; 16], Position>, report: &mut Report) {
        let mut open = Vec::new();
        for charge in charges {
            let name = (charge.identity.0, charge.ordinal);
            let amount = charge.fate.amount().map_or(0, shared_types::Amount::units);
            let quantity = charge.quantity.units();
            let otherwise = charge.supersedes.is_some() && self.reads_otherwise(header, charge);
            let mut wrong = |what: &str| {
                let subject = format!("batch {} {}:{} at {}", header.batch_no, charge.identity, charge.ordinal, charge.position);
                report.add("rated-again", subject, what);
            };
            let Some(superseded) = charge.supersedes else {
                self.readings.insert(name, Standing { quantity, amount, is: Is::of(charge) });
                continue;
            };
            if superseded != charge.identity {
                wrong("supersedes another event than its own");
            }
            match self.readings.get_mut(&name) {
                None if otherwise && accepted.contains_key(&charge.identity.0) => {
                    self.readings.insert(name, Standing { quantity, amount, is: Is::of(charge) });
                }
                None => wrong("supersedes a reading that does not stand"),
                Some(standing) if standing.is == Is::Counted => {
                    let opposite = standing.quantity.checked_neg() == Some(quantity) && standing.amount.checked_neg() == Some(amount);
                    if !opposite || charge.fate.priced().is_none() {
                        wrong("takes back another quantity or amount than stands");
                    }
                    standing.is = Is::TakenBack;
                    if !otherwise {
                        open.push((name, charge.position));
                    }
                }
                Some(standing) => {
                    if standing.quantity != quantity && !otherwise {
                        wrong("stands for another quantity than was taken back, or is in quarantine");
                    }
                    if standing.is == Is::InQuarantine && charge.fate.priced().is_none() && !otherwise {
                        wrong("stands for a reading that stays in quarantine");
                    }
                    *standing = Standing { quantity, amount, is: Is::of(charge) };
                }
            }
        }
        for ((identity, ordinal), position) in open {
            if self.readings.get(&(identity, ordinal)).is_some_and(|standing| standing.is == Is::TakenBack) {
                let identity = shared_types::IdentityHash(identity);
                report.add(
                    "rated-again",
                    format!("batch {} {identity}:{ordinal} at {position}", header.batch_no),
                    "was taken back, and nothing stands in its place",
                );
            }
        }
    }
}
