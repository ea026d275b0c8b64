//! The one table of who may do what: role × action → whose things. `docs/reference/access.md` is rendered from it.

use Reach::{Any, None, Own};
use platform_audit::Action;

use crate::Role;

/// Whose things a role's action reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Those of every organization, and those of the deployment.
    Any,
    /// Those of the principal's own organization; for an agent, those that its sources may report for.
    Own,
    /// Nobody's: the role does not have the action.
    None,
}

impl Reach {
    /// As text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Own => "own",
            Self::None => "none",
        }
    }
}

/// The row of an action: operator, finance, auditor, customer, agent.
fn row(action: Action) -> [Reach; 5] {
    match action {
        Action::AuditRead => [Any, None, Any, Own, None],
        Action::OpinionRecord => [Any, Any, Any, None, None],
        Action::InvoiceRead => [Any, Any, None, Own, None],
        Action::PeriodClose => [Any, Any, None, None, None],
        Action::BundleMake => [Any, Any, None, Own, None],
        Action::ProofRead => [Any, Any, Any, Own, None],
        Action::FoldRebuild => [Any, None, None, None, None],
        Action::LakeCompact => [Any, None, None, None, None],
        Action::KeyCreate => [Any, None, None, None, None],
        Action::KeyPresent => [None, None, None, None, None],
        Action::KeyRead => [Any, None, None, Own, None],
        Action::KeyRevoke => [Any, None, None, Own, None],
        Action::OrganizationAdd => [Any, None, None, None, None],
        Action::OrganizationRead => [Any, Any, None, Own, None],
        Action::ProjectAdd => [Any, None, None, Own, None],
        Action::ProjectRead => [Any, Any, None, Own, None],
        Action::SourceEnroll => [Any, None, None, None, None],
        Action::SourceRead => [Any, None, None, None, None],
        Action::EventsSend => [Any, None, None, None, Own],
        Action::BalanceRead => [Any, Any, None, Own, None],
        Action::SqlAsk => [Any, Any, None, Own, None],
        Action::DraftPropose => [Any, Any, None, None, None],
        Action::DraftRead => [Any, Any, Any, None, None],
        Action::DraftReview => [Any, Any, None, None, None],
        Action::RegistryPublish => [Any, None, None, None, None],
        Action::RegistryRead => [Any, Any, Any, Own, None],
        Action::RegistryRetire => [Any, None, None, None, None],
        Action::UsageRead => [Any, Any, None, Own, None],
    }
}

/// Whose things the role's action reaches.
pub fn reach(role: Role, action: Action) -> Reach {
    let [operator, finance, auditor, customer, agent] = row(action);
    match role {
        Role::Operator => operator,
        Role::Finance => finance,
        Role::Auditor => auditor,
        Role::Customer => customer,
        Role::Agent => agent,
    }
}
