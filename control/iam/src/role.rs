//! The roles. What each may do stands in [`matrix`](crate::matrix).

/// What a principal is to this deployment. A principal has one role, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Runs the deployment: everything.
    Operator,
    /// Closes months, issues invoices, explains figures of every organization.
    Finance,
    /// Proves completeness and accuracy without seeing what customers used.
    Auditor,
    /// Sees everything of one organization, and nothing else.
    Customer,
    /// Sends usage from its sources for the organizations that they may report for, and reads nothing.
    Agent,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Operator, Self::Finance, Self::Auditor, Self::Customer, Self::Agent];

    /// As text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Finance => "finance",
            Self::Auditor => "auditor",
            Self::Customer => "customer",
            Self::Agent => "agent",
        }
    }

    /// From text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == text)
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
