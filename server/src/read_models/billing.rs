//! `billing.invoices`, `billing.invoice_lines`, `billing.invoice_terms`, `billing.periods`.

use std::sync::Arc;

use arrow::datatypes::DataType;
use platform_billing::StoredInvoice;
use platform_catalog::{Audience, ReadModel};
use shared_db::Database;

use super::Readers;
use super::rows::{Cell, MONEY, instant, model};

const OURS: Audience = Audience::Organizations { column: "organization" };

/// All of them.
pub fn models(readers: &Readers) -> anyhow::Result<Vec<Arc<dyn ReadModel>>> {
    Ok(vec![invoices(readers)?, lines(readers)?, terms(readers)?, periods(readers)?])
}

/// A row or more for each invoice.
async fn of_invoices(books: &Database, rows_of: impl Fn(&StoredInvoice) -> Vec<Vec<Cell>>) -> anyhow::Result<Vec<Vec<Cell>>> {
    let invoices = platform_billing::invoices(&mut books.read().await?).await?;
    Ok(invoices.iter().flat_map(rows_of).collect())
}

fn invoices(readers: &Readers) -> anyhow::Result<Arc<dyn ReadModel>> {
    let books = readers.books.clone();
    model(
        "billing.invoices",
        "platform-billing",
        "One row for each invoice, drafts included.",
        OURS,
        &[
            ("invoice_id", DataType::Utf8, false, "The invoice."),
            ("number", DataType::Utf8, true, "Its number, gapless per issuer; null for a draft."),
            ("organization", DataType::Utf8, false, "Who owes."),
            ("currency", DataType::Utf8, false, "In which currency."),
            ("period", DataType::Int32, false, "The accounting month whose close made it, yyyymm."),
            ("state", DataType::Utf8, false, "draft or issued."),
            ("total", MONEY, false, "Sum of the amounts of the lines, those of terms included."),
            ("lines", DataType::Int64, false, "How many lines, those of terms included."),
            ("registry_version", DataType::Utf8, false, "Registry version in force at the close."),
            ("digest", DataType::Utf8, false, "SHA-256 of the content."),
            ("content", DataType::Utf8, false, "The invoice as canonical JSON."),
            ("issued_at", instant(), true, "When it got its number."),
        ],
        move || {
            let books = books.clone();
            Box::pin(async move {
                of_invoices(&books, |stored| {
                    let (invoice, issue) = (&stored.invoice, stored.issue.as_ref());
                    vec![vec![
                        invoice.invoice_id.as_str().into(),
                        issue.map(platform_billing::Issue::shown).into(),
                        invoice.organization.as_str().into(),
                        invoice.currency.as_str().into(),
                        invoice.period.into(),
                        issue.map_or("draft", |_| "issued").into(),
                        invoice.total.into(),
                        u64::try_from(invoice.lines.len() + invoice.terms.len()).unwrap_or(u64::MAX).into(),
                        invoice.registry_version.into(),
                        invoice.digest().into(),
                        invoice.canonical().into(),
                        issue.map(|issue| issue.issued_at).into(),
                    ]]
                })
                .await
            })
        },
    )
}

fn lines(readers: &Readers) -> anyhow::Result<Arc<dyn ReadModel>> {
    let books = readers.books.clone();
    model(
        "billing.invoice_lines",
        "platform-billing",
        "One row for each line of an invoice: what one key owes more than earlier invoices said.",
        OURS,
        &[
            ("invoice_id", DataType::Utf8, false, "The invoice."),
            ("number", DataType::Int64, false, "The line, from 1."),
            ("organization", DataType::Utf8, false, "Who owes."),
            ("currency", DataType::Utf8, false, "In which currency."),
            ("period", DataType::Int32, false, "The accounting month whose close made the invoice, yyyymm."),
            ("kind", DataType::Utf8, false, "usage, or adjustment of what was invoiced before."),
            ("contract", DataType::Utf8, false, "Under which agreement."),
            ("contract_line", DataType::Utf8, false, "Contract and SKU."),
            ("sku_id", DataType::Utf8, false, "What was sold."),
            ("description", DataType::Utf8, false, "For people."),
            ("service_period", DataType::Int32, false, "When the usage happened, yyyymm."),
            ("unit", DataType::Utf8, false, "What the quantity counts."),
            ("quantity", DataType::Decimal128(38, 9), false, "Quantity since the last close."),
            ("readings", DataType::Int64, false, "Readings since the last close."),
            ("amount", MONEY, false, "What is asked for: rounded to the currency."),
            ("exact", MONEY, false, "What was booked since the last close."),
            ("rounding", MONEY, false, "amount minus exact."),
            ("key_total", MONEY, false, "Running total of the key at the close."),
            ("key_quantity", DataType::Decimal128(38, 9), false, "Quantity of the key at the close."),
            ("invoiced_before", MONEY, false, "What earlier invoices asked for the key."),
        ],
        move || {
            let books = books.clone();
            Box::pin(async move {
                of_invoices(&books, |stored| {
                    let invoice = &stored.invoice;
                    let row = |line: &platform_billing::Line| {
                        vec![
                            invoice.invoice_id.as_str().into(),
                            line.number.into(),
                            invoice.organization.as_str().into(),
                            invoice.currency.as_str().into(),
                            invoice.period.into(),
                            line.kind.name().into(),
                            line.contract.as_str().into(),
                            line.contract_line.as_str().into(),
                            line.sku.as_str().into(),
                            line.description.as_str().into(),
                            line.service_period.into(),
                            line.unit.as_str().into(),
                            line.quantity.into(),
                            line.readings.into(),
                            line.amount.into(),
                            line.exact.into(),
                            line.rounding.into(),
                            line.key_total.into(),
                            line.key_quantity.into(),
                            line.invoiced_before.into(),
                        ]
                    };
                    invoice.lines.iter().map(row).collect()
                })
                .await
            })
        },
    )
}

