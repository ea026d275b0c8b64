//! Recurring fees of a contract. Whether something prices them is checked elsewhere.

use std::collections::BTreeSet;

use shared_types::Instant;

use super::{Field, Reader, Table};
use crate::document::{ChargedAt, Covers, Recurring};

impl Reader<'_> {
    /// `[[contract.recurring]]`, sorted by id.
    pub(super) fn recurring(&mut self, contract: &Table<'_, '_>, covers: Option<&Covers>) -> Option<Vec<Recurring>> {
        let tables = self.tables(contract, "recurring", "[[contract.recurring]]")?;
        if let Some((_, at)) = tables.first()
            && matches!(covers, Some(Covers::Default))
        {
            let message = format!("{} is for everyone without a contract of their own, so nobody owes its recurring fees", contract.name);
            self.findings.add(*at, message, "give the organizations that owe them a contract with organizations = [\"…\"]");
            return None;
        }
        let (mut recurring, mut good, mut ids) = (Vec::new(), true, BTreeSet::new());
        for (members, at) in tables {
            let name = format!("a recurring fee of {}", contract.name);
            let Some(fee) = self.fee(&Table { members, at, name }) else {
                good = false;
                continue;
            };
            if !ids.insert(fee.id.clone()) {
                let message = format!("recurring fee {:?} is there twice in {}", fee.id, contract.name);
                self.findings.add(at, message, "give this one another id");
                good = false;
            }
            recurring.push(fee);
        }
        recurring.sort_by(|a, b| a.id.cmp(&b.id));
        good.then_some(recurring)
    }

    fn fee(&mut self, table: &Table<'_, '_>) -> Option<Recurring> {
        self.only(table, &["id", "event_type", "item", "quantity", "charged_at", "from", "until"]);
        let id = self.required_text(table, "id", "give the fee a name, for example id = \"support\"");
        let id = id.and_then(|id| self.plain_name(table, "id", id));
        let event_type = match self.text_field(table, "event_type") {
            Field::Good(event_type, at) if !Recurring::is_own(&event_type) => {
                let message = format!("event_type of {} is {event_type:?}, which sources may send", table.name);
                let own = Recurring::EVENT_TYPE;
                self.findings.add(at, message, format!("leave it out, or write \"{own}.…\" for a meter of its own"));
                None
            }
            event_type => self.or(event_type, Recurring::EVENT_TYPE.to_owned()),
        };
        let item = self.required_text(table, "item", "say what is provided, for example item = \"premium-support\"");
        let quantity = match self.quantity(table, "quantity") {
            Field::Good(quantity, at) if quantity <= shared_types::Quantity::ZERO => {
                let message = format!("quantity of {} is {quantity}, not above zero", table.name);
                self.findings.add(at, message, "write how much is provided; credits are not fees");
                None
            }
            quantity => self.required(table, quantity, "quantity", "say how much is provided, for example quantity = \"1\""),
        };
        let charged_at = self.word(table, "charged_at", ChargedAt::WORDS);
        let charged_at = self.required(table, charged_at, "charged_at", "write charged_at = \"start\" or \"end\" of the service period");
        let from = self.optional_instant(table, "from");
        let until = self.optional_instant(table, "until");
        if let (Some(Some(from)), Some(Some(until))) = (from, until)
            && until <= from
        {
            let message = format!("{} ends at {until}, not after it begins at {from}", table.name);
            self.findings.add(table.at, message, "write an until after from");
            return None;
        }
        Some(Recurring {
            id: id?,
            event_type: event_type?,
            item: item?,
            quantity: quantity?,
            charged_at: charged_at?,
            from: from?,
            until: until?,
        })
    }

    pub(super) fn optional_instant(&mut self, table: &Table<'_, '_>, name: &str) -> Option<Option<Instant>> {
        let remedy = format!("write a date and time with its offset, for example {name} = \"2026-10-01T00:00:00Z\"");
        let instant = self.parsed(table, name, Instant::parse, |_| remedy);
        self.optional(instant)
    }
}
