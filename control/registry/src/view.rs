//! What of a version concerns one organization: the contracts that bind it, and what these lead to. It never names another organization.

use std::collections::BTreeSet;

use shared_types::OrganizationId;

use crate::Version;
use crate::document::{Contract, Covers, Document, DocumentError};

impl Version {
    /// The documents by which an organization's usage is metered, priced and rounded, by kind, then by id.
    ///
    /// - Its own contracts hide the default ones, as in rating; a contract shows no other organization that it covers.
    /// - With them: their price books, the SKUs of these, the meters of those, the billable states and units of those, and the roundings of the currencies.
    pub fn seen_by(&self, organization: &OrganizationId) -> Vec<Document> {
        let contracts = self.contracts_of(organization);
        let books: BTreeSet<&str> = contracts.iter().map(|contract| contract.price_book.as_str()).collect();
        let books: Vec<_> = self.price_books().filter(|book| books.contains(book.id.as_str())).collect();
        let skus: BTreeSet<_> = books.iter().flat_map(|book| &book.prices).map(|price| &price.sku).collect();
        let skus: Vec<_> = self.skus().filter(|sku| skus.contains(&sku.id)).collect();
        let meters: BTreeSet<_> = skus.iter().map(|sku| &sku.meter).collect();
        let meters: Vec<_> = self.meters().filter(|meter| meters.contains(&meter.id)).collect();
        let policies: BTreeSet<&str> = meters.iter().filter_map(|meter| meter.billable.as_deref()).collect();
        let units: BTreeSet<_> = meters.iter().map(|meter| &meter.unit).collect();
        let currencies: BTreeSet<_> = books.iter().map(|book| &book.currency).collect();
        let policies = self.billable_states().filter(|policy| policies.contains(policy.id.as_str()));
        let mut documents: Vec<Document> = policies.cloned().map(Document::BillableStates).collect();
        documents.extend(contracts.into_iter().map(Document::Contract));
        documents.extend(meters.into_iter().cloned().map(Document::Meter));
        documents.extend(books.into_iter().cloned().map(Document::PriceBook));
        documents.extend(self.roundings().filter(|rounding| currencies.contains(&rounding.asset)).cloned().map(Document::Rounding));
        documents.extend(skus.into_iter().cloned().map(Document::Sku));
        documents.extend(self.units().filter(|unit| units.contains(&unit.id)).cloned().map(Document::Unit));
        documents
    }

    /// What an organization sees, as a version: to compare and to ask, like any other. Its address is nobody's.
    pub fn view_of(&self, organization: &OrganizationId) -> Result<Self, DocumentError> {
        Self::from_documents(self.seen_by(organization))
    }

    /// The contracts that bind an organization, naming no other one.
    fn contracts_of(&self, organization: &OrganizationId) -> Vec<Contract> {
        let own = self.contracts().filter(|contract| matches!(&contract.covers, Covers::Organizations(all) if all.contains(organization)));
        let covers = Covers::Organizations(BTreeSet::from([organization.clone()]));
        let own: Vec<Contract> = own.map(|contract| Contract { covers: covers.clone(), ..contract.clone() }).collect();
        if own.is_empty() { self.contracts().filter(|contract| contract.covers == Covers::Default).cloned().collect() } else { own }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, SourceFile};

    const DOCUMENTS: &str = r#"
        [[unit]]
        id = "token"
        [[unit]]
        id = "secret-unit"
        [[meter]]
        id = "tokens"
        event_type = "llm"
        aggregation = "sum"
        value = "tokens"
        unit = "token"
        [[meter]]
        id = "secret-meter"
        event_type = "llm"
        aggregation = "count"
        unit = "secret-unit"
        [[sku]]
        id = "input"
        family = "f"
        meter = "tokens"
        [[sku]]
        id = "secret-sku"
        family = "f"
        meter = "secret-meter"
        [[price_book]]
        id = "list"
        currency = "USD"
        [[price_book.price]]
        sku = "input"
        effective_at = "2020-01-01T00:00:00Z"
        model = "per_unit"
        per = "1"
        unit_price = "1"
        [[price_book]]
        id = "shared"
        currency = "USD"
        [[price_book.price]]
        sku = "input"
        effective_at = "2020-01-01T00:00:00Z"
        model = "per_unit"
        per = "1"
        unit_price = "2"
        [[price_book]]
        id = "secret-book"
        currency = "EUR"
        [[price_book.price]]
        sku = "secret-sku"
        effective_at = "2020-01-01T00:00:00Z"
        model = "per_unit"
        per = "1"
        unit_price = "0.5"
        [[contract]]
        id = "everyone"
        default = true
        price_book = "list"
        effective_at = "2020-01-01T00:00:00Z"
        billing_period = "month"
        [[contract]]
        id = "two"
        organizations = ["acme", "secret-partner"]
        price_book = "shared"
        effective_at = "2020-01-01T00:00:00Z"
        billing_period = "month"
        [[contract]]
        id = "secret-contract"
        organizations = ["secret-customer"]
        price_book = "secret-book"
        effective_at = "2020-01-01T00:00:00Z"
        billing_period = "month"
        [[rounding]]
        asset = "USD"
        scale = 2
        mode = "half_even"
        [[rounding]]
        asset = "EUR"
        scale = 2
        mode = "half_even"
    "#;

    fn seen(organization: &str) -> Vec<(Kind, String)> {
        let version = Version::check(&[SourceFile { name: "all.toml".to_owned(), text: DOCUMENTS.to_owned() }]).unwrap();
        let documents = version.seen_by(&OrganizationId::parse(organization).unwrap());
        let shown: String = documents.iter().map(Document::to_toml).collect();
        assert!(organization.contains("secret") || !shown.contains("secret"), "{organization} sees {shown}");
        documents.iter().map(|document| (document.kind(), document.id().to_owned())).collect()
    }

    #[test]
    fn an_organization_sees_what_prices_its_own_usage_and_no_other_name() {
        let of = |contract: &str, book: &str| {
            let names = [
                (Kind::Contract, contract),
                (Kind::Meter, "tokens"),
                (Kind::PriceBook, book),
                (Kind::Rounding, "USD"),
                (Kind::Sku, "input"),
                (Kind::Unit, "token"),
            ];
            names.map(|(kind, id)| (kind, id.to_owned())).to_vec()
        };
        assert_eq!(seen("acme"), of("two", "shared"));
        assert_eq!(seen("anybody"), of("everyone", "list"));
        assert_eq!(seen("secret-customer").len(), 6);
    }
}
