//! Commands: everything that posts and is not usage. A command says all of its postings, so that the book can be rebuilt from its log of
//! commands and the batch log. Pure; it does not know what a kind means to whoever gives it.
//!
//! Payload, canonical JSON, every number as text:
//! `{"kind":…,"postings":[{"accounting_period","amount","asset","credit","debit","effective_at","key":{"contract","contract_line",
//! "organization","service_period"}|null,"kind":"post"|"rounding","quantity":…|null},…],"subject":…,"v":"1"}`.

use serde::{Deserialize, Serialize};
use shared_types::{Amount, AssetId, ContractId, Digest, Instant, Month, OrganizationId, Quantity, canonical_json};

use crate::posting::{AccountId, Kind, Posting, PostingError, PostingKey, Sides};

/// What is to be posted, why, and about what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    kind: String,
    subject: String,
    postings: Vec<Posting>,
}

/// Why something is not a command.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The kind is not a name.
    #[error("{kind:?} is not a kind of command: 1 to 32 of a-z and -")]
    Kind {
        /// The refused text, cut to 64 characters.
        kind: String,
    },
    /// The subject is not one.
    #[error("{subject:?} is not the subject of a command: 1 to 256 characters, none of them a control character")]
    Subject {
        /// The refused text, cut to 300 characters.
        subject: String,
    },
    /// A command posts something.
    #[error("command {kind} {subject} posts nothing")]
    Empty {
        /// Its kind.
        kind: String,
        /// Its subject.
        subject: String,
    },
    /// The payload is no JSON of a command.
    #[error("the payload is not that of a command")]
    Json(#[from] serde_json::Error),
    /// A posting of the payload is none.
    #[error("the payload holds a posting that is none")]
    Posting(#[from] PostingError),
    /// A value of the payload does not read.
    #[error("the payload holds {value:?} where {what} belongs")]
    Value {
        /// What belongs there.
        what: &'static str,
        /// What was found.
        value: String,
    },
    /// Says the same as the canonical payload, but is spelled otherwise.
    #[error("the payload is not in canonical form")]
    NotCanonical,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    kind: String,
    postings: Vec<WirePosting>,
    subject: String,
    v: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePosting {
    accounting_period: String,
    amount: String,
    asset: String,
    credit: String,
    debit: String,
    effective_at: Instant,
    key: Option<WireKey>,
    kind: String,
    quantity: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireKey {
    contract: String,
    contract_line: String,
    organization: String,
    service_period: String,
}

impl Command {
    /// A command of a kind about a subject: the book takes each subject of a kind once.
    pub fn new(kind: &str, subject: &str, postings: Vec<Posting>) -> Result<Self, CommandError> {
        if !(1..=32).contains(&kind.len()) || !kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') {
            return Err(CommandError::Kind { kind: kind.chars().take(64).collect() });
        }
        if !(1..=256).contains(&subject.chars().count()) || subject.chars().any(char::is_control) {
            return Err(CommandError::Subject { subject: subject.chars().take(300).collect() });
        }
        if postings.is_empty() {
            return Err(CommandError::Empty { kind: kind.to_owned(), subject: subject.to_owned() });
        }
        Ok(Self { kind: kind.to_owned(), subject: subject.to_owned(), postings })
    }

    /// What it is, in the words of whoever gave it.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What it is about.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What it posts, in order.
    pub fn postings(&self) -> &[Posting] {
        &self.postings
    }

    /// The canonical payload.
    pub fn payload(&self) -> String {
        let wire = Wire {
            kind: self.kind.clone(),
            postings: self.postings.iter().map(WirePosting::of).collect(),
            subject: self.subject.clone(),
            v: "1".to_owned(),
        };
        // Texts alone always have a JSON value and a canonical form.
        serde_json::to_value(wire).ok().and_then(|value| canonical_json(&value).ok()).unwrap_or_default()
    }

    /// SHA-256 of the payload.
    pub fn digest(&self) -> Digest {
        Digest::of(self.payload().as_bytes())
    }

    /// From a payload; anything but its canonical form is refused.
    pub fn parse(payload: &str) -> Result<Self, CommandError> {
        let wire: Wire = serde_json::from_str(payload)?;
        let postings = wire.postings.into_iter().map(WirePosting::posting).collect::<Result<_, _>>()?;
        let command = Self::new(&wire.kind, &wire.subject, postings)?;
        if command.payload() == payload { Ok(command) } else { Err(CommandError::NotCanonical) }
    }
}

/// A value out of its text.
fn read<T, E>(what: &'static str, text: &str, parse: impl Fn(&str) -> Result<T, E>) -> Result<T, CommandError> {
    parse(text).map_err(|_| CommandError::Value { what, value: text.chars().take(80).collect() })
}

impl WirePosting {
    fn of(posting: &Posting) -> Self {
        Self {
            accounting_period: posting.accounting_period().number().to_string(),
            amount: posting.amount().to_string(),
            asset: posting.asset().to_string(),
            credit: posting.credit().to_string(),
            debit: posting.debit().to_string(),
            effective_at: posting.effective_at(),
            key: posting.key().map(|key| WireKey {
                contract: key.contract.to_string(),
                contract_line: key.contract_line.clone(),
                organization: key.organization.to_string(),
                service_period: key.service_period.number().to_string(),
            }),
            kind: posting.kind().name().to_owned(),
            quantity: posting.quantity().map(|quantity| quantity.to_string()),
        }
    }

    fn posting(self) -> Result<Posting, CommandError> {
        let sides = Sides { debit: AccountId::parse(&self.debit)?, credit: AccountId::parse(&self.credit)? };
        let asset = read("an asset", &self.asset, AssetId::parse)?;
        let kind = Kind::named(&self.kind).ok_or(CommandError::Value { what: "a kind of posting", value: self.kind })?;
        let amount = read("an amount", &self.amount, Amount::parse)?;
        let period = read("a month", &self.accounting_period, Month::parse)?;
        let posting = Posting::new(sides, asset.clone(), amount, period, self.effective_at)?.of_kind(kind);
        match (self.key, self.quantity) {
            (None, None) => Ok(posting),
            (Some(key), Some(quantity)) => {
                let key = PostingKey {
                    organization: read("an organization", &key.organization, OrganizationId::parse)?,
                    contract: read("a contract", &key.contract, ContractId::parse)?,
                    contract_line: key.contract_line,
                    service_period: read("a month", &key.service_period, Month::parse)?,
                    currency: asset,
                };
                Ok(posting.about(key, read("a quantity", &quantity, Quantity::parse)?)?)
            }
            (key, quantity) => Err(CommandError::Value {
                what: "a key with its quantity",
                value: quantity.or(key.map(|key| key.organization)).unwrap_or_default(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        let account = |segments: &[&str]| AccountId::of(segments).unwrap();
        let usd = AssetId::parse("USD").unwrap();
        let month = Month::parse("2026-11").unwrap();
        let sides = Sides { debit: account(&["org", "a/b%", "receivable"]), credit: account(&["org", "a/b%", "unbilled"]) };
        let posting = Posting::new(sides, usd.clone(), Amount::parse("12.344").unwrap(), month, month.start()).unwrap();
        let key = PostingKey {
            organization: OrganizationId::parse("a/b").unwrap(),
            contract: ContractId::parse("c-1").unwrap(),
            contract_line: "c-1/h200".to_owned(),
            service_period: Month::parse("2026-10").unwrap(),
            currency: usd.clone(),
        };
        let sides = Sides { debit: account(&["rounding"]), credit: account(&["org", "a/b%", "receivable"]) };
        let rounding = Posting::new(sides, usd, Amount::parse("0.004").unwrap(), month, month.start()).unwrap().of_kind(Kind::Rounding);
        Command::new("invoice", "acme:USD:202610", vec![posting.about(key, Quantity::parse("3.25").unwrap()).unwrap(), rounding]).unwrap()
    }

    /// Frozen: entries digest it and rebuilds read it.
    #[test]
    fn payloads_keep_their_bytes_and_parse_back() {
        let payload = concat!(
            r#"{"kind":"invoice","postings":[{"accounting_period":"202611","amount":"12.344","asset":"USD","credit":"org/a%2Fb%25/unbilled","#,
            r#""debit":"org/a%2Fb%25/receivable","effective_at":"2026-11-01T00:00:00Z","key":{"contract":"c-1","contract_line":"c-1/h200","#,
            r#""organization":"a/b","service_period":"202610"},"kind":"post","quantity":"3.25"},{"accounting_period":"202611","amount":"0.004","#,
            r#""asset":"USD","credit":"org/a%2Fb%25/receivable","debit":"rounding","effective_at":"2026-11-01T00:00:00Z","key":null,"#,
            r#""kind":"rounding","quantity":null}],"subject":"acme:USD:202610","v":"1"}"#,
        );
        assert_eq!(command().payload(), payload);
        assert_eq!(Command::parse(payload).unwrap(), command());
        assert_eq!(command().digest(), Digest::of(payload.as_bytes()));
    }

    #[test]
    fn other_spellings_and_broken_postings_are_refused() {
        let payload = command().payload();
        for (from, to) in [
            (r#""amount":"12.344""#, r#""amount":"12.3440""#),
            (r#""amount":"12.344""#, r#""amount":"-1""#),
            (r#""kind":"post""#, r#""kind":"gift""#),
            (r#""quantity":"3.25""#, r#""quantity":null"#),
            (r#""subject":"acme:USD:202610""#, r#""subject":"""#),
            (r#""kind":"invoice""#, r#""kind":"Invoice""#),
            (r#""v":"1""#, r#""v":"1","w":"1""#),
            (r#""credit":"org/a%2Fb%25/unbilled""#, r#""credit":"org/a%2Fb%25/receivable""#),
        ] {
            let broken = payload.replacen(from, to, 1);
            assert_ne!(broken, payload, "{from}");
            assert!(Command::parse(&broken).is_err(), "{to}");
        }
        assert!(matches!(Command::new("invoice", "x", Vec::new()), Err(CommandError::Empty { .. })));
    }
}
