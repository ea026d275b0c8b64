//! Organizations, projects, principals, keys, revocations and sources in the books' database. Rows are only ever added.
//! Whatever changes something takes a [`Permit`] and writes its audit record in the same transaction. It makes no keys and reads no clock.

use std::collections::{BTreeMap, BTreeSet};

use platform_audit::{AuditError, Chain, Flaw, Outcome};
use serde_json::json;
use shared_db::{DbError, Row, Statement, Transaction, statement};
use shared_types::{Digest, IdError, Instant, OrganizationId, ProjectId, SourceId};

use crate::matrix::{Reach, reach};
use crate::{Action, KeyId, KeyText, Malformed, Pepper, Permit, Principal, PrincipalName, Reporting, Reports, Role};

const KEY_FIND: Statement = statement!("key_find");
const KEY_INSERT: Statement = statement!("key_insert");
const KEY_REPORTING: Statement = statement!("key_reporting");
const KEY_SOURCE_INSERT: Statement = statement!("key_source_insert");
const KEY_SOURCES: Statement = statement!("key_sources");
const KEYS: Statement = statement!("keys");
const OPERATOR_KEYS: Statement = statement!("operator_keys");
const ORGANIZATION_INSERT: Statement = statement!("organization_insert");
const ORGANIZATIONS: Statement = statement!("organizations");
const PRINCIPAL_FIND: Statement = statement!("principal_find");
const PRINCIPAL_INSERT: Statement = statement!("principal_insert");
const PROJECT_INSERT: Statement = statement!("project_insert");
const PROJECTS: Statement = statement!("projects");
const REVOCATION_INSERT: Statement = statement!("revocation_insert");
const SOURCE_INSERT: Statement = statement!("source_insert");
const SOURCE_REPORT_INSERT: Statement = statement!("source_report_insert");
const SOURCE_REPORTS: Statement = statement!("source_reports");
const SOURCES: Statement = statement!("sources");
const WRITERS_LOCK: Statement = statement!("writers_lock");

/// Stands for every organization in the reports of a source; no organization has this id.
const EVERY: &str = "*";

/// Records that [`verify`] reads at a time.
const PAGE: u64 = 1_000;

/// The principal of the first operator key.
const FIRST_OPERATOR: &str = "operator";

/// Why something of IAM was not done.
#[derive(Debug, thiserror::Error)]
pub enum IamError {
    /// The database failed or refused.
    #[error("could not read or write who may do what")]
    Db(#[from] DbError), // IAM-0001
    /// The audit record could not be written, so nothing was done.
    #[error("could not write the audit record, so nothing was done")]
    Audit(#[from] AuditError), // IAM-0001
    /// A stored row is not one that this program writes.
    #[error("the row of {what} is damaged: {why}")]
    Damaged {
        /// Which row.
        what: String,
        /// What is wrong with it.
        why: String,
    }, // IAM-0002
    /// The permit is for something else: a defect of the program.
    #[error("a permit to {had} does not cover {wanted}")]
    Permit {
        /// What the permit is for.
        had: Action,
        /// What was done with it.
        wanted: Action,
    }, // IAM-0003
    /// Not registered.
    #[error("organization {organization} is not registered: run `tally organization add {organization}` first")]
    NoOrganization {
        /// The organization.
        organization: OrganizationId,
    }, // IAM-0004
    /// Not enrolled.
    #[error("source {source_id} is not enrolled: run `tally source enroll {source_id}` first")]
    NoSource {
        /// The source.
        source_id: SourceId,
    }, // IAM-0005
    /// There is no such key, or it is another organization's.
    #[error("there is no key {key}: `tally key list` lists them")]
    NoKey {
        /// The key that was asked for.
        key: KeyId,
    }, // IAM-0006
    /// It exists otherwise, and nothing is ever changed.
    #[error("{what} exists with {had}, not with {wanted}: it stays as it is, take another name")]
    Exists {
        /// What exists.
        what: String,
        /// As what.
        had: String,
        /// As what it was wanted.
        wanted: String,
    }, // IAM-0007
    /// What was asked for does not go together.
    #[error("{what}: {why}")]
    Unfit {
        /// The field and its value.
        what: String,
        /// What is wrong with it, and the remedy.
        why: String,
    }, // IAM-0008
}

/// Why a presented key is nobody's.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    /// It is no key.
    #[error("what was presented is no key: {0}")]
    Malformed(#[from] Malformed),
    /// Nobody has it.
    #[error("this key is not known")]
    Unknown,
    /// It was revoked.
    #[error("key {key} was revoked on {at}")]
    Revoked {
        /// Which.
        key: KeyId,
        /// When.
        at: Instant,
    },
    /// Its time is over.
    #[error("key {key} expired on {at}")]
    Expired {
        /// Which.
        key: KeyId,
        /// When.
        at: Instant,
    },
    /// It could not be looked up.
    #[error("the key could not be looked up")]
    Store(#[source] IamError),
}

/// A registered organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organization {
    /// Its id: what events and contracts name.
    pub organization: OrganizationId,
    /// What people call it.
    pub name: String,
    /// Since when.
    pub created_at: Instant,
}

/// A registered project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Whose it is.
    pub organization: OrganizationId,
    /// Its id: what events name.
    pub project: ProjectId,
    /// What people call it.
    pub name: String,
    /// Since when.
    pub created_at: Instant,
}

/// An enrolled source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its id: what events name.
    pub source: SourceId,
    /// Whether it numbers what it sends without gaps, for ever.
    pub sequenced: bool,
    /// For whom it may report.
    pub reports: Reports,
    /// Since when.
    pub created_at: Instant,
}

