//! Who may do what, in the books of an owned home: each request is one transaction with its effect and its audit record.
//! It opens the transactions and makes the keys' randomness; rules and tables are `platform-iam`'s.

use std::collections::BTreeSet;

use platform_iam::{
    Action, IamError, Key, KeyId, KeyText, NewKey, Organization, Pepper, Permit, PrincipalName, Project, Reports, Role, Source,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared_db::Database;
use shared_types::{Instant, OrganizationId, ProjectId, SourceId};

use crate::clock::now;
use crate::contract::wire;

/// Cheap handle on the books.
#[derive(Clone)]
pub struct Iam {
    books: Database,
    pepper: Pepper,
}

wire! {
    /// Registers an organization.
    #[derive(Clone, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct OrganizationAdd {
        /// Its id: what events and contracts name.
        pub organization: OrganizationId,
        /// What people call it.
        pub name: String,
    }
}

wire! {
    /// Registers a project.
    #[derive(Clone, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct ProjectAdd {
        /// Whose it is.
        pub organization: OrganizationId,
        /// Its id: what events name.
        pub project: ProjectId,
        /// What people call it.
        pub name: String,
    }
}

wire! {
    /// Enrols a source, or lets it report for more organizations.
    #[derive(Clone, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct SourceEnroll {
        /// Its id: what events name.
        pub source: SourceId,
        /// Whether it numbers what it sends without gaps, for ever.
        #[serde(default)]
        pub sequenced: bool,
        /// For whom it may report.
        #[serde(default)]
        pub organizations: BTreeSet<OrganizationId>,
        /// Whether it may report for every organization.
        #[serde(default)]
        pub any_organization: bool,
    }
}

wire! {
    /// Makes a key.
    #[derive(Clone, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct KeyCreate {
        /// Whose.
        pub principal: String,
        /// `operator`, `finance`, `auditor`, `customer` or `agent`.
        pub role: String,
        /// Of a customer.
        #[serde(default)]
        pub organization: Option<OrganizationId>,
        /// Of an agent.
        #[serde(default)]
        pub sources: BTreeSet<SourceId>,
        /// Names of actions; none: all that the role may.
        #[serde(default)]
        pub scopes: Option<BTreeSet<String>>,
        /// From when on it is refused.
        #[serde(default)]
        pub expires_at: Option<Instant>,
    }
}

impl Iam {
    /// Over the books of an owned home.
    pub fn new(books: Database, pepper: Pepper) -> Self {
        Self { books, pepper }
    }

    /// The books.
    pub fn books(&self) -> &Database {
        &self.books
    }

    /// Registers an organization.
    pub async fn organization_add(&self, permit: &Permit, wanted: &OrganizationAdd) -> Result<Value, IamError> {
        let mut tx = self.books.begin().await?;
        let added = platform_iam::organization_add(&mut tx, permit, &wanted.organization, &wanted.name, now()).await?;
        tx.commit().await?;
        Ok(organization(&added))
    }

    /// Registers a project.
    pub async fn project_add(&self, permit: &Permit, wanted: &ProjectAdd) -> Result<Value, IamError> {
        let mut tx = self.books.begin().await?;
        let added = platform_iam::project_add(&mut tx, permit, &wanted.organization, &wanted.project, &wanted.name, now()).await?;
        tx.commit().await?;
        Ok(project(&added))
    }

    /// Enrols a source.
    pub async fn source_enroll(&self, permit: &Permit, wanted: &SourceEnroll) -> Result<Value, IamError> {
        if wanted.any_organization && !wanted.organizations.is_empty() {
            let why = "it may report for any organization, or for those that are named: say one of both".to_owned();
            return Err(IamError::Unfit { what: format!("source {}", wanted.source), why });
        }
        let reports = if wanted.any_organization { Reports::Any } else { Reports::Of(wanted.organizations.clone()) };
        let mut tx = self.books.begin().await?;
        let enrolled = platform_iam::source_enroll(&mut tx, permit, &wanted.source, wanted.sequenced, &reports, now()).await?;
        tx.commit().await?;
        Ok(source(&enrolled))
    }

    /// Makes a key; the answer is the only one that has its text, as `secret`.
    pub async fn key_create(&self, permit: &Permit, wanted: &KeyCreate) -> Result<Value, IamError> {
        let at = now();
        let wanted = new_key(wanted)?;
        let mut tx = self.books.begin().await?;
        let made = platform_iam::key_create(&mut tx, permit, &wanted, random_key(), &self.pepper, at).await?;
        tx.commit().await?;
        let mut answer = key(&made.key, at);
        if let Some(fields) = answer.as_object_mut() {
            fields.insert("secret".to_owned(), json!(made.text.reveal()));
        }
        Ok(answer)
    }

