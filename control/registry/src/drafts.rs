//! Draft, review, publication, retirement: how a version comes into force where more than one person decides. In the books' database;
//! nothing here is ever changed or removed. It knows no permits: whoever calls has one and writes the audit record.

use std::fmt;

use serde_json::Value as Json;
use shared_db::{DbError, Row, Statement, Transaction, Value, statement};
use shared_types::{ControlNo, Digest, Instant};

use crate::store::{self, Published, StoreError};
use crate::{Document, Version, diff};

const DRAFT_DOCUMENTS: Statement = statement!("draft_documents");
const DRAFT_INSERT: Statement = statement!("draft_insert");
const DRAFT_LAST: Statement = statement!("draft_last");
const DRAFTS: Statement = statement!("drafts");
const PUBLICATION_INSERT: Statement = statement!("publication_insert");
const RETIREMENT_INSERT: Statement = statement!("retirement_insert");
const REVIEW_INSERT: Statement = statement!("review_insert");

/// Longest note or reason, in characters.
const WORDS_MAX: usize = 1_000;

/// Number of a draft, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DraftNo(pub u64);

impl fmt::Display for DraftNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What was said of a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be published.
    Approved,
    /// It is never published.
    Rejected,
}

impl Verdict {
    /// As text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Rejected => "rejected",
        }
    }

    /// From text.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Approved, Self::Rejected].into_iter().find(|verdict| verdict.name() == text)
    }
}

/// A review: one for each draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// What was said.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
    /// By whom.
    pub reviewed_by: String,
    /// When.
    pub recorded_at: Instant,
}

/// A version that somebody proposes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Its number.
    pub draft_no: DraftNo,
    /// Content address of the version.
    pub version: Digest,
    /// The version that was in force when it was proposed: what it changes.
    pub base: Option<Digest>,
    /// Whether it can alter an amount: then whoever proposed it does not approve it.
    pub money: bool,
    /// Why it is proposed.
    pub note: Option<String>,
    /// By whom.
    pub proposed_by: String,
    /// When.
    pub recorded_at: Instant,
    /// What was said of it.
    pub review: Option<Review>,
    /// The control record that put it in force, and who published it.
    pub published: Option<(ControlNo, String)>,
}

impl Draft {
    /// `proposed`, `approved`, `rejected` or `published`.
    pub fn state(&self) -> &'static str {
        match (&self.published, &self.review) {
            (Some(_), _) => "published",
            (None, Some(review)) => review.verdict.name(),
            (None, None) => "proposed",
        }
    }
}

/// Why a step cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// The tables could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A text is empty or too long.
    #[error("{what} is {count} characters long: write 1 to {WORDS_MAX}")]
    Words {
        /// Which text.
        what: &'static str,
        /// Its length.
        count: usize,
    },
    /// There is no such draft.
    #[error("there is no draft {0}; `tally registry drafts` lists them")]
    NoDraft(DraftNo),
    /// The draft says what is in force.
    #[error("version {0} is in force already: there is nothing to propose")]
    Same(Digest),
    /// A review is final.
    #[error("draft {draft_no} was {verdict} by {by} already: propose it again to have it reviewed again")]
    Reviewed {
        /// The draft.
        draft_no: DraftNo,
        /// What was said.
        verdict: &'static str,
        /// By whom.
        by: String,
    },
    /// Whoever proposed a change of money does not approve it.
    #[error("draft {draft_no} is about money and was proposed by {by}: another person has to approve it")]
    FourEyes {
        /// The draft.
        draft_no: DraftNo,
        /// Who proposed it.
        by: String,
    },
    /// Only what was approved is published.
    #[error("draft {draft_no} is {state}: it has to be approved before it is published")]
    NotApproved {
        /// The draft.
        draft_no: DraftNo,
        /// What it is instead.
        state: &'static str,
    },
    /// What was reviewed is not what would change.
    #[error(
        "draft {draft_no} changes version {base}, and that is not in force any more: propose it again, so that what changes is reviewed"
    )]
    Outdated {
        /// The draft.
        draft_no: DraftNo,
        /// What it changes.
        base: String,
    },
    /// The version in force is not retired.
    #[error("version {0} is in force: publish another one before it is retired")]
    InForce(Digest),
    /// No such version was ever in force.
    #[error("no published version is {0}")]
    NoVersion(Digest),
    /// It was retired before.
    #[error("version {0} is retired already")]
    Retired(Digest),
}