/// What a new key is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// Whose key; made with it when there is none of this name.
    pub principal: PrincipalName,
    /// The principal's role.
    pub role: Role,
    /// The principal's organization: of a customer, and of nobody else.
    pub organization: Option<OrganizationId>,
    /// The sources that it may send as: of an agent, and of nobody else.
    pub sources: BTreeSet<SourceId>,
    /// What it may do of what the role may; none: all of that.
    pub scopes: Option<BTreeSet<Action>>,
    /// From when on it is refused.
    pub expires_at: Option<Instant>,
}

/// A key as it is listed: without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// What it is called.
    pub key: KeyId,
    /// Its last four characters.
    pub last4: String,
    /// Whose.
    pub principal: String,
    /// The principal's role.
    pub role: Role,
    /// The principal's organization.
    pub organization: Option<OrganizationId>,
    /// The sources that it may send as.
    pub sources: BTreeSet<SourceId>,
    /// What it may do of what the role may; none: all of that.
    pub scopes: Option<BTreeSet<Action>>,
    /// Since when.
    pub created_at: Instant,
    /// From when on it is refused.
    pub expires_at: Option<Instant>,
    /// Since when it is refused because somebody said so.
    pub revoked_at: Option<Instant>,
    /// Its keyed hash.
    hash: Digest,
}

/// A new key and its one and only text.
#[derive(Debug)]
pub struct KeyMade {
    /// As it is listed.
    pub key: Key,
    /// As its holder has it; never stored.
    pub text: KeyText,
}

/// Whether a key is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It is.
    Valid,
    /// Its time is over.
    Expired,
    /// Somebody said that it is not.
    Revoked,
}

impl KeyState {
    /// As text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl Key {
    /// Whether it is taken at this time.
    pub fn state(&self, at: Instant) -> KeyState {
        match (self.revoked_at, self.expires_at) {
            (Some(_), _) => KeyState::Revoked,
            (None, Some(end)) if end <= at => KeyState::Expired,
            (None, _) => KeyState::Valid,
        }
    }
}

