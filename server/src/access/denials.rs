//! What was refused, on its way into the audit: the first refusal of a kind in a minute at once, the others of that minute as one record with
//! their count. So whoever is refused cannot fill the disk, and no refusal is left out. It decides nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use platform_audit::{Action, Chain, Outcome, Record};
use shared_db::Database;
use shared_types::Instant;
use tokio::sync::{Notify, watch};

use crate::clock::now;

/// Refusals of one kind within this time are one record.
const MINUTE_MICROS: i64 = 60_000_000;
/// How often minutes that are over are looked for.
const LOOK: Duration = Duration::from_secs(5);

/// One refusal. Whatever of it a caller can choose (target, route) does not make it another kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whose chain it belongs to.
    pub chain: Chain,
    /// Who; `unknown` where nobody was recognised.
    pub principal: String,
    /// The principal's role.
    pub role: Option<&'static str>,
    /// The key.
    pub key: Option<String>,
    /// What was asked.
    pub action: Action,
    /// Why it was refused.
    pub reason: &'static str,
    /// On what.
    pub target: String,
    /// Method and path.
    pub route: String,
}

/// What makes refusals one kind.
type Kind = (Chain, String, Option<String>, Action, &'static str);

struct Counted {
    first: Refusal,
    /// The first that is not written yet.
    first_at: Instant,
    last_at: Instant,
    count: u64,
    /// Until when refusals of this kind are counted together.
    until: i64,
}

/// Where refusals are noted.
#[derive(Clone, Default)]
pub struct Denials {
    counted: Arc<Mutex<HashMap<Kind, Counted>>>,
    first: Arc<Notify>,
}

impl Denials {
    /// Notes a refusal; it is written soon.
    pub fn note(&self, refusal: Refusal) {
        self.note_at(refusal, now());
    }

    fn note_at(&self, refusal: Refusal, at: Instant) {
        let kind = (refusal.chain.clone(), refusal.principal.clone(), refusal.key.clone(), refusal.action, refusal.reason);
        let mut counted = self.counted.lock();
        match counted.get_mut(&kind) {
            Some(found) if found.count > 0 => {
                found.count += 1;
                found.last_at = at;
            }
            Some(found) => *found = Counted { first: refusal, first_at: at, last_at: at, count: 1, until: found.until },
            None => {
                // Due at once: the next look takes it, and what follows waits for the end of the minute.
                counted.insert(kind, Counted { first: refusal, first_at: at, last_at: at, count: 1, until: at.micros() });
                self.first.notify_one();
            }
        }
    }

    /// Writes what is due until `stop` rises; then everything.
    pub async fn run(self, books: Database, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
        loop {
            let last = *stop.borrow();
            if let Err(error) = self.write(&books, last).await {
                // Counted further, and tried again with the next look.
                tracing::error!(error = format!("{error:#}"), "refusals could not be written into the audit");
                if last {
                    return Err(error);
                }
            }
            if last {
                return Ok(());
            }
            tokio::select! {
                () = self.first.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
                _ = stop.changed() => {}
            }
        }
    }

    async fn write(&self, books: &Database, everything: bool) -> anyhow::Result<()> {
        for (kind, record) in self.due(now(), everything) {
            let mut tx = books.begin().await?;
            platform_audit::record(&mut tx, &record).await?;
            tx.commit().await?;
            self.written(&kind, record.count);
        }
        Ok(())
    }

    /// The records that are due; kinds of which nothing more came are forgotten.
    fn due(&self, at: Instant, everything: bool) -> Vec<(Kind, Record)> {
        let mut counted = self.counted.lock();
        counted.retain(|_, found| found.count > 0 || found.until > at.micros());
        let due = counted.iter_mut().filter(|(_, found)| found.count > 0 && (everything || found.until <= at.micros()));
        due.map(|(kind, found)| {
            found.until = at.micros().saturating_add(MINUTE_MICROS);
            (kind.clone(), found.record())
        })
        .collect()
    }

    fn written(&self, kind: &Kind, count: u64) {
        if let Some(found) = self.counted.lock().get_mut(kind) {
            found.count = found.count.saturating_sub(count);
            found.first_at = found.last_at;
        }
    }
}

impl Counted {
    fn record(&self) -> Record {
        let mut detail =
            BTreeMap::from([("reason".to_owned(), self.first.reason.to_owned()), ("route".to_owned(), self.first.route.clone())]);
        if self.count > 1 {
            detail.insert("last_at".to_owned(), self.last_at.to_string());
        }
        Record {
            chain: self.first.chain.clone(),
            action: self.first.action,
            outcome: Outcome::Denied,
            principal: self.first.principal.clone(),
            role: self.first.role,
            key: self.first.key.clone(),
            target: self.first.target.clone(),
            at: self.first_at,
            count: self.count,
            detail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(principal: &str, target: usize) -> Refusal {
        Refusal {
            chain: Chain::Deployment,
            principal: principal.to_owned(),
            role: None,
            key: None,
            action: Action::KeyPresent,
            reason: "unknown",
            target: target.to_string(),
            route: format!("GET /v1/{target}"),
        }
    }

    fn at(seconds: i64) -> Instant {
        Instant::from_micros(seconds * 1_000_000).unwrap()
    }

    /// What is due, written.
    fn written(denials: &Denials, at: Instant, everything: bool) -> Vec<(String, u64)> {
        let due = denials.due(at, everything);
        due.iter().for_each(|(kind, record)| denials.written(kind, record.count));
        due.into_iter().map(|(_, record)| (record.target, record.count)).collect()
    }

    #[test]
    fn a_flood_of_refusals_is_two_records_a_minute_and_none_is_left_out() {
        let denials = Denials::default();
        denials.note_at(refusal("unknown", 0), at(0));
        assert_eq!(written(&denials, at(0), false), [("0".to_owned(), 1)]);
        for number in 1..=1_000_000 {
            denials.note_at(refusal("unknown", number), at(1));
        }
        assert_eq!(written(&denials, at(59), false), []);
        assert_eq!(written(&denials, at(60), false), [("1".to_owned(), 1_000_000)]);
        denials.note_at(refusal("unknown", 7), at(61));
        denials.note_at(refusal("mallory", 8), at(61));
        assert_eq!(written(&denials, at(61), false), [("8".to_owned(), 1)]);
        assert_eq!(written(&denials, at(62), true), [("7".to_owned(), 1)], "the end of the server leaves none out");
    }

    #[test]
    fn what_could_not_be_written_is_counted_further() {
        let denials = Denials::default();
        denials.note_at(refusal("unknown", 0), at(0));
        assert_eq!(denials.due(at(0), false).len(), 1);
        denials.note_at(refusal("unknown", 1), at(1));
        assert_eq!(written(&denials, at(60), false), [("0".to_owned(), 2)]);
    }

    #[test]
    fn kinds_of_which_nothing_more_came_are_forgotten() {
        let denials = Denials::default();
        denials.note_at(refusal("unknown", 0), at(0));
        assert_eq!(written(&denials, at(0), false).len(), 1);
        assert_eq!(written(&denials, at(61), false), []);
        assert!(denials.counted.lock().is_empty());
    }
}