fn terms(readers: &Readers) -> anyhow::Result<Arc<dyn ReadModel>> {
    let books = readers.books.clone();
    model(
        "billing.invoice_terms",
        "platform-billing",
        "One row for each line of an invoice that a term of a contract makes: what it comes to, less what earlier invoices said.",
        OURS,
        &[
            ("invoice_id", DataType::Utf8, false, "The invoice."),
            ("number", DataType::Int64, false, "The line: numbers go on behind those of billing.invoice_lines."),
            ("organization", DataType::Utf8, false, "Who owes."),
            ("currency", DataType::Utf8, false, "In which currency."),
            ("period", DataType::Int32, false, "The accounting month whose close made the invoice, yyyymm."),
            ("kind", DataType::Utf8, false, "discount, capacity, graduated_discount, commitment, maximum_spend or minimum_spend."),
            ("contract", DataType::Utf8, false, "Under which agreement."),
            ("contract_line", DataType::Utf8, false, "Contract and term, as in ledger.postings."),
            ("term", DataType::Utf8, false, "Its name in the contract."),
            ("description", DataType::Utf8, false, "For people."),
            ("service_period", DataType::Int32, false, "Whose spend it is about, yyyymm."),
            ("amount", MONEY, false, "What is asked for: term_amount minus invoiced_before."),
            ("spend", MONEY, false, "What the term was applied to."),
            ("term_amount", MONEY, false, "What it adds to the spend, or takes off where below zero."),
            ("invoiced_before", MONEY, false, "What earlier invoices said of the term and service period."),
            ("months", DataType::Int64, true, "How many service periods the term looks at together; null where at each by itself."),
            ("spend_before", MONEY, true, "What it was applied to in the earlier ones of these; null without months."),
            ("amount_before", MONEY, true, "What it came to in the earlier ones of these; null without months."),
        ],
        move || {
            let books = books.clone();
            Box::pin(async move {
                of_invoices(&books, |stored| {
                    let invoice = &stored.invoice;
                    let row = |term: &platform_billing::TermLine| {
                        vec![
                            invoice.invoice_id.as_str().into(),
                            term.number.into(),
                            invoice.organization.as_str().into(),
                            invoice.currency.as_str().into(),
                            invoice.period.into(),
                            term.rule.kind().into(),
                            term.contract.as_str().into(),
                            term.contract_line().as_str().into(),
                            term.term.as_str().into(),
                            term.description.as_str().into(),
                            term.service_period.into(),
                            term.amount.into(),
                            term.spend.into(),
                            term.term_amount.into(),
                            term.invoiced_before.into(),
                            term.window.map(|window| u64::from(window.months)).into(),
                            term.window.map(|window| window.spend_before).into(),
                            term.window.map(|window| window.amount_before).into(),
                        ]
                    };
                    invoice.terms.iter().map(row).collect()
                })
                .await
            })
        },
    )
}

fn periods(readers: &Readers) -> anyhow::Result<Arc<dyn ReadModel>> {
    let books = readers.books.clone();
    model(
        "billing.periods",
        "platform-billing",
        "One row for each close: the month that it closed with all before it, and what became of it.",
        Audience::Operator,
        &[
            ("period", DataType::Int32, false, "The month, yyyymm."),
            ("stage", DataType::Utf8, false, "closing, drafted or issued."),
            ("provisional", DataType::Utf8, false, "yes until the second opinion agrees, then no."),
            ("invoices", DataType::Int64, true, "How many were drafted; null while drafting goes on."),
            ("issued", DataType::Int64, false, "How many of them have their number."),
            ("registry_version", DataType::Utf8, false, "Registry version in force at the close."),
            ("last_batch", DataType::Int64, false, "End of the cut in which the last shard passed."),
        ],
        move || {
            let books = books.clone();
            Box::pin(async move {
                let closes = platform_billing::closes(&mut books.read().await?).await?;
                Ok(closes
                    .into_iter()
                    .map(|close| {
                        vec![
                            close.period.into(),
                            close.stage().into(),
                            if close.provisional() { "yes" } else { "no" }.into(),
                            close.drafted.into(),
                            close.issued.into(),
                            close.registry_version.into(),
                            close.last_batch.0.into(),
                        ]
                    })
                    .collect())
            })
        },
    )
}