/// Recognises who presents a key. Everything is read from the tables each time: a revoked key is refused from its revocation's commit on.
pub async fn authenticate(tx: &mut Transaction, pepper: &Pepper, presented: &str, at: Instant) -> Result<Principal, Unknown> {
    let text = KeyText::parse(presented)?;
    let found = key_find(tx, &text.id()).await.map_err(Unknown::Store)?;
    let key = found.filter(|key| pepper.fits(&text, &key.hash)).ok_or(Unknown::Unknown)?;
    if let Some(at) = key.revoked_at {
        return Err(Unknown::Revoked { key: key.key, at });
    }
    if let Some(end) = key.expires_at.filter(|end| *end <= at) {
        return Err(Unknown::Expired { key: key.key, at: end });
    }
    let reporting = if key.role == Role::Agent { reporting(tx, &key.key).await.map_err(Unknown::Store)? } else { Reporting::new() };
    let name = key.principal.as_str().into();
    Ok(Principal { name, role: key.role, organization: key.organization, reporting, scopes: key.scopes, key: Some(key.key) })
}

/// Registers an organization. Registering it again under the same name changes nothing.
pub async fn organization_add(
    tx: &mut Transaction,
    permit: &Permit,
    organization: &OrganizationId,
    name: &str,
    at: Instant,
) -> Result<Organization, IamError> {
    covered(permit, Action::OrganizationAdd, Some(organization))?;
    let name = named("name", name)?;
    tx.query(&WRITERS_LOCK, &[]).await?;
    if let Some(found) = all_organizations(tx).await?.into_iter().find(|found| found.organization == *organization) {
        return if found.name == name { Ok(found) } else { Err(exists("organization", organization, "name", found.name, name)) };
    }
    let added = Organization { organization: organization.clone(), name, created_at: at };
    tx.execute(&ORGANIZATION_INSERT, &[organization.as_str().into(), added.name.as_str().into(), at.into()]).await?;
    let record = permit.record(Some(organization.clone()), organization.as_str(), added.detail(), at);
    platform_audit::record(tx, &record).await?;
    Ok(added)
}

/// The organizations that the permit shows.
pub async fn organizations(tx: &mut Transaction, permit: &Permit) -> Result<Vec<Organization>, IamError> {
    let all = all_organizations(tx).await?;
    Ok(all.into_iter().filter(|found| permit.covers(Action::OrganizationRead, Some(&found.organization))).collect())
}

/// Registers a project of a registered organization. Registering it again under the same name changes nothing.
pub async fn project_add(
    tx: &mut Transaction,
    permit: &Permit,
    organization: &OrganizationId,
    project: &ProjectId,
    name: &str,
    at: Instant,
) -> Result<Project, IamError> {
    covered(permit, Action::ProjectAdd, Some(organization))?;
    let name = named("name", name)?;
    tx.query(&WRITERS_LOCK, &[]).await?;
    registered(tx, organization).await?;
    let all = all_projects(tx).await?;
    if let Some(found) = all.into_iter().find(|found| found.organization == *organization && found.project == *project) {
        return if found.name == name { Ok(found) } else { Err(exists("project", project, "name", found.name, name)) };
    }
    let added = Project { organization: organization.clone(), project: project.clone(), name, created_at: at };
    let values = [organization.as_str().into(), project.as_str().into(), added.name.as_str().into(), at.into()];
    tx.execute(&PROJECT_INSERT, &values).await?;
    platform_audit::record(tx, &permit.record(Some(organization.clone()), project.as_str(), added.detail(), at)).await?;
    Ok(added)
}

/// The projects that the permit shows.
pub async fn projects(tx: &mut Transaction, permit: &Permit) -> Result<Vec<Project>, IamError> {
    let all = all_projects(tx).await?;
    Ok(all.into_iter().filter(|found| permit.covers(Action::ProjectRead, Some(&found.organization))).collect())
}

