//! The registry of actions: everything that a person or program can do or try, with its name, class, target and severity.
//! What is not listed here cannot be written down, so an unregistered action does not compile.

/// What an action does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Shows that the caller is who they say. Only refusals are recorded.
    Access,
    /// Shows something. Only refusals are recorded.
    Read,
    /// Sends usage. Accepted usage has its own record, the stream position; only refusals are recorded.
    Input,
    /// Changes what others will see. Recorded with its effect, and when it is refused.
    Change,
}

impl Class {
    /// As text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Read => "read",
            Self::Input => "input",
            Self::Change => "change",
        }
    }
}

/// How much attention an action deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Daily work.
    Info,
    /// Changes who may do what, or what is owed.
    Notice,
    /// Cannot be taken back.
    Warning,
}

impl Severity {
    /// As text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
        }
    }
}

/// What an action is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetType {
    /// A row of the audit.
    AuditEvent,
    /// Balances of accounts.
    Balance,
    /// An evidence bundle.
    Bundle,
    /// Usage events.
    Event,
    /// A fold of the batch log.
    Fold,
    /// An invoice.
    Invoice,
    /// An API key.
    Key,
    /// An organization.
    Organization,
    /// An accounting month.
    Period,
    /// A project.
    Project,
    /// Proofs and checkpoints.
    Proof,
    /// A question in SQL.
    Question,
    /// A draft of a registry version.
    RegistryDraft,
    /// A registry version.
    RegistryVersion,
    /// A source of events.
    Source,
    /// Readings, charges and what became of events.
    Usage,
}

impl TargetType {
    /// As text.
    pub fn name(self) -> &'static str {
        match self {
            Self::AuditEvent => "audit_event",
            Self::Balance => "balance",
            Self::Bundle => "bundle",
            Self::Event => "event",
            Self::Fold => "fold",
            Self::Invoice => "invoice",
            Self::Key => "key",
            Self::Organization => "organization",
            Self::Period => "period",
            Self::Project => "project",
            Self::Proof => "proof",
            Self::Question => "question",
            Self::RegistryDraft => "registry_draft",
            Self::RegistryVersion => "registry_version",
            Self::Source => "source",
            Self::Usage => "usage",
        }
    }
}

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $class:ident, $target:ident, $severity:ident;)+) => {
        /// Something that can be done or tried.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Action {
            $($(#[$doc])* $variant,)+
        }

        impl Action {
            /// All of them, by name.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name, for example `iam.key.create`; never used again for something else.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// What it does.
            pub fn class(self) -> Class {
                match self { $(Self::$variant => Class::$class),+ }
            }

            /// What it is done to.
            pub fn target_type(self) -> TargetType {
                match self { $(Self::$variant => TargetType::$target),+ }
            }

            /// How much attention it deserves.
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity),+ }
            }
        }
    };
}

actions! {
    /// Read the audit.
    AuditRead = "audit.event.read", Read, AuditEvent, Info;
    /// Read invoices and drafts.
    InvoiceRead = "billing.invoice.read", Read, Invoice, Info;
    /// Record what the second engine said of a closed month.
    OpinionRecord = "billing.opinion.record", Change, Period, Warning;
    /// Close an accounting month.
    PeriodClose = "billing.period.close", Change, Period, Warning;
    /// Make an evidence bundle.
    BundleMake = "evidence.bundle.make", Read, Bundle, Info;
    /// Read checkpoints, tiles and proofs.
    ProofRead = "evidence.proof.read", Read, Proof, Info;
    /// Replace a fold by one that was rebuilt from the batch log.
    FoldRebuild = "home.fold.rebuild", Change, Fold, Notice;
    /// Merge small files of the lake, give up its history and remove replaced files.
    LakeCompact = "home.lake.compact", Change, Fold, Notice;
    /// Create an API key.
    KeyCreate = "iam.key.create", Change, Key, Notice;
    /// Present an API key.
    KeyPresent = "iam.key.present", Access, Key, Notice;
    /// List API keys; never their secrets.
    KeyRead = "iam.key.read", Read, Key, Info;
    /// Revoke an API key.
    KeyRevoke = "iam.key.revoke", Change, Key, Warning;
    /// Register an organization.
    OrganizationAdd = "iam.organization.add", Change, Organization, Notice;
    /// List registered organizations.
    OrganizationRead = "iam.organization.read", Read, Organization, Info;
    /// Register a project of an organization.
    ProjectAdd = "iam.project.add", Change, Project, Info;
    /// List projects.
    ProjectRead = "iam.project.read", Read, Project, Info;
    /// Enrol a source, or let it report for more organizations.
    SourceEnroll = "iam.source.enroll", Change, Source, Notice;
    /// List enrolled sources.
    SourceRead = "iam.source.read", Read, Source, Info;
    /// Send usage events.
    EventsSend = "ingest.event.send", Input, Event, Info;
    /// Read balances of the ledger.
    BalanceRead = "ledger.balance.read", Read, Balance, Info;
    /// Ask in SQL.
    SqlAsk = "query.sql.ask", Read, Question, Info;
    /// Propose a registry version as a draft.
    DraftPropose = "registry.draft.propose", Change, RegistryDraft, Info;
    /// Read drafts of registry versions.
    DraftRead = "registry.draft.read", Read, RegistryDraft, Info;
    /// Approve or reject a draft of a registry version.
    DraftReview = "registry.draft.review", Change, RegistryDraft, Notice;
    /// Publish a registry version: units, meters, prices, contracts.
    RegistryPublish = "registry.version.publish", Change, RegistryVersion, Notice;
    /// Read registry versions.
    RegistryRead = "registry.version.read", Read, RegistryVersion, Info;
    /// Retire a registry version: it is not put in force again.
    RegistryRetire = "registry.version.retire", Change, RegistryVersion, Warning;
    /// Read usage, charges, traces and explanations.
    UsageRead = "usage.reading.read", Read, Usage, Info;
}

impl Action {
    /// The action of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|action| action.name() == name)
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_unique_and_read_back() {
        let names: Vec<&str> = Action::ALL.iter().map(|action| action.name()).collect();
        assert!(names.is_sorted() && names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        for action in Action::ALL {
            assert_eq!(Action::parse(action.name()), Some(*action));
            assert_eq!(action.name().split('.').count(), 3, "{action} is owner.thing.verb");
        }
        assert_eq!(Action::parse("iam.key.forge"), None);
    }
}