impl From<DbError> for DraftError {
    fn from(error: DbError) -> Self {
        Self::Store(error.into())
    }
}

/// Records a version as a draft.
///
/// - `money` of the draft is what [`diff`] says of it and the version in force.
pub async fn propose(
    tx: &mut Transaction,
    version: &Version,
    proposed_by: &str,
    note: Option<&str>,
    recorded_at: Instant,
) -> Result<Draft, DraftError> {
    let note = note.map(|note| words("note", note)).transpose()?;
    store::lock(tx).await?;
    let active = store::active(tx).await?;
    let (address, base) = (version.address(), active.as_ref().map(Version::address));
    if base == Some(address) {
        return Err(DraftError::Same(address));
    }
    if store::retired(tx, address).await? {
        return Err(DraftError::Retired(address));
    }
    let money = concerns_money(active.as_ref(), version);
    let last = tx.query_one(&DRAFT_LAST, &[]).await?.unsigned(0)?;
    let draft_no = DraftNo(last.checked_add(1).ok_or(StoreError::Numbers)?);
    store::insert_documents(tx, version).await?;
    let digests: Vec<Json> = version.entries().map(|entry| Json::String(entry.digest.to_string())).collect();
    let values = [
        Value::try_from(draft_no.0)?,
        address.into(),
        Json::Array(digests).to_string().into(),
        base.into(),
        i64::from(money).into(),
        note.into(),
        proposed_by.into(),
        recorded_at.into(),
    ];
    tx.execute(&DRAFT_INSERT, &values).await?;
    draft(tx, draft_no).await
}

/// Records what was said of a draft. Whoever proposed it may reject it, and approve it only where no money is concerned.
pub async fn review(
    tx: &mut Transaction,
    draft_no: DraftNo,
    verdict: Verdict,
    reviewed_by: &str,
    reason: &str,
    recorded_at: Instant,
) -> Result<Draft, DraftError> {
    let reason = words("reason", reason)?;
    store::lock(tx).await?;
    let found = draft(tx, draft_no).await?;
    if let Some(review) = found.review {
        return Err(DraftError::Reviewed { draft_no, verdict: review.verdict.name(), by: review.reviewed_by });
    }
    if verdict == Verdict::Approved && found.money && found.proposed_by == reviewed_by {
        return Err(DraftError::FourEyes { draft_no, by: found.proposed_by });
    }
    let values = [Value::try_from(draft_no.0)?, verdict.name().into(), reason.into(), reviewed_by.into(), recorded_at.into()];
    tx.execute(&REVIEW_INSERT, &values).await?;
    draft(tx, draft_no).await
}

/// An approved draft and its version, if the version in force is still the one that it was proposed and approved to change.
///
/// - A published draft is given back as it is: publishing it again changes nothing.
pub async fn publishable(tx: &mut Transaction, draft_no: DraftNo) -> Result<(Draft, Version), DraftError> {
    store::lock(tx).await?;
    let found = draft(tx, draft_no).await?;
    let version = version_of(tx, &found).await?;
    if found.published.is_some() {
        return Ok((found, version));
    }
    let review = found.review.as_ref().filter(|review| review.verdict == Verdict::Approved);
    let review = review.ok_or_else(|| DraftError::NotApproved { draft_no, state: found.state() })?;
    let active = store::active(tx).await?;
    if active.as_ref().map(Version::address) != found.base {
        let base = found.base.map_or_else(|| "none".to_owned(), |base| base.to_string());
        return Err(DraftError::Outdated { draft_no, base });
    }
    // Asked of the documents again: the row alone is not believed.
    if review.reviewed_by == found.proposed_by && concerns_money(active.as_ref(), &version) {
        return Err(DraftError::FourEyes { draft_no, by: found.proposed_by });
    }
    Ok((found, version))
}