    /// Makes the first operator key, if there never was one.
    pub async fn bootstrap(&self, permit: &Permit) -> Result<Option<KeyText>, IamError> {
        let mut tx = self.books.begin().await?;
        let made = platform_iam::bootstrap(&mut tx, permit, random_key(), &self.pepper, now()).await?;
        tx.commit().await?;
        Ok(made.map(|made| made.text))
    }

    /// Revokes a key.
    pub async fn key_revoke(&self, permit: &Permit, revoked: &KeyId) -> Result<Value, IamError> {
        let at = now();
        let mut tx = self.books.begin().await?;
        let revoked = platform_iam::key_revoke(&mut tx, permit, revoked, at).await?;
        tx.commit().await?;
        Ok(key(&revoked, at))
    }

    /// What the permit shows of what its action lists.
    pub async fn list(&self, permit: &Permit) -> Result<Value, IamError> {
        list(&self.books, permit).await
    }
}

/// What the permit shows of organizations, projects, keys or sources, by its action. The books may be another process's.
pub async fn list(books: &Database, permit: &Permit) -> Result<Value, IamError> {
    let mut tx = books.read().await?;
    let at = now();
    let listed: Vec<Value> = match permit.action() {
        Action::OrganizationRead => platform_iam::organizations(&mut tx, permit).await?.iter().map(organization).collect(),
        Action::ProjectRead => platform_iam::projects(&mut tx, permit).await?.iter().map(project).collect(),
        Action::KeyRead => platform_iam::keys(&mut tx, permit).await?.iter().map(|found| key(found, at)).collect(),
        Action::SourceRead => platform_iam::sources(&mut tx, permit).await?.iter().map(source).collect(),
        had => return Err(IamError::Permit { had, wanted: Action::OrganizationRead }),
    };
    Ok(Value::Array(listed))
}

/// A key nobody has seen yet.
pub fn random_key() -> KeyText {
    KeyText::from_random(&rand::random::<[u8; 40]>())
}

fn new_key(wanted: &KeyCreate) -> Result<NewKey, IamError> {
    let unfit = |what: String, why: String| IamError::Unfit { what, why };
    let principal = PrincipalName::parse(&wanted.principal).map_err(|_| {
        let why = "take 1 to 64 characters of A-Z a-z 0-9 . _ - but neither `local` nor `unknown`".to_owned();
        unfit(format!("principal {:?}", wanted.principal.chars().take(80).collect::<String>()), why)
    })?;
    let role = Role::parse(&wanted.role).ok_or_else(|| {
        let why = format!("take one of {}", Role::ALL.map(Role::name).join(", "));
        unfit(format!("role {:?}", wanted.role.chars().take(80).collect::<String>()), why)
    })?;
    let scope = |name: &String| {
        let why = "it is no action; docs/reference/access.md lists them".to_owned();
        Action::parse(name).ok_or_else(|| unfit(format!("scope {:?}", name.chars().take(80).collect::<String>()), why))
    };
    let scopes = wanted.scopes.as_ref().map(|names| names.iter().map(scope).collect()).transpose()?;
    let (organization, sources, expires_at) = (wanted.organization.clone(), wanted.sources.clone(), wanted.expires_at);
    Ok(NewKey { principal, role, organization, sources, scopes, expires_at })
}

fn organization(found: &Organization) -> Value {
    json!({"organization": found.organization, "name": found.name, "created_at": found.created_at})
}

fn project(found: &Project) -> Value {
    json!({"organization": found.organization, "project": found.project, "name": found.name, "created_at": found.created_at})
}

fn source(found: &Source) -> Value {
    let (any, organizations) = match &found.reports {
        Reports::Any => (true, Vec::new()),
        Reports::Of(organizations) => (false, organizations.iter().collect()),
    };
    json!({
        "source": found.source, "sequenced": found.sequenced, "any_organization": any, "organizations": organizations,
        "created_at": found.created_at,
    })
}

fn key(found: &Key, at: Instant) -> Value {
    let scopes = found.scopes.as_ref().map(|scopes| scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>());
    json!({
        "key": found.key.as_str(), "last4": found.last4, "principal": found.principal, "role": found.role.name(),
        "organization": found.organization, "sources": found.sources, "scopes": scopes, "created_at": found.created_at,
        "expires_at": found.expires_at, "revoked_at": found.revoked_at, "state": found.state(at).name(),
    })
}