/// Enrols a source with the organizations that it may report for. Enrolling it again adds to them; nothing is ever taken away:
/// an agent that must stop has its key revoked.
///
/// - Errors: `Unfit` for a sequenced source, for nothing checks its numbers yet.
pub async fn source_enroll(
    tx: &mut Transaction,
    permit: &Permit,
    source: &SourceId,
    sequenced: bool,
    reports: &Reports,
    at: Instant,
) -> Result<Source, IamError> {
    covered(permit, Action::SourceEnroll, None)?;
    if sequenced {
        let why =
            "nothing checks the numbers of sequenced sources yet, and a source is what it is for ever: enrol it unsequenced".to_owned();
        return Err(IamError::Unfit { what: format!("source {source} as sequenced"), why });
    }
    let wanted = reports_texts(reports);
    if wanted.is_empty() {
        let why = "it may report for nobody: name its organizations, or say that it may report for any".to_owned();
        return Err(IamError::Unfit { what: format!("source {source}"), why });
    }
    tx.query(&WRITERS_LOCK, &[]).await?;
    let found = all_sources(tx).await?.into_iter().find(|found| found.source == *source);
    let had = match &found {
        Some(found) => reports_texts(&found.reports),
        None => {
            tx.execute(&SOURCE_INSERT, &[source.as_str().into(), i64::from(sequenced).into(), at.into()]).await?;
            BTreeSet::new()
        }
    };
    let new: BTreeSet<String> = if had.contains(EVERY) { BTreeSet::new() } else { wanted.difference(&had).cloned().collect() };
    if let (Some(found), true) = (found, new.is_empty()) {
        return Ok(found);
    }
    for organization in &new {
        tx.execute(&SOURCE_REPORT_INSERT, &[source.as_str().into(), organization.as_str().into(), at.into()]).await?;
    }
    let detail = BTreeMap::from([
        ("sequenced".to_owned(), sequenced.to_string()),
        ("reports".to_owned(), new.into_iter().collect::<Vec<_>>().join(" ")),
    ]);
    platform_audit::record(tx, &permit.record(None, source.as_str(), detail, at)).await?;
    let enrolled = all_sources(tx).await?.into_iter().find(|found| found.source == *source);
    enrolled.ok_or_else(|| damaged("source", source, "it is not there after it was written"))
}

/// The enrolled sources.
pub async fn sources(tx: &mut Transaction, permit: &Permit) -> Result<Vec<Source>, IamError> {
    covered(permit, Action::SourceRead, None)?;
    all_sources(tx).await
}

/// Makes a key, and its principal where there is none of that name. `text` is shown to its holder once and is not stored.
pub async fn key_create(
    tx: &mut Transaction,
    permit: &Permit,
    wanted: &NewKey,
    text: KeyText,
    pepper: &Pepper,
    at: Instant,
) -> Result<KeyMade, IamError> {
    covered(permit, Action::KeyCreate, wanted.organization.as_ref())?;
    fits(wanted, at)?;
    tx.query(&WRITERS_LOCK, &[]).await?;
    if let Some(organization) = &wanted.organization {
        registered(tx, organization).await?;
    }
    let enrolled: BTreeSet<SourceId> = all_sources(tx).await?.into_iter().map(|source| source.source).collect();
    if let Some(source) = wanted.sources.difference(&enrolled).next() {
        return Err(IamError::NoSource { source_id: source.clone() });
    }
    principal_make(tx, wanted, at).await?;
    let key = Key {
        key: text.id(),
        last4: text.last4().to_owned(),
        principal: wanted.principal.to_string(),
        role: wanted.role,
        organization: wanted.organization.clone(),
        sources: wanted.sources.clone(),
        scopes: wanted.scopes.clone(),
        created_at: at,
        expires_at: wanted.expires_at,
        revoked_at: None,
        hash: pepper.hash(&text),
    };
    let values = [
        key.key.as_str().into(),
        key.hash.into(),
        key.last4.as_str().into(),
        key.principal.as_str().into(),
        key.scopes.as_ref().map(scopes_text).into(),
        at.into(),
        key.expires_at.into(),
    ];
    tx.execute(&KEY_INSERT, &values).await?;
    for source in &key.sources {
        tx.execute(&KEY_SOURCE_INSERT, &[key.key.as_str().into(), source.as_str().into()]).await?;
    }
    platform_audit::record(tx, &permit.record(key.organization.clone(), key.key.as_str(), key.detail(), at)).await?;
    Ok(KeyMade { key, text })
}