/// Puts an approved draft in force; see [`publishable`] and [`store::publish`].
///
/// - `rerates`: whether the record has what the version reaches rated again. A draft that is in force has it done once more.
pub async fn publish(
    tx: &mut Transaction,
    draft: &Draft,
    version: &Version,
    rerates: bool,
    published_by: &str,
    recorded_at: Instant,
) -> Result<Published, DraftError> {
    if let Some((control_no, _)) = draft.published {
        let in_force = store::active(tx).await?.is_some_and(|active| active.address() == draft.version);
        if in_force && rerates {
            return Ok(store::publish(tx, version, rerates, recorded_at).await?);
        }
        return Ok(Published { control_no, address: draft.version, changed: false });
    }
    let published = store::publish(tx, version, rerates, recorded_at).await?;
    let values = [Value::try_from(draft.draft_no.0)?, Value::try_from(published.control_no.0)?, published_by.into()];
    tx.execute(&PUBLICATION_INSERT, &values).await?;
    Ok(published)
}

/// Records that a version is not put in force again. It stays, and so does what was rated by it.
pub async fn retire(tx: &mut Transaction, address: Digest, retired_by: &str, reason: &str, recorded_at: Instant) -> Result<(), DraftError> {
    let reason = words("reason", reason)?;
    store::lock(tx).await?;
    if store::version(tx, address).await?.is_none() {
        return Err(DraftError::NoVersion(address));
    }
    if store::active(tx).await?.is_some_and(|active| active.address() == address) {
        return Err(DraftError::InForce(address));
    }
    if store::retired(tx, address).await? {
        return Err(DraftError::Retired(address));
    }
    tx.execute(&RETIREMENT_INSERT, &[address.into(), reason.into(), retired_by.into(), recorded_at.into()]).await?;
    Ok(())
}

/// Every draft, in order.
pub async fn drafts(tx: &mut Transaction) -> Result<Vec<Draft>, DraftError> {
    let rows = tx.query(&DRAFTS, &[1_i64.into(), i64::MAX.into()]).await?;
    Ok(rows.iter().map(read).collect::<Result<_, DbError>>()?)
}

/// One draft.
pub async fn draft(tx: &mut Transaction, draft_no: DraftNo) -> Result<Draft, DraftError> {
    let number = i64::try_from(draft_no.0).map_err(|_| DraftError::NoDraft(draft_no))?;
    let row = tx.query_optional(&DRAFTS, &[number.into(), number.into()]).await?.ok_or(DraftError::NoDraft(draft_no))?;
    Ok(read(&row)?)
}

/// The version that a draft proposes. Its content is hashed again.
pub async fn version_of(tx: &mut Transaction, draft: &Draft) -> Result<Version, DraftError> {
    let address = draft.version;
    let damaged = |source| StoreError::Document { address, source };
    let rows = tx.query(&DRAFT_DOCUMENTS, &[Value::try_from(draft.draft_no.0)?]).await?;
    let documents = rows.iter().map(|row| Document::parse(row.text(0)?).map_err(damaged)).collect::<Result<Vec<_>, StoreError>>()?;
    let version = Version::from_documents(documents).map_err(damaged)?;
    let found = version.address();
    if found == address { Ok(version) } else { Err(StoreError::Address { address, found }.into()) }
}

fn concerns_money(from: Option<&Version>, to: &Version) -> bool {
    // The first version is all about money.
    from.is_none_or(|from| diff(from, to).iter().any(|difference| difference.money))
}

fn words(what: &'static str, text: &str) -> Result<String, DraftError> {
    let text = text.trim();
    let count = text.chars().count();
    if (1..=WORDS_MAX).contains(&count) { Ok(text.to_owned()) } else { Err(DraftError::Words { what, count }) }
}

fn read(row: &Row) -> Result<Draft, DbError> {
    let verdict = row.optional_text(7)?.and_then(Verdict::parse);
    let review = |verdict| {
        Ok::<_, DbError>(Review {
            verdict,
            reason: row.text(8)?.to_owned(),
            reviewed_by: row.text(9)?.to_owned(),
            recorded_at: row.instant(10)?,
        })
    };
    let published = match row.optional_integer(11)? {
        None => None,
        Some(_) => Some((ControlNo(row.unsigned(11)?), row.text(12)?.to_owned())),
    };
    Ok(Draft {
        draft_no: DraftNo(row.unsigned(0)?),
        version: row.digest(1)?,
        base: row.optional_digest(2)?,
        money: row.integer(3)? != 0,
        note: row.optional_text(4)?.map(str::to_owned),
        proposed_by: row.text(5)?.to_owned(),
        recorded_at: row.instant(6)?,
        review: verdict.map(review).transpose()?,
        published,
    })
}
