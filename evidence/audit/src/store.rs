//! The chains in the books' database. Records are only ever added, each under the next number of its chain and of all.
//! It does not know what an action means, nor who may do it.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use shared_db::{DbError, Row, Statement, Transaction, Value, statement};
use shared_types::{Digest, canonical_json};

use crate::head::{ChainHead, Heads};
use crate::record::{Chain, Record};

const HEAD_FIND: Statement = statement!("head_find");
const HEADS: Statement = statement!("heads");
const HEADS_AT: Statement = statement!("heads_at");
const RECORD_INSERT: Statement = statement!("record_insert");
const RECORDS_AFTER: Statement = statement!("records_after");
const RECORDS_OF: Statement = statement!("records_of");
const RECORDS_LAST: Statement = statement!("records_last");
const RECORDS_LOCK: Statement = statement!("records_lock");

/// Records that [`verify`] reads at a time.
const PAGE: u64 = 1_000;

/// Why the audit could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The database failed or refused.
    #[error("the audit could not be read or written")]
    Db(#[from] DbError), // AUDIT-0001
    /// 63 bits of numbers are used up.
    #[error("the audit has run out of numbers")]
    Numbers, // AUDIT-0002
}

/// A record as it stands in its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Dense number over all chains, from 1.
    pub record_no: u64,
    /// `deployment` or `organization/<id>`.
    pub chain: String,
    /// Dense number in its chain, from 1.
    pub seq: u64,
    /// Its canonical text.
    pub content: String,
    /// Digest of the record before it in its chain.
    pub previous: Digest,
    /// SHA-256 of its text.
    pub digest: Digest,
}

impl Stored {
    /// A member of its text; nothing where it is missing or no text.
    pub fn member(&self, name: &str) -> Option<String> {
        let content: Json = serde_json::from_str(&self.content).ok()?;
        content.get(name)?.as_str().map(str::to_owned)
    }

    /// The members of its detail; nothing where they do not read.
    pub fn detail(&self) -> BTreeMap<String, String> {
        let content: Json = serde_json::from_str(&self.content).unwrap_or_default();
        let members = content.get("detail").and_then(Json::as_object).into_iter().flatten();
        members.filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned()))).collect()
    }

    fn read(row: &Row) -> Result<Self, DbError> {
        Ok(Self {
            record_no: row.unsigned(0)?,
            chain: row.text(1)?.to_owned(),
            seq: row.unsigned(2)?,
            content: row.text(3)?.to_owned(),
            previous: row.digest(4)?,
            digest: row.digest(5)?,
        })
    }
}

/// Adds a record at the end of its chain, in the transaction of its effect.
///
/// - Records of concurrent transactions wait for each other from here to the commit: write it last.
pub async fn record(tx: &mut Transaction, record: &Record) -> Result<Stored, AuditError> {
    tx.query(&RECORDS_LOCK, &[]).await?;
    let next = |number: u64| number.checked_add(1).filter(|number| i64::try_from(*number).is_ok()).ok_or(AuditError::Numbers);
    let record_no = next(tx.query_one(&RECORDS_LAST, &[]).await?.unsigned(0)?)?;
    let chain = record.chain.name();
    let (last, previous) = match tx.query_optional(&HEAD_FIND, &[chain.as_str().into()]).await? {
        Some(row) => (row.unsigned(0)?, row.digest(1)?),
        None => (0, Digest::ZERO),
    };
    let seq = next(last)?;
    let content = record.content(seq, previous);
    let stored = Stored { record_no, chain, seq, digest: Digest::of(content.as_bytes()), content, previous };
    let values = [
        Value::try_from(stored.record_no)?,
        stored.chain.as_str().into(),
        Value::try_from(stored.seq)?,
        stored.content.as_str().into(),
        stored.previous.into(),
        stored.digest.into(),
    ];
    tx.execute(&RECORD_INSERT, &values).await?;
    Ok(stored)
}

/// Where every chain ends now.
pub async fn heads(tx: &mut Transaction) -> Result<Heads, AuditError> {
    ends(&tx.query(&HEADS, &[]).await?)
}

/// Where every chain ended when there were `records` records: what an earlier [`heads`] answered.
pub async fn heads_at(tx: &mut Transaction, records: u64) -> Result<Heads, AuditError> {
    ends(&tx.query(&HEADS_AT, &[Value::try_from(records)?]).await?)
}

