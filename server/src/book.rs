//! A registry version by what people call it: in force, a draft, or an address. It reads the books and decides nothing.

use platform_registry::{DraftError, DraftNo, StoreError, Version, drafts, store};
use shared_db::Transaction;

/// What the version in force is called.
pub const IN_FORCE: &str = "in-force";

/// Why no version has a name.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// Nothing is in force.
    #[error("no registry version is published yet")]
    Nothing,
    /// No address begins so.
    #[error("no published version begins with {0:?}; `tally registry show --list` lists them")]
    Unknown(String),
    /// Two addresses begin so.
    #[error("more than one version begins with {0:?}; give more digits")]
    Ambiguous(String),
    /// No such draft, or one that does not read.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// The books do not read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The number in `draft-1`.
pub fn draft_no(text: &str) -> Option<DraftNo> {
    text.strip_prefix("draft-")?.parse().ok().map(DraftNo)
}

/// The draft that is asked for where nothing but a draft can be: `draft-1`, or its number alone.
pub fn draft_of(text: &str) -> Option<DraftNo> {
    let number = text.strip_prefix("draft-").unwrap_or(text);
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok().map(DraftNo))?
}

/// A version by what people call it: `in-force`, `draft-1`, its address, or enough of its first digits.
pub async fn named(tx: &mut Transaction, wanted: &str) -> Result<Version, BookError> {
    if let Some(draft_no) = draft_no(wanted) {
        let draft = drafts::draft(tx, draft_no).await?;
        return Ok(drafts::version_of(tx, &draft).await?);
    }
    if wanted == IN_FORCE {
        return store::active(tx).await?.ok_or(BookError::Nothing);
    }
    let versions = store::versions(tx).await?;
    let mut fits = versions.iter().filter(|found| found.address.to_string().starts_with(wanted));
    let unknown = || BookError::Unknown(wanted.to_owned());
    let address = match (fits.next(), fits.next()) {
        // No name is the beginning of every address.
        _ if wanted.is_empty() => return Err(unknown()),
        (Some(found), None) => found.address,
        (None, _) => return Err(unknown()),
        (Some(_), Some(_)) => return Err(BookError::Ambiguous(wanted.to_owned())),
    };
    store::version(tx, address).await?.ok_or_else(unknown)
}
