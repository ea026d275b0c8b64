//! The decision: a principal, an action and a target become a permit or a refusal. A pure function; whoever asks writes it down.

use std::collections::{BTreeMap, BTreeSet};

use platform_audit::{Action, Chain, Outcome, Record};
use shared_types::{Instant, OrganizationId, SourceId};

use crate::matrix::{Reach, reach};
use crate::principal::{Principal, Reports};

/// On whose things something is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The deployment itself, or the things of all organizations at once.
    Deployment,
    /// The things of one organization.
    Organization(OrganizationId),
    /// What sources report, each for one organization. A name that does not read is one that nobody may report for.
    Reports(BTreeSet<Report>),
}

/// A source reports for an organization.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Report {
    /// Who sends; none when it cannot be read.
    pub source: Option<SourceId>,
    /// For whom; none when it cannot be read.
    pub organization: Option<OrganizationId>,
}

/// Proof that [`authorize`] allowed an action on a target. There is no other way to one:
///
/// ```compile_fail,E0451
/// let principal = platform_iam::Principal::local();
/// let (action, target) = (platform_iam::Action::KeyCreate, platform_iam::Target::Deployment);
/// let permit = platform_iam::Permit { principal, action, target };
/// ```
///
/// ```compile_fail,E0277
/// let permit: platform_iam::Permit = Default::default();
/// ```
///
/// ```compile_fail,E0451
/// // Nor is there a way to a principal whom nobody recognised.
/// let finance = platform_iam::Principal { role: platform_iam::Role::Finance, ..platform_iam::Principal::local() };
/// ```
#[derive(Debug)]
pub struct Permit {
    principal: Principal,
    action: Action,
    target: Target,
}

/// Why something is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The role does not have the action.
    #[error("role {role} may not {action}")]
    Role {
        /// The principal's role.
        role: crate::Role,
        /// What was asked.
        action: Action,
    },
    /// The role has the action, but the key was made for less.
    #[error("the key was made without the scope {action}")]
    Scope {
        /// What was asked.
        action: Action,
    },
    /// The role has the action for its own organization only, and all organizations were asked for.
    #[error("role {role} may {action} for its own organization only: name it")]
    Everything {
        /// The principal's role.
        role: crate::Role,
        /// What was asked.
        action: Action,
    },
    /// Another organization's: whether it exists is not said.
    #[error("there is no such thing for this key")]
    Foreign,
    /// The source, or the organization that it names, is not one that the key may report.
    #[error("this key may not report {what}")]
    Report {
        /// Which source, and for whom.
        what: String,
    },
}

/// Decides whether the principal may do this, and proves it.
///
/// - Errors: see [`Denied`]; every one is to be answered with 403, but `Foreign` with 404.
pub fn authorize(principal: &Principal, action: Action, target: Target) -> Result<Permit, Denied> {
    let role = principal.role();
    let reach = reach(role, action);
    if reach == Reach::None {
        return Err(Denied::Role { role, action });
    }
    if !principal.in_scope(action) {
        return Err(Denied::Scope { action });
    }
    match (reach, &target) {
        (Reach::None, _) => return Err(Denied::Role { role, action }),
        (Reach::Any, _) => {}
        (Reach::Own, Target::Deployment) => return Err(Denied::Everything { role, action }),
        (Reach::Own, Target::Organization(organization)) if principal.organization() == Some(organization) => {}
        (Reach::Own, Target::Organization(_)) => return Err(Denied::Foreign),
        (Reach::Own, Target::Reports(reports)) => {
            if let Some(refused) = reports.iter().find(|report| !may_report(principal, report)) {
                return Err(Denied::Report { what: refused.to_string() });
            }
        }
    }
    Ok(Permit { principal: principal.clone(), action, target })
}

fn may_report(principal: &Principal, report: &Report) -> bool {
    let (Some(source), Some(organization)) = (&report.source, &report.organization) else { return false };
    match principal.reporting.get(source) {
        Some(Reports::Any) => true,
        Some(Reports::Of(organizations)) => organizations.contains(organization),
        None => false,
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.source {
            Some(source) => write!(f, "source {source}")?,
            None => f.write_str("an event whose source cannot be read")?,
        }
        match &self.organization {
            Some(organization) => write!(f, " for organization {organization}"),
            None => f.write_str(" for an organization that cannot be read"),
        }
    }
}

impl Denied {
    /// Short stable name of the reason, for the audit.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Role { .. } => "role",
            Self::Scope { .. } => "scope",
            Self::Everything { .. } => "everything",
            Self::Foreign => "foreign",
            Self::Report { .. } => "report",
        }
    }
}

impl Permit {
    /// Who may.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// What may be done.
    pub fn action(&self) -> Action {
        self.action
    }

    /// On whose things.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The organization on whose things, if it is one's.
    pub fn organization(&self) -> Option<&OrganizationId> {
        match &self.target {
            Target::Organization(organization) => Some(organization),
            Target::Deployment | Target::Reports(_) => None,
        }
    }

    /// Whether it was given for this action on things of this organization, or of all (`None`).
    ///
    /// - A permit for the whole deployment covers each organization; the other way it does not.
    pub fn covers(&self, action: Action, organization: Option<&OrganizationId>) -> bool {
        let target = match (&self.target, organization) {
            (Target::Deployment, _) => true,
            (Target::Organization(own), Some(organization)) => own == organization,
            (Target::Organization(_) | Target::Reports(_), _) => false,
        };
        self.action == action && target
    }

    /// The audit record that its action was done to `id`, to be written in the transaction of the effect.
    ///
    /// - `organization`: whose chain it belongs to.
    pub fn record(&self, organization: Option<OrganizationId>, id: &str, detail: BTreeMap<String, String>, at: Instant) -> Record {
        Record {
            chain: Chain::from(organization),
            action: self.action,
            outcome: Outcome::Done,
            principal: self.principal.name().to_owned(),
            role: Some(self.principal.role().name()),
            key: self.principal.key().map(ToString::to_string),
            target: id.to_owned(),
            at,
            count: 1,
            detail,
        }
    }
}
