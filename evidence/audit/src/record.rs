//! One record of the audit, its canonical text and its digest. It knows no tables.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shared_types::{Digest, Instant, OrganizationId, canonical_json};

use crate::Action;

/// The version of the text that is hashed.
const FORMAT: &str = "1";
/// The longest text that is kept of a refusal: whoever is refused chose it.
const TEXT_CHARS_MAX: usize = 512;

/// Which chain a record belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Chain {
    /// What belongs to no organization.
    Deployment,
    /// What belongs to this organization, which may see it.
    Organization(OrganizationId),
}

impl Chain {
    /// `deployment` or `organization/<id>`.
    pub fn name(&self) -> String {
        match self {
            Self::Deployment => "deployment".to_owned(),
            Self::Organization(organization) => format!("organization/{organization}"),
        }
    }

    /// From its name.
    pub fn parse(name: &str) -> Option<Self> {
        match name.split_once('/') {
            None => (name == "deployment").then_some(Self::Deployment),
            Some(("organization", id)) => OrganizationId::parse(id).ok().map(Self::Organization),
            Some(_) => None,
        }
    }

    /// The organization, if it is one's.
    pub fn organization(&self) -> Option<&OrganizationId> {
        match self {
            Self::Deployment => None,
            Self::Organization(organization) => Some(organization),
        }
    }
}

impl From<Option<OrganizationId>> for Chain {
    fn from(organization: Option<OrganizationId>) -> Self {
        organization.map_or(Self::Deployment, Self::Organization)
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// It was done, in the transaction of the record.
    Done,
    /// It was refused, and nothing was done.
    Denied,
}

impl Outcome {
    /// As text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Denied => "denied",
        }
    }
}

/// Who did or tried what. Of a refusal, texts longer than 512 characters are cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose record it is.
    pub chain: Chain,
    /// What was done or tried.
    pub action: Action,
    /// What came of it.
    pub outcome: Outcome,
    /// Who: a principal's name, `local`, or `unknown` where nobody was recognised.
    pub principal: String,
    /// The role of the principal, if there is one.
    pub role: Option<&'static str>,
    /// The key that was used, if there was one.
    pub key: Option<String>,
    /// To what: an id of the action's target type; of a summary, the first one.
    pub target: String,
    /// When; of a summary, the first time.
    pub at: Instant,
    /// How many attempts it stands for: 1, or more where refusals of one kind were counted.
    pub count: u64,
    /// What else belongs to it.
    pub detail: BTreeMap<String, String>,
}

impl Record {
    /// Its text in the chain: canonical JSON (RFC 8785 key order, every value text, null or an object of texts).
    pub fn content(&self, seq: u64, previous: Digest) -> String {
        let most = match self.outcome {
            Outcome::Done => usize::MAX,
            Outcome::Denied => TEXT_CHARS_MAX,
        };
        let cut = |text: &str| text.chars().take(most).collect::<String>();
        let detail: serde_json::Map<String, Value> =
            self.detail.iter().map(|(name, text)| (name.clone(), Value::String(cut(text)))).collect();
        let content = json!({
            "action": self.action.name(),
            "at": self.at.to_string(),
            "chain": self.chain.name(),
            "class": self.action.class().name(),
            "count": self.count.to_string(),
            "detail": detail,
            "key": self.key,
            "outcome": self.outcome.name(),
            "previous": previous.to_string(),
            "principal": cut(&self.principal),
            "role": self.role,
            "seq": seq.to_string(),
            "severity": self.action.severity().name(),
            "target": cut(&self.target),
            "target_type": self.action.target_type().name(),
            "v": FORMAT,
        });
        // Texts alone always have a canonical form.
        canonical_json(&content).unwrap_or_default()
    }
}
