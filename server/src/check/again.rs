//! Rows of usage that was rated again: each takes back exactly what stands, and one other row stands in its place; what was in quarantine has one
//! row that stands for it.

use std::collections::HashMap;

use platform_ingest::header::Header;
use platform_rating::Charge;

use super::Report;
use crate::read_models::Readers;

/// What stands of each reading, by identity and ordinal.
#[derive(Default)]
pub struct Stands(HashMap<([u8; 16], u16), Standing>);

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
        let controls = platform_registry::store::controls_after(&mut tx, shared_types::ControlNo(0)).await;
        let any = controls.map_or(true, |controls| controls.iter().any(platform_registry::Control::rerates));
        any.then(Self::default)
    }

    /// Takes in the rows of a batch, in the order of [`Charge::place`].
    pub fn hold(&mut self, header: &Header, charges: &[Charge], report: &mut Report) {
        let mut open = Vec::new();
        for charge in charges {
            let name = (charge.identity.0, charge.ordinal);
            let amount = charge.fate.amount().map_or(0, shared_types::Amount::units);
            let quantity = charge.quantity.units();
            let mut wrong = |what: &str| {
                let subject = format!("batch {} {}:{} at {}", header.batch_no, charge.identity, charge.ordinal, charge.position);
                report.add("rated-again", subject, what);
            };
            let Some(superseded) = charge.supersedes else {
                self.0.insert(name, Standing { quantity, amount, is: Is::of(charge) });
                continue;
            };
            if superseded != charge.identity {
                wrong("supersedes another event than its own");
            }
            match self.0.get_mut(&name) {
                None => wrong("supersedes a reading that does not stand"),
                Some(standing) if standing.is == Is::Counted => {
                    let opposite = standing.quantity.checked_neg() == Some(quantity) && standing.amount.checked_neg() == Some(amount);
                    if !opposite || charge.fate.priced().is_none() {
                        wrong("takes back another quantity or amount than stands");
                    }
                    standing.is = Is::TakenBack;
                    open.push((name, charge.position));
                }
                Some(standing) => {
                    if standing.quantity != quantity {
                        wrong("stands for another quantity than was taken back, or is in quarantine");
                    }
                    if standing.is == Is::InQuarantine && charge.fate.priced().is_none() {
                        wrong("stands for a reading that stays in quarantine");
                    }
                    *standing = Standing { quantity, amount, is: Is::of(charge) };
                }
            }
        }
        for ((identity, ordinal), position) in open {
            if self.0.get(&(identity, ordinal)).is_some_and(|standing| standing.is == Is::TakenBack) {
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