fn ends(rows: &[Row]) -> Result<Heads, AuditError> {
    let chains = rows.iter().map(|row| Ok(ChainHead { chain: row.text(0)?.to_owned(), seq: row.unsigned(1)?, digest: row.digest(2)? }));
    Ok(Heads::of(chains.collect::<Result<_, DbError>>()?))
}

/// Records after a number, in the order in which they were added.
pub async fn records_after(tx: &mut Transaction, record_no: u64, limit: u64) -> Result<Vec<Stored>, AuditError> {
    let rows = tx.query(&RECORDS_AFTER, &[Value::try_from(record_no)?, Value::try_from(limit)?]).await?;
    Ok(rows.iter().map(Stored::read).collect::<Result<_, DbError>>()?)
}

/// Records of one chain after a number of its own, in their order.
pub async fn records_of(tx: &mut Transaction, chain: &Chain, seq: u64, limit: u64) -> Result<Vec<Stored>, AuditError> {
    let rows = tx.query(&RECORDS_OF, &[chain.name().into(), Value::try_from(seq)?, Value::try_from(limit)?]).await?;
    Ok(rows.iter().map(Stored::read).collect::<Result<_, DbError>>()?)
}

/// A place where the audit is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// A record or a chain.
    pub subject: String,
    /// What was found and what belongs there.
    pub detail: String,
}

/// Every place where the chains are not what was written: texts, digests, gaps, ends.
pub async fn verify(tx: &mut Transaction) -> Result<Vec<Flaw>, AuditError> {
    let mut flaws = Vec::new();
    let mut ends: BTreeMap<String, (u64, Digest)> = BTreeMap::new();
    let mut last: u64 = 0;
    loop {
        let rows = tx.query(&RECORDS_AFTER, &[Value::try_from(last)?, Value::try_from(PAGE)?]).await?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            let record_no = row.unsigned(0)?;
            let expected = last.saturating_add(1);
            if record_no != expected {
                flaws.push(Flaw { subject: format!("audit record {expected}"), detail: format!("is missing before {record_no}") });
            }
            last = record_no;
            match Stored::read(row) {
                Ok(stored) => check(&stored, &mut ends, &mut flaws),
                Err(error) => flaws.push(Flaw { subject: format!("audit record {record_no}"), detail: error.to_string() }),
            }
        }
    }
    for row in tx.query(&HEADS, &[]).await? {
        let (chain, said) = (row.text(0)?.to_owned(), (row.unsigned(1)?, row.digest(2)?));
        let found = ends.remove(&chain);
        if found != Some(said) {
            let found = found.map_or_else(|| "has no records".to_owned(), |(seq, digest)| format!("ends at {seq} with {digest}"));
            flaws.push(Flaw {
                subject: format!("audit chain {chain}"),
                detail: format!("{found}; its head says {} with {}", said.0, said.1),
            });
        }
    }
    for (chain, (seq, _)) in ends {
        flaws.push(Flaw { subject: format!("audit chain {chain}"), detail: format!("ends at {seq}; it has no head") });
    }
    Ok(flaws)
}

fn check(stored: &Stored, ends: &mut BTreeMap<String, (u64, Digest)>, flaws: &mut Vec<Flaw>) {
    let mut add = |detail: String| {
        flaws.push(Flaw { subject: format!("audit record {} ({} {})", stored.record_no, stored.chain, stored.seq), detail });
    };
    let (end, previous) = ends.get(&stored.chain).copied().unwrap_or((0, Digest::ZERO));
    if stored.seq != end.saturating_add(1) {
        add(format!("follows {end} in its chain"));
    } else if stored.previous != previous {
        add(format!("names {} as the digest before it; that is {previous}", stored.previous));
    }
    let found = Digest::of(stored.content.as_bytes());
    if found != stored.digest {
        add(format!("has the digest {}; its text has {found}", stored.digest));
    }
    let canonical = serde_json::from_str(&stored.content).ok().and_then(|content: Json| canonical_json(&content).ok());
    let said = (stored.member("chain"), stored.member("seq"), stored.member("previous"));
    if canonical.as_deref() != Some(stored.content.as_str()) {
        add("is not canonical JSON".to_owned());
    } else if said != (Some(stored.chain.clone()), Some(stored.seq.to_string()), Some(stored.previous.to_string())) {
        add("says another chain, number or digest before it than its row".to_owned());
    }
    ends.insert(stored.chain.clone(), (stored.seq, stored.digest));
}