/// Makes the first operator key, if there never was one.
pub async fn bootstrap(
    tx: &mut Transaction,
    permit: &Permit,
    text: KeyText,
    pepper: &Pepper,
    at: Instant,
) -> Result<Option<KeyMade>, IamError> {
    tx.query(&WRITERS_LOCK, &[]).await?;
    if tx.query_one(&OPERATOR_KEYS, &[]).await?.unsigned(0)? > 0 {
        return Ok(None);
    }
    let principal = PrincipalName::parse(FIRST_OPERATOR).map_err(|error| damaged("principal", FIRST_OPERATOR, error))?;
    let wanted = NewKey { principal, role: Role::Operator, organization: None, sources: BTreeSet::new(), scopes: None, expires_at: None };
    key_create(tx, permit, &wanted, text, pepper, at).await.map(Some)
}

/// Revokes a key: from the commit on it is refused. Revoking it again changes nothing.
///
/// - Errors: `NoKey` also when the permit is for another organization's keys.
pub async fn key_revoke(tx: &mut Transaction, permit: &Permit, key: &KeyId, at: Instant) -> Result<Key, IamError> {
    tx.query(&WRITERS_LOCK, &[]).await?;
    let found = key_find(tx, key).await?.filter(|found| permit.covers(Action::KeyRevoke, found.organization.as_ref()));
    let found = found.ok_or_else(|| IamError::NoKey { key: key.clone() })?;
    if found.revoked_at.is_some() {
        return Ok(found);
    }
    tx.execute(&REVOCATION_INSERT, &[key.as_str().into(), at.into()]).await?;
    platform_audit::record(tx, &permit.record(found.organization.clone(), key.as_str(), found.revocation(), at)).await?;
    Ok(Key { revoked_at: Some(at), ..found })
}

/// The keys that the permit shows, the oldest first.
pub async fn keys(tx: &mut Transaction, permit: &Permit) -> Result<Vec<Key>, IamError> {
    let all = all_keys(tx).await?;
    Ok(all.into_iter().filter(|found| permit.covers(Action::KeyRead, found.organization.as_ref())).collect())
}

/// Every row that is not as the audit says it was decided, and every decision whose row is not there: a key that somebody wrote
/// into the table, a revocation that somebody removed.
pub async fn verify(tx: &mut Transaction) -> Result<Vec<Flaw>, IamError> {
    let (mut decided, mut reported) = decisions(tx).await?;
    let mut flaws = Vec::new();
    for row in rows(tx).await? {
        let subject = format!("{} {}", row.action.target_type().name(), row.id);
        match decided.remove(&(row.action, row.chain, row.id)) {
            Some(detail) if detail == row.detail => {}
            Some(detail) => flaws.push(Flaw { subject, detail: format!("is {:?}; the audit says {detail:?}", row.detail) }),
            None => flaws.push(Flaw { subject, detail: format!("has no record of {} in the audit", row.action) }),
        }
    }
    for source in all_sources(tx).await? {
        let made = reported.remove(source.source.as_str());
        let found = (source.sequenced.to_string(), reports_texts(&source.reports));
        if made.as_ref() != Some(&found) {
            let made = made.map_or_else(|| "nothing".to_owned(), |made| format!("{made:?}"));
            flaws.push(Flaw { subject: format!("source {}", source.source), detail: format!("is {found:?}; the audit says {made}") });
        }
    }
    let gone = decided.into_keys().map(|(action, _, id)| (action, id));
    for (action, id) in gone.chain(reported.into_keys().map(|source| (Action::SourceEnroll, source))) {
        let subject = format!("{} {id}", action.target_type().name());
        flaws.push(Flaw { subject, detail: format!("the audit has a record of {action}, and there is no row of it") });
    }
    Ok(flaws)
}

/// Details of a decision by action, chain and target.
type Decided = BTreeMap<(Action, String, String), BTreeMap<String, String>>;
/// By source: whether it is sequenced, and for whom it may report.
type Reported = BTreeMap<String, (String, BTreeSet<String>)>;

