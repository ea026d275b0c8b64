//! What is posted: accounts, postings and the group of one cut. Pure values; a posting that is not balanced cannot be written down.

use std::fmt;
use std::sync::Arc;

use shared_types::{Amount, AssetId, BatchNo, ContractId, Instant, Month, OrganizationId, Quantity};

/// An account: a path such as `org/acme/unbilled` or `revenue/compute`. It exists once per asset.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(Arc<str>);

impl AccountId {
    /// The path of the segments. A `/` inside a segment is written `%2F` and a `%` as `%25`, so different segments are different accounts.
    ///
    /// - Errors: an empty segment, a control character, or more than 512 bytes in all.
    pub fn of(segments: &[&str]) -> Result<Self, PostingError> {
        let path = segments.iter().map(|segment| segment.replace('%', "%25").replace('/', "%2F")).collect::<Vec<_>>().join("/");
        let valid = segments.iter().all(|segment| !segment.is_empty() && !segment.chars().any(char::is_control));
        if segments.is_empty() || !valid || path.len() > 512 {
            return Err(PostingError::Account { path: path.chars().take(160).collect() });
        }
        Ok(Self(Arc::from(path)))
    }

    /// The account of a path that [`AccountId::of`] wrote.
    pub fn parse(path: &str) -> Result<Self, PostingError> {
        let segments = Self::stored(path).segments();
        let account = Self::of(&segments.iter().map(String::as_str).collect::<Vec<_>>())?;
        if account.as_str() == path { Ok(account) } else { Err(PostingError::Account { path: path.chars().take(160).collect() }) }
    }

    /// The segments as they were given to [`AccountId::of`].
    pub fn segments(&self) -> Vec<String> {
        self.0.split('/').map(|segment| segment.replace("%2F", "/").replace("%25", "%")).collect()
    }

    /// An account as it stands in the book.
    pub(crate) fn stored(path: &str) -> Self {
        Self(Arc::from(path))
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountId({})", self.0)
    }
}

/// What a posting is. The other numbers are kept for hold (2), capture (3), release (4), reversal (5) and close (7), which the book does not
/// take yet and its triggers refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An amount moves from the credit account to the debit account.
    Post,
    /// What lies between an exact amount and the one on an invoice. Taken from commands only.
    Rounding,
}

impl Kind {
    /// The number in the table and in the digest.
    pub fn number(self) -> u8 {
        match self {
            Self::Post => 1,
            Self::Rounding => 6,
        }
    }

    /// `post` or `rounding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Post => "post",
            Self::Rounding => "rounding",
        }
    }

    /// The kind with a name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Post, Self::Rounding].into_iter().find(|kind| kind.name() == name)
    }

    /// The kind with a number.
    pub(crate) fn numbered(number: i64) -> Option<Self> {
        [Self::Post, Self::Rounding].into_iter().find(|kind| i64::from(kind.number()) == number)
    }
}

/// What a posting is about. The ledger stores it and does not read it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PostingKey {
    /// Who owes.
    pub organization: OrganizationId,
    /// Under which agreement.
    pub contract: ContractId,
    /// Which line of it.
    pub contract_line: String,
    /// The service period, as the month of its start.
    pub service_period: Month,
    /// The currency, which is the posting's asset.
    pub currency: AssetId,
}

/// One balanced posting: one amount of one asset, debited to one account and credited to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    debit: AccountId,
    credit: AccountId,
    asset: AssetId,
    amount: Amount,
    kind: Kind,
    accounting_period: Month,
    key: Option<PostingKey>,
    quantity: Option<Quantity>,
    effective_at: Instant,
}

/// Why something is not a posting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostingError {
    /// The account's path is not one.
    #[error("{path:?} is not an account: non-empty segments without control characters, at most 512 bytes")]
    Account {
        /// The refused path, cut to 160 characters.
        path: String,
    },
    /// The amount is zero or negative.
    #[error("cannot post {amount} from {credit} to {debit}: an amount is above zero")]
    Amount {
        /// The debit account.
        debit: AccountId,
        /// The credit account.
        credit: AccountId,
        /// The refused amount.
        amount: Amount,
    },
    /// Debit and credit are the same account.
    #[error("cannot post from {account} to itself")]
    SameAccount {
        /// The account.
        account: AccountId,
    },
    /// The key's currency is not the asset that is posted.
    #[error("cannot post {asset} under a key in {currency}")]
    Currency {
        /// What is posted.
        asset: AssetId,
        /// The key's currency.
        currency: AssetId,
    },
}

