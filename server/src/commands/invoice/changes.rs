//! Why a bill changed, as a page for people, JSON, or CSV. What moved what is computed in `platform-billing`.

use std::fmt::Write as _;

use platform_billing::{Billed, Cause, Change, Changes, ChangesError, StoredInvoice};
use serde_json::{Value, json};
use shared_types::Sum;

use super::{csv_row, grouped, money};
use crate::answers::Answers;
use crate::story::{self, StoryError};

/// Why two invoices are not compared.
#[derive(Debug, thiserror::Error)]
pub enum NotCompared {
    /// They have nothing to compare.
    #[error(transparent)]
    Changes(#[from] ChangesError),
    /// What their lines measure cannot be read.
    #[error(transparent)]
    Story(#[from] StoryError),
}

/// Two invoices and what lies between them.
pub struct Compared {
    /// The earlier one.
    pub before: StoredInvoice,
    /// The later one.
    pub after: StoredInvoice,
    /// What moved the total.
    pub changes: Changes,
}

/// What each sum means, in the order of the page.
const SUMS: [(&str, &str); 8] = [
    ("volume", "more or less of each unit was used"),
    ("price", "a unit cost more or less, tiers included"),
    ("mix", "dearer or cheaper lines had a larger share of their unit"),
    ("new", "lines that the earlier invoice does not have"),
    ("gone", "lines that the later invoice does not have"),
    ("late", "usage of other months that each invoice asks for besides"),
    ("other", "lines with a quantity of zero or less, or that count something else now, which have no price to compare"),
    ("terms", "discounts, commitments, minimum and maximum spend of contracts"),
];

impl Compared {
    /// Two invoices, with what their lines measure.
    ///
    pub async fn of(answers: &Answers, before: StoredInvoice, after: StoredInvoice) -> Result<Self, NotCompared> {
        let (old, new) = (story::measured(answers, &before.invoice).await?, story::measured(answers, &after.invoice).await?);
        let changes = platform_billing::changes(
            Billed { invoice: &before.invoice, measured: &old },
            Billed { invoice: &after.invoice, measured: &new },
        )?;
        Ok(Self { before, after, changes })
    }

    fn scale(&self) -> u32 {
        self.before.invoice.rounding.scale.max(self.after.invoice.rounding.scale)
    }

    /// For scripts: amounts and quantities as texts.
    pub fn view(&self) -> Value {
        let side = |stored: &StoredInvoice| json!({"invoice_id": stored.invoice.invoice_id, "period": stored.invoice.period.to_string(), "total": stored.invoice.total});
        let line = |line: &Change| {
            json!({
                "contract_line": line.contract_line, "description": line.description, "unit": line.unit, "cause": line.cause.name(),
                "before": {"quantity": line.before.quantity, "amount": line.before.amount},
                "after": {"quantity": line.after.quantity, "amount": line.after.amount},
                "volume": line.volume, "price": line.price, "mix": line.mix, "difference": line.difference,
            })
        };
        let (before, after) = (&self.before, &self.after);
        json!({
            "organization": after.invoice.organization, "currency": after.invoice.currency, "before": side(before), "after": side(after),
            "difference": difference(before.invoice.total, after.invoice.total), "sums": self.changes.sums,
            "lines": self.changes.lines.iter().map(line).collect::<Vec<_>>(),
        })
    }

    /// For a spreadsheet.
    pub fn csv(&self) -> String {
        let mut out = String::from(
            "contract_line,description,unit,cause,quantity_before,amount_before,quantity_after,amount_after,volume,price,mix,difference\n",
        );
        let scale = self.scale();
        for line in &self.changes.lines {
            out.push_str(&csv_row(&[
                line.contract_line.clone(),
                line.description.clone(),
                line.unit.clone(),
                line.cause.name().to_owned(),
                line.before.quantity.to_string(),
                money(line.before.amount, scale),
                line.after.quantity.to_string(),
                money(line.after.amount, scale),
                money(line.volume, scale),
                money(line.price, scale),
                money(line.mix, scale),
                money(line.difference, scale),
            ]));
        }
        out
    }

    /// One page.
    pub fn page(&self) -> String {
        let (before, after, scale) = (&self.before.invoice, &self.after.invoice, self.scale());
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(out, "Why the bill of {} changed, in {}\n", after.organization, after.currency);
        let mut fact = |name: &str, amount: String, words: &str| {
            let _ = writeln!(out, "  {name:<12} {amount:>18}  {words}");
        };
        fact(&before.period.to_string(), grouped(&money(before.total, scale)), before.invoice_id.as_str());
        for (name, words) in SUMS {
            if let Some(sum) = self.changes.sums.get(name) {
                fact(name, signed(*sum, scale), words);
            }
        }
        fact(&after.period.to_string(), grouped(&money(after.total, scale)), after.invoice_id.as_str());
        let width = self.changes.lines.iter().map(|line| line.description.chars().count()).max().unwrap_or(0).max(11);
        let _ =
            writeln!(out, "\n  {:<width$} {:<6} {:>14} {:>14} {:>14} {:>14}", "Description", "", "Volume", "Price", "Mix", "Difference");
        for line in &self.changes.lines {
            let parts = if line.cause == Cause::Used {
                [line.volume, line.price, line.mix].map(|part| signed(part, scale))
            } else {
                [const { String::new() }; 3]
            };
            let [volume, price, mix] = parts;
            let _ = writeln!(
                out,
                "  {:<width$} {:<6} {volume:>14} {price:>14} {mix:>14} {:>14}",
                line.description,
                line.cause.name(),
                signed(line.difference, scale)
            );
            let side = |side: &platform_billing::Side| {
                format!("{} {} for {}", grouped(&side.quantity.to_string()), line.unit, grouped(&money(side.amount, scale)))
            };
            let amount = |side: &platform_billing::Side| grouped(&money(side.amount, scale));
            let words = match line.cause {
                Cause::Terms => format!("{}, then {}", amount(&line.before), amount(&line.after)),
                Cause::New => side(&line.after),
                Cause::Gone => side(&line.before),
                Cause::Used | Cause::Late | Cause::Other => format!("{}, then {}", side(&line.before), side(&line.after)),
            };
            let _ = writeln!(out, "    {words}");
        }
        out
    }
}

fn difference(before: Sum, after: Sum) -> Option<Sum> {
    after.checked_sub(before).ok()
}

fn signed(amount: impl Into<Sum>, scale: u32) -> String {
    let amount = amount.into();
    let sign = if amount > Sum::ZERO { "+" } else { "" };
    format!("{sign}{}", grouped(&money(amount, scale)))
}