/// What the audit says was decided.
async fn decisions(tx: &mut Transaction) -> Result<(Decided, Reported), IamError> {
    let (mut decided, mut reported, mut after) = (Decided::new(), Reported::new(), 0);
    loop {
        let page = platform_audit::records_after(tx, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok((decided, reported)) };
        after = last.record_no;
        for record in &page {
            let action = record.member("action").and_then(|name| Action::parse(&name));
            let (Some(action), Some(id)) = (action, record.member("target")) else { continue };
            if record.member("outcome").as_deref() != Some(Outcome::Done.name()) {
                continue;
            }
            match action {
                Action::OrganizationAdd | Action::ProjectAdd | Action::KeyCreate | Action::KeyRevoke => {
                    decided.insert((action, record.chain.clone(), id), record.detail());
                }
                Action::SourceEnroll => {
                    let detail = record.detail();
                    let entry = reported.entry(id).or_default();
                    entry.0 = detail.get("sequenced").cloned().unwrap_or_default();
                    let more = detail.get("reports").map(String::as_str).unwrap_or_default();
                    entry.1.extend(more.split(' ').map(str::to_owned));
                    if entry.1.contains(EVERY) {
                        entry.1 = BTreeSet::from([EVERY.to_owned()]);
                    }
                }
                _ => {}
            }
        }
    }
}

/// A row as the record of its making has it.
struct Made {
    action: Action,
    chain: String,
    id: String,
    detail: BTreeMap<String, String>,
}

async fn rows(tx: &mut Transaction) -> Result<Vec<Made>, IamError> {
    let made = |action, organization: Option<&OrganizationId>, id: &str, detail| {
        let chain = Chain::from(organization.cloned()).name();
        Made { action, chain, id: id.to_owned(), detail }
    };
    let mut rows = Vec::new();
    for found in all_organizations(tx).await? {
        rows.push(made(Action::OrganizationAdd, Some(&found.organization), found.organization.as_str(), found.detail()));
    }
    for found in all_projects(tx).await? {
        rows.push(made(Action::ProjectAdd, Some(&found.organization), found.project.as_str(), found.detail()));
    }
    for found in all_keys(tx).await? {
        let organization = found.organization.as_ref();
        rows.push(made(Action::KeyCreate, organization, found.key.as_str(), found.detail()));
        if found.revoked_at.is_some() {
            rows.push(made(Action::KeyRevoke, organization, found.key.as_str(), found.revocation()));
        }
    }
    Ok(rows)
}

fn reports_texts(reports: &Reports) -> BTreeSet<String> {
    match reports {
        Reports::Any => BTreeSet::from([EVERY.to_owned()]),
        Reports::Of(organizations) => organizations.iter().map(ToString::to_string).collect(),
    }
}

fn covered(permit: &Permit, wanted: Action, organization: Option<&OrganizationId>) -> Result<(), IamError> {
    if permit.covers(wanted, organization) { Ok(()) } else { Err(IamError::Permit { had: permit.action(), wanted }) }
}

fn named(field: &str, name: &str) -> Result<String, IamError> {
    let name = name.trim();
    if (1..=200).contains(&name.chars().count()) && !name.chars().any(char::is_control) {
        return Ok(name.to_owned());
    }
    let what = format!("{field} {:?}", name.chars().take(80).collect::<String>());
    Err(IamError::Unfit { what, why: "give it 1 to 200 characters without control characters".to_owned() })
}

fn exists(what: &str, id: impl ToString, field: &str, had: String, wanted: String) -> IamError {
    IamError::Exists { what: format!("{what} {}", id.to_string()), had: format!("{field} {had}"), wanted: format!("{field} {wanted}") }
}

fn damaged(what: &str, id: impl ToString, why: impl ToString) -> IamError {
    IamError::Damaged { what: format!("{what} {}", id.to_string()), why: why.to_string() }
}

async fn registered(tx: &mut Transaction, organization: &OrganizationId) -> Result<(), IamError> {
    let known = all_organizations(tx).await?.iter().any(|found| found.organization == *organization);
    if known { Ok(()) } else { Err(IamError::NoOrganization { organization: organization.clone() }) }
}