/// The two sides of a posting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sides {
    /// The account whose debits grow.
    pub debit: AccountId,
    /// The account whose credits grow.
    pub credit: AccountId,
}

impl Posting {
    /// A posting of kind [`Kind::Post`].
    ///
    /// - Errors: an amount that is not above zero (swap the sides), equal accounts, a key in another currency.
    pub fn new(
        sides: Sides,
        asset: AssetId,
        amount: Amount,
        accounting_period: Month,
        effective_at: Instant,
    ) -> Result<Self, PostingError> {
        let Sides { debit, credit } = sides;
        if amount <= Amount::ZERO {
            return Err(PostingError::Amount { debit, credit, amount });
        }
        if debit == credit {
            return Err(PostingError::SameAccount { account: debit });
        }
        Ok(Self { debit, credit, asset, amount, kind: Kind::Post, accounting_period, key: None, quantity: None, effective_at })
    }

    /// The same posting as another kind.
    pub fn of_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// The same posting about a key and a quantity.
    pub fn about(mut self, key: PostingKey, quantity: Quantity) -> Result<Self, PostingError> {
        if key.currency != self.asset {
            return Err(PostingError::Currency { asset: self.asset, currency: key.currency });
        }
        self.key = Some(key);
        self.quantity = Some(quantity);
        Ok(self)
    }

    /// The account whose debits grow.
    pub fn debit(&self) -> &AccountId {
        &self.debit
    }

    /// The account whose credits grow.
    pub fn credit(&self) -> &AccountId {
        &self.credit
    }

    /// What is counted.
    pub fn asset(&self) -> &AssetId {
        &self.asset
    }

    /// How much: above zero.
    pub fn amount(&self) -> Amount {
        self.amount
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// In whose books it stands.
    pub fn accounting_period(&self) -> Month {
        self.accounting_period
    }

    /// What it is about.
    pub fn key(&self) -> Option<&PostingKey> {
        self.key.as_ref()
    }

    /// How much of a unit it stands for: signed, of the usage that was netted.
    pub fn quantity(&self) -> Option<Quantity> {
        self.quantity
    }

    /// When it took effect.
    pub fn effective_at(&self) -> Instant {
        self.effective_at
    }
}

/// The postings of one cut of the batch log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryGroup {
    /// First batch of the cut: the one after the fold's cursor.
    pub first_batch: BatchNo,
    /// Last batch of the cut.
    pub last_batch: BatchNo,
    /// In the order in which they get their sequence numbers. May be empty.
    pub postings: Vec<Posting>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_segments_are_different_accounts() {
        let path = |segments: &[&str]| AccountId::of(segments).map(|account| account.to_string());
        assert_eq!(path(&["org", "acme", "unbilled"]).unwrap(), "org/acme/unbilled");
        assert_eq!(path(&["org", "a/b", "unbilled"]).unwrap(), "org/a%2Fb/unbilled");
        assert_ne!(path(&["org", "a", "b/unbilled"]), path(&["org", "a/b", "unbilled"]));
        assert_ne!(path(&["a%2Fb"]), path(&["a/b"]));
        for segments in [&["org", "a/b", "unbilled"][..], &["a%2Fb", "%"]] {
            let account = AccountId::of(segments).unwrap();
            assert_eq!(
                (account.segments(), AccountId::parse(account.as_str())),
                (segments.iter().map(ToString::to_string).collect(), Ok(account))
            );
        }
        assert!(AccountId::parse("a//b").is_err() && AccountId::parse("a%b").is_err());
        for refused in [&[][..], &[""], &["a", ""], &["a\n"], &[&"x".repeat(513)]] {
            assert!(path(refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn only_balanced_postings_can_be_written_down() {
        let account = |name| AccountId::of(&[name]).unwrap();
        let month = Month::from_number(202_611).unwrap();
        let post = |debit, credit, amount| {
            let sides = Sides { debit: account(debit), credit: account(credit) };
            Posting::new(sides, AssetId::parse("USD").unwrap(), Amount::parse(amount).unwrap(), month, month.start())
        };
        assert!(post("a", "b", "0.000000001").is_ok());
        assert!(matches!(post("a", "b", "0"), Err(PostingError::Amount { .. })));
        assert!(matches!(post("a", "b", "-1"), Err(PostingError::Amount { .. })));
        assert!(matches!(post("a", "a", "1"), Err(PostingError::SameAccount { .. })));
    }
}
