//! Who is asking, once recognised. A principal comes from a key that is valid or is the local OS user; nobody else can be made up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use platform_audit::Action;
use shared_types::{IdError, OrganizationId, SourceId};

use crate::{KeyId, Role};

/// Name of a principal: 1 to 64 characters of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PrincipalName(Arc<str>);

/// Names that no stored principal may have: the records of the audit use them.
const RESERVED: [&str; 2] = ["local", "unknown"];

impl PrincipalName {
    /// Takes a name; `local` and `unknown` are refused like any other text that is no name.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if (1..=64).contains(&text.len()) && text.bytes().all(plain) && !RESERVED.contains(&text) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(IdError { kind: "principal", value: text.chars().take(160).collect() })
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PrincipalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// For whom a source may report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reports {
    /// For every organization.
    Any,
    /// For these.
    Of(BTreeSet<OrganizationId>),
}

/// The sources of an agent and for whom each may report.
pub type Reporting = BTreeMap<SourceId, Reports>;

/// Who is asking. Its fields are set here and in `store` alone.
#[derive(Clone, Debug)]
pub struct Principal {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    pub(crate) organization: Option<OrganizationId>,
    pub(crate) reporting: Reporting,
    /// None: everything that the role may.
    pub(crate) scopes: Option<BTreeSet<Action>>,
    pub(crate) key: Option<KeyId>,
}

impl Principal {
    /// The OS user who can read and write the home: whoever runs a command there. Has the rights of an operator.
    pub fn local() -> Self {
        let name = Arc::from("local");
        Self { name, role: Role::Operator, organization: None, reporting: Reporting::new(), scopes: None, key: None }
    }

    /// Its name; `local` for the OS user.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The organization that it belongs to, for a customer.
    pub fn organization(&self) -> Option<&OrganizationId> {
        self.organization.as_ref()
    }

    /// The key that it was recognised by.
    pub fn key(&self) -> Option<&KeyId> {
        self.key.as_ref()
    }

    /// Whether its key has the action in its scopes.
    pub fn in_scope(&self, action: Action) -> bool {
        self.scopes.as_ref().is_none_or(|scopes| scopes.contains(&action))
    }
}