/// Whether role, organization, sources, scopes and expiry go together.
fn fits(wanted: &NewKey, at: Instant) -> Result<(), IamError> {
    let role = wanted.role;
    let unfit = |what: String, why: &str| Err(IamError::Unfit { what, why: why.to_owned() });
    match (role, &wanted.organization) {
        (Role::Customer, None) => return unfit("role customer".to_owned(), "a customer's key belongs to an organization: name it"),
        (Role::Customer, Some(_)) | (_, None) => {}
        (_, Some(organization)) => {
            return unfit(format!("organization {organization}"), "only a customer's key belongs to an organization; leave it out");
        }
    }
    match (role, wanted.sources.first()) {
        (Role::Agent, None) => return unfit("role agent".to_owned(), "an agent's key sends as enrolled sources: name at least one"),
        (Role::Agent, Some(_)) | (_, None) => {}
        (_, Some(source)) => return unfit(format!("source {source}"), "only an agent's key sends as a source; leave it out"),
    }
    if let Some(scopes) = &wanted.scopes {
        if scopes.is_empty() {
            return unfit("scopes".to_owned(), "none is left; leave them out for all that the role may do");
        }
        if let Some(scope) = scopes.iter().find(|scope| reach(role, **scope) == Reach::None) {
            return unfit(format!("scope {scope}"), &format!("role {role} does not have it; docs/reference/access.md lists what it has"));
        }
    }
    match wanted.expires_at {
        Some(end) if end <= at => unfit(format!("expiry {end}"), "it is over already; give a later one"),
        _ => Ok(()),
    }
}

async fn principal_make(tx: &mut Transaction, wanted: &NewKey, at: Instant) -> Result<(), IamError> {
    let name = wanted.principal.as_str();
    let shown = |role: &str, organization: Option<&str>| match organization {
        Some(organization) => format!("role {role} of {organization}"),
        None => format!("role {role}"),
    };
    let organization = wanted.organization.as_ref().map(OrganizationId::as_str);
    match tx.query_optional(&PRINCIPAL_FIND, &[name.into()]).await? {
        Some(row) => {
            let (had, wanted) = (shown(row.text(0)?, row.optional_text(1)?), shown(wanted.role.name(), organization));
            if had == wanted { Ok(()) } else { Err(IamError::Exists { what: format!("principal {name}"), had, wanted }) }
        }
        None => {
            tx.execute(&PRINCIPAL_INSERT, &[name.into(), wanted.role.name().into(), organization.into(), at.into()]).await?;
            Ok(())
        }
    }
}

fn scopes_text(scopes: &BTreeSet<Action>) -> String {
    json!(scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>()).to_string()
}

fn id<T: std::str::FromStr<Err = IdError>>(what: &str, text: &str) -> Result<T, IamError> {
    text.parse().map_err(|error: IdError| damaged(what, text, error))
}

async fn all_organizations(tx: &mut Transaction) -> Result<Vec<Organization>, IamError> {
    let rows = tx.query(&ORGANIZATIONS, &[]).await?;
    let read = |row: &Row| -> Result<Organization, IamError> {
        Ok(Organization { organization: id("organization", row.text(0)?)?, name: row.text(1)?.to_owned(), created_at: row.instant(2)? })
    };
    rows.iter().map(read).collect()
}

async fn all_projects(tx: &mut Transaction) -> Result<Vec<Project>, IamError> {
    let rows = tx.query(&PROJECTS, &[]).await?;
    let read = |row: &Row| -> Result<Project, IamError> {
        Ok(Project {
            organization: id("organization", row.text(0)?)?,
            project: id("project", row.text(1)?)?,
            name: row.text(2)?.to_owned(),
            created_at: row.instant(3)?,
        })
    };
    rows.iter().map(read).collect()
}

async fn all_sources(tx: &mut Transaction) -> Result<Vec<Source>, IamError> {
    let mut reports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in tx.query(&SOURCE_REPORTS, &[]).await? {
        reports.entry(row.text(0)?.to_owned()).or_default().insert(row.text(1)?.to_owned());
    }
    let rows = tx.query(&SOURCES, &[]).await?;
    let mut sources = Vec::with_capacity(rows.len());
    for row in &rows {
        let source: SourceId = id("source", row.text(0)?)?;
        let reports = reports_of(reports.remove(source.as_str()).unwrap_or_default())?;
        sources.push(Source { source, sequenced: row.integer(1)? != 0, reports, created_at: row.instant(2)? });
    }
    Ok(sources)
}

