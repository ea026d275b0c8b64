//! `window_commitment` of a price. Whether its meter has windows, and where they begin, is checked elsewhere.

use shared_types::{Price, Quantity};
use toml::de::DeValue;

use super::field::type_name;
use super::{Field, Reader, Table};
use crate::compile::one;
use crate::document::{Promised, WindowCommitment, WindowTrueUp};

const EXAMPLE: &str = "window_commitment = { amount = \"10\", overage_factor = \"1.5\", true_up = \"owed_when_used\" }";

impl Reader<'_> {
    /// What is promised for each window; none when left out.
    pub(super) fn window_commitment(&mut self, price: &Table<'_, '_>) -> Option<Option<WindowCommitment>> {
        let Some(value) = price.members.get("window_commitment") else { return Some(None) };
        let at = self.at(value.span().start);
        let DeValue::Table(members) = value.get_ref() else {
            let message = format!("window_commitment of {} is {}, not a table", price.name, type_name(value.get_ref()));
            self.findings.add(at, message, format!("write {EXAMPLE}"));
            return None;
        };
        let table = Table { members, at, name: format!("the window commitment of {}", price.name) };
        self.only(&table, &["amount", "quantity", "overage_factor", "true_up"]);
        let promised = self.promised(&table);
        let factor = match self.quantity(&table, "overage_factor") {
            Field::Good(factor, at) if factor <= Quantity::ZERO => {
                let message = format!("overage_factor of {} is {factor}, not above zero", table.name);
                self.findings.add(at, message, "write what a window costs beyond its commitment as a multiple, for example \"1.5\"");
                None
            }
            factor => self.or(factor, one()),
        };
        let true_up = self.word(&table, "true_up", WindowTrueUp::WORDS);
        let remedy = "say which windows owe what is missing to it: true_up = \"owed_when_used\" for those with readings, \
                      \"owed_always\" for every window of the service period, or \"none\"";
        let true_up = self.required(&table, true_up, "true_up", remedy);
        let (promised, overage_factor, true_up) = (promised?, factor?, true_up?);
        if overage_factor == one() && true_up == WindowTrueUp::None {
            let message = format!("{} moves nothing: no window owes what is missing and overage costs what it costs anyway", table.name);
            self.findings.add(at, message, "write true_up = \"owed_when_used\", \"owed_always\" or an overage_factor, or remove it");
            return None;
        }
        Some(Some(WindowCommitment { promised, overage_factor, true_up }))
    }

    /// Exactly one of `amount` and `quantity`.
    fn promised(&mut self, table: &Table<'_, '_>) -> Option<Promised> {
        let remedy = "write one of amount = \"10\", money for each window, and quantity = \"8\", what that many cost in a window";
        let amount = match self.price_field(table, "amount") {
            Field::Good(amount, at) if amount == Price::ZERO => {
                self.findings.add(at, format!("amount of {} is 0, not above zero", table.name), remedy);
                Field::Wrong
            }
            amount => amount,
        };
        let quantity = match self.quantity(table, "quantity") {
            Field::Good(quantity, at) if quantity <= Quantity::ZERO => {
                self.findings.add(at, format!("quantity of {} is {quantity}, not above zero", table.name), remedy);
                Field::Wrong
            }
            quantity => quantity,
        };
        match (amount, quantity) {
            (Field::Good(amount, _), Field::Absent) => Some(Promised::Amount(amount)),
            (Field::Absent, Field::Good(quantity, _)) => Some(Promised::Quantity(quantity)),
            (Field::Wrong, _) | (_, Field::Wrong) => None,
            (Field::Absent, Field::Absent) => {
                self.findings.add(table.at, format!("{} promises nothing", table.name), remedy);
                None
            }
            (Field::Good(..), Field::Good(_, at)) => {
                self.findings.add(at, format!("{} promises an amount and a quantity", table.name), remedy);
                None
            }
        }
    }
}
