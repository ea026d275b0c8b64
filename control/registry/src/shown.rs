//! What of a version one organization may see: the documents that its contracts lead to, and nothing that names another organization.
//! It knows no evidence; the version's index binds what is left out.

use shared_types::OrganizationId;

use crate::version::{Entry, Version};

/// Why a version cannot be shown to an organization.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "contract {contract} names {organization} together with other organizations, whose names it would show: give each organization a contract document of its own"
)]
pub struct NamesOthers {
    /// The contract.
    pub contract: String,
    /// To whom it was to be shown.
    pub organization: OrganizationId,
}

impl Version {
    /// The documents of [`Version::seen_by`], as they stand in the version: what can be proven by its index.
    ///
    /// - Errors: a contract of the organization that names others too.
    pub fn shown_to(&self, organization: &OrganizationId) -> Result<Vec<&Entry>, NamesOthers> {
        let mut shown = Vec::new();
        for document in self.seen_by(organization) {
            match self.entry(document.kind(), document.id()).filter(|entry| entry.document == document) {
                Some(entry) => shown.push(entry),
                None => return Err(NamesOthers { contract: document.id().to_owned(), organization: organization.clone() }),
            }
        }
        Ok(shown)
    }
}

#[cfg(test)]
mod tests {
    use crate::{SourceFile, Version};

    const TEXT: &str = r#"
[[unit]]
id = "token"
scale = 0
[[unit]]
id = "hour"
[[meter]]
id = "tokens"
event_type = "llm"
aggregation = "count"
unit = "token"
dimensions = {}
[[meter]]
id = "secret-hours"
event_type = "gpu"
aggregation = "count"
unit = "hour"
dimensions = {}
[[sku]]
id = "tokens"
family = "f"
meter = "tokens"
[[sku]]
id = "globex-special"
family = "f"
meter = "secret-hours"
[[rounding]]
asset = "USD"
scale = 2
[[rounding]]
asset = "EUR"
scale = 2
[[price_book]]
id = "list"
currency = "USD"
[[price_book.price]]
sku = "tokens"
effective_at = "2026-01-01T00:00:00Z"
model = "per_unit"
unit_price = "1"
[[price_book]]
id = "globex-book"
currency = "EUR"
[[price_book.price]]
sku = "globex-special"
effective_at = "2026-01-01T00:00:00Z"
model = "per_unit"
unit_price = "1"
[[contract]]
id = "standard"
default = true
price_book = "list"
effective_at = "2026-01-01T00:00:00Z"
billing_period = "month"
[[contract]]
id = "globex"
organization = "globex"
price_book = "globex-book"
effective_at = "2026-01-01T00:00:00Z"
billing_period = "month"
[[contract]]
id = "shared"
organizations = ["initech", "umbrella"]
price_book = "list"
effective_at = "2026-01-01T00:00:00Z"
billing_period = "month"
"#;

    fn version() -> Version {
        let file = SourceFile { name: "registry.toml".to_owned(), text: TEXT.to_owned() };
        Version::check(&[file]).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn check(organization: &str, shown: &[&str]) {
        let version = version();
        let entries = version.shown_to(&organization.parse().unwrap()).unwrap();
        let found: Vec<String> = entries.iter().map(|entry| format!("{} {}", entry.document.kind(), entry.document.id())).collect();
        assert_eq!(found, shown);
    }

    #[test]
    fn an_organization_sees_what_its_contracts_lead_to_and_nothing_else() {
        check("acme", &["contract standard", "meter tokens", "price_book list", "rounding USD", "sku tokens", "unit token"]);
        check(
            "globex",
            &["contract globex", "meter secret-hours", "price_book globex-book", "rounding EUR", "sku globex-special", "unit hour"],
        );
    }

    #[test]
    fn a_contract_that_names_others_is_never_shown() {
        let error = version().shown_to(&"umbrella".parse().unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("contract shared names umbrella together with other organizations"), "{error}");
    }
}