fn reports_of(organizations: BTreeSet<String>) -> Result<Reports, IamError> {
    if organizations.contains(EVERY) {
        return Ok(Reports::Any);
    }
    Ok(Reports::Of(organizations.iter().map(|text| id("organization", text)).collect::<Result<_, IamError>>()?))
}

/// The sources of a key and for whom each may report.
async fn reporting(tx: &mut Transaction, key: &KeyId) -> Result<Reporting, IamError> {
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in tx.query(&KEY_REPORTING, &[key.as_str().into()]).await? {
        texts.entry(row.text(0)?.to_owned()).or_default().insert(row.text(1)?.to_owned());
    }
    texts.into_iter().map(|(source, organizations)| Ok((id("source", &source)?, reports_of(organizations)?))).collect()
}

async fn key_find(tx: &mut Transaction, key: &KeyId) -> Result<Option<Key>, IamError> {
    tx.query_optional(&KEY_FIND, &[key.as_str().into()]).await?.map(|row| key_read(&row)).transpose()
}

async fn all_keys(tx: &mut Transaction) -> Result<Vec<Key>, IamError> {
    let mut sources: BTreeMap<String, BTreeSet<SourceId>> = BTreeMap::new();
    for row in tx.query(&KEY_SOURCES, &[]).await? {
        sources.entry(row.text(0)?.to_owned()).or_default().insert(id("source", row.text(1)?)?);
    }
    let rows = tx.query(&KEYS, &[]).await?;
    let mut keys = rows.iter().map(key_read).collect::<Result<Vec<_>, _>>()?;
    for key in &mut keys {
        key.sources = sources.remove(key.key.as_str()).unwrap_or_default();
    }
    Ok(keys)
}

/// A key without its sources.
fn key_read(row: &Row) -> Result<Key, IamError> {
    let text = row.text(0)?;
    let key = KeyId::parse(text).ok_or_else(|| damaged("key", text, "it has no such id"))?;
    let role = Role::parse(row.text(4)?).ok_or_else(|| damaged("key", text, "its principal has no known role"))?;
    let scopes = row.optional_text(6)?.map(|scopes| scopes_read(text, scopes)).transpose()?;
    Ok(Key {
        hash: row.digest(1)?,
        last4: row.text(2)?.to_owned(),
        principal: row.text(3)?.to_owned(),
        role,
        organization: row.optional_text(5)?.map(|text| id("organization", text)).transpose()?,
        sources: BTreeSet::new(),
        scopes,
        created_at: row.instant(7)?,
        expires_at: row.optional_instant(8)?,
        revoked_at: row.optional_instant(9)?,
        key,
    })
}

fn scopes_read(key: &str, text: &str) -> Result<BTreeSet<Action>, IamError> {
    let names: Vec<String> = serde_json::from_str(text).map_err(|error| damaged("key", key, error))?;
    let action = |name: &String| Action::parse(name).ok_or_else(|| damaged("key", key, format!("its scope {name} is no action")));
    names.iter().map(action).collect()
}

impl Organization {
    fn detail(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("name".to_owned(), self.name.clone())])
    }
}

impl Project {
    fn detail(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("name".to_owned(), self.name.clone())])
    }
}

impl Key {
    /// What the audit keeps of its revocation.
    fn revocation(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("principal".to_owned(), self.principal.clone())])
    }

    /// What the audit keeps of a new key; of its hash only a digest.
    fn detail(&self) -> BTreeMap<String, String> {
        let mut detail = BTreeMap::from([
            ("hash_digest".to_owned(), Digest::of(&self.hash.0).to_string()),
            ("principal".to_owned(), self.principal.clone()),
            ("role".to_owned(), self.role.name().to_owned()),
        ]);
        if let Some(scopes) = &self.scopes {
            detail.insert("scopes".to_owned(), scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>().join(" "));
        }
        if !self.sources.is_empty() {
            detail.insert("sources".to_owned(), self.sources.iter().map(SourceId::as_str).collect::<Vec<_>>().join(" "));
        }
        if let Some(end) = self.expires_at {
            detail.insert("expires_at".to_owned(), end.to_string());
        }
        detail
    }
}
