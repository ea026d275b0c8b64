//! `tally invoice list|show|compare`: what is asked of customers, as text that one would send, JSON, or CSV.

pub mod changes;
pub mod terms;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Subcommand;
use platform_billing::{Billed, CloseError, Invoice, Line, LineKind, Measured, StoredInvoice};
use platform_registry::{Reach, Scope};
use serde::Serialize;
use serde_json::{Value, json};
use shared_db::Transaction;
use shared_types::{ControlNo, Digest, Month, OrganizationId};

use self::changes::{Compared, NotCompared};
use super::Refused;
use crate::answers::Answers;
use crate::contract::wire;
use crate::home::{Home, Store};
use crate::story;
use crate::{Common, Format, Outcome};

/// What of invoices.
#[derive(Subcommand)]
pub enum InvoiceCommand {
    /// List invoices, drafts included.
    List {
        /// Only those of this closed month, for example 2026-10.
        #[arg(long, value_parser = Month::parse)]
        period: Option<Month>,
        /// Only those of this organization.
        #[arg(long)]
        organization: Option<OrganizationId>,
    },
    /// Show one invoice with its lines.
    Show {
        /// Its id, or its number, for example TALLY-000042.
        invoice: String,
    },
    /// Say why a bill changed: what volume, price and mix moved, exact to the last cent.
    Compare {
        /// The earlier invoice: its id, or its number.
        before: String,
        /// The later one, of the same organization.
        after: String,
    },
}

/// Runs an invoice command.
pub async fn run(command: InvoiceCommand, common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    if common.format == Format::Arrow {
        return Err(Refused("invoices are shown as text, json or csv; `tally sql` answers in arrow".to_owned()).into());
    }
    match command {
        InvoiceCommand::List { period, organization } => {
            let mut found = platform_billing::invoices(&mut books(&home).await?).await?;
            found.retain(|stored| {
                period.is_none_or(|period| stored.invoice.period == period)
                    && organization.as_ref().is_none_or(|organization| stored.invoice.organization == *organization)
            });
            let place = |stored: &StoredInvoice| {
                (stored.invoice.period, stored.issue.as_ref().map_or(u64::MAX, |issue| issue.number), stored.invoice.organization.clone())
            };
            found.sort_by_key(place);
            print!("{}", list(&found, common.format));
        }
        InvoiceCommand::Show { invoice } => {
            let mut books = books(&home).await?;
            let stored = find(&mut books, &invoice).await?;
            let measured = story::measured(&Answers::open(&home).await?, &stored.invoice).await?;
            match common.format {
                Format::Json => {
                    let mut view = view(&stored);
                    let causes = causes(&mut books, &stored.invoice).await?;
                    let causes = causes.iter().map(|(line, cause)| json!({"line": line, "cause": cause})).collect();
                    if let Some(view) = view.as_object_mut() {
                        view.insert("causes".to_owned(), causes);
                        view.insert("measured".to_owned(), json!(views(&measured)));
                    }
                    println!("{view}");
                }
                Format::Csv => print!("{}", csv_lines(&stored, &measured)),
                _ => print!("{}", page(&stored, &causes(&mut books, &stored.invoice).await?, &measured)),
            }
        }
        InvoiceCommand::Compare { before, after } => {
            let mut books = books(&home).await?;
            let (before, after) = (find(&mut books, &before).await?, find(&mut books, &after).await?);
            let compared = Compared::of(&Answers::open(&home).await?, before, after).await.map_err(|error| match error {
                NotCompared::Changes(error) => Refused(error.to_string()).into(),
                NotCompared::Story(error) => anyhow::Error::from(error),
            })?;
            match common.format {
                Format::Json => println!("{}", compared.view()),
                Format::Csv => print!("{}", compared.csv()),
                _ => print!("{}", compared.page()),
            }
        }
    }
    Ok(Outcome::Done)
}

async fn books(home: &Home) -> anyhow::Result<Transaction> {
    Ok(home.database_read_only(Store::Books).await?.read().await?)
}

/// By id, or by the number that stands on it.
pub async fn find(books: &mut Transaction, name: &str) -> anyhow::Result<StoredInvoice> {
    let found = match platform_billing::invoice(books, name).await {
        Err(CloseError::NoInvoice { .. }) => platform_billing::numbered_invoice(books, name).await,
        found => found,
    };
    found.map_err(|error| match error {
        CloseError::NoInvoice { .. } => Refused(error.to_string()).into(),
        error => error.into(),
    })
}

/// An invoice for scripts: its content, and its issue.
fn view(stored: &StoredInvoice) -> Value {
    let issue = stored.issue.as_ref().map(|issue| {
        json!({
            "number": issue.shown(),
            "issued_at": issue.issued_at,
            "ledger_entry": issue.entry_no.map(|entry| entry.to_string()),
        })
    });
    let content: Value = serde_json::from_str(&stored.invoice.canonical()).unwrap_or_default();
    json!({"invoice": content, "digest": stored.invoice.digest(), "issue": issue})
}

fn state(stored: &StoredInvoice) -> String {
    stored.issue.as_ref().map_or_else(|| "draft".to_owned(), platform_billing::Issue::shown)
}

fn list(found: &[StoredInvoice], format: Format) -> String {
    let mut out = String::new();
    match format {
        Format::Json => out = format!("{}\n", json!(found.iter().map(view).collect::<Vec<_>>())),
        Format::Csv => {
            out.push_str("number,invoice_id,period,organization,currency,lines,total\n");
            for stored in found {
                let invoice = &stored.invoice;
                let row = [
                    state(stored),
                    invoice.invoice_id.to_string(),
                    invoice.period.to_string(),
                    invoice.organization.to_string(),
                    invoice.currency.to_string(),
                    (invoice.lines.len() + invoice.terms.len()).to_string(),
                    money(invoice.total, invoice.rounding.scale),
                ];
                out.push_str(&csv_row(&row));
            }
        }
        _ if found.is_empty() => out.push_str("no invoices; `tally close MONTH` makes those of a month\n"),
        _ => {
            let width = found.iter().map(|stored| stored.invoice.organization.as_str().len()).max().unwrap_or(0);
            for stored in found {
                let invoice = &stored.invoice;
                // Writing to a string does not fail.
                let _ = writeln!(
                    out,
                    "{:<14} {}  {:<width$}  {:>18} {}  {}",
                    state(stored),
                    invoice.period,
                    invoice.organization.as_str(),
                    money(invoice.total, invoice.rounding.scale),
                    invoice.currency,
                    invoice.invoice_id,
                );
            }
        }
    }
    out
}

/// An amount with all decimal places of its currency.
pub(crate) fn money(amount: impl Into<shared_types::Sum>, scale: u32) -> String {
    let text = amount.into().to_string();
    let scale = usize::try_from(scale).unwrap_or(0);
    let (whole, places) = text.split_once('.').unwrap_or((&text, ""));
    if scale == 0 || places.len() > scale { text.clone() } else { format!("{whole}.{places:0<scale$}") }
}

/// Digits in groups of three.
pub(crate) fn grouped(number: &str) -> String {
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("-", digits));
    let (whole, places) = digits.split_once('.').map_or((digits, None), |(whole, places)| (whole, Some(places)));
    let mut out = String::from(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(places) = places {
        out.push('.');
        out.push_str(places);
    }
    out
}

fn csv_row(cells: &[String]) -> String {
    let quoted = |cell: &String| {
        if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.clone() }
    };
    cells.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n"
}

wire! {
    /// What a line counts where its prices measure something else than the sum of what was read: hours held, a mean level.
    #[derive(Serialize)]
    pub struct MeasuredView {
        /// The line's number.
        pub line: u64,
        /// Since the last close; rounded to nine places where no decimal is exact.
        pub quantity: String,
        /// What it counts: the meter's unit, or its hours, for example `gpu h`.
        pub unit: String,
        /// How it is measured, in words.
        pub words: String,
        /// The same of the line's prices, so far, by `price_id`.
        pub prices: BTreeMap<String, String>,
    }
}

/// What lines measure, for scripts.
pub fn views(measured: &BTreeMap<u64, Measured>) -> Vec<MeasuredView> {
    let view = |(line, measured): (&u64, &Measured)| MeasuredView {
        line: *line,
        quantity: measured.quantity.to_string(),
        unit: measured.unit.clone(),
        words: measured.words.clone(),
        prices: measured.prices.iter().map(|(price, quantity)| (price.to_string(), quantity.to_string())).collect(),
    };
    measured.iter().map(view).collect()
}

/// Its lines for a spreadsheet.
///
/// - `measured`: what lines count in the place of their quantity, by number.
pub fn csv_lines(stored: &StoredInvoice, measured: &BTreeMap<u64, Measured>) -> String {
    let invoice = &stored.invoice;
    let billed = Billed { invoice, measured };
    let mut out = String::from(
        "number,line,kind,service_period,sku,description,quantity,unit,readings,amount,currency,exact,rounding,invoiced_before,measured,measured_unit\n",
    );
    for line in &invoice.lines {
        out.push_str(&csv_row(&[
            state(stored),
            line.number.to_string(),
            line.kind.name().to_owned(),
            line.service_period.to_string(),
            line.sku.to_string(),
            line.description.clone(),
            line.quantity.to_string(),
            line.unit.to_string(),
            line.readings.to_string(),
            money(line.amount, invoice.rounding.scale),
            invoice.currency.to_string(),
            line.exact.to_string(),
            line.rounding.to_string(),
            money(line.invoiced_before, invoice.rounding.scale),
            billed.quantity(line).to_string(),
            billed.unit(line),
        ]));
    }
    for term in &invoice.terms {
        out.push_str(&csv_row(&[
            state(stored),
            term.number.to_string(),
            term.rule.kind().to_owned(),
            term.service_period.to_string(),
            String::new(),
            term.description.clone(),
            String::new(),
            String::new(),
            String::new(),
            money(term.amount, invoice.rounding.scale),
            invoice.currency.to_string(),
            term.amount.to_string(),
            "0".to_owned(),
            money(term.invoiced_before, invoice.rounding.scale),
            String::new(),
            String::new(),
        ]));
    }
    out
}

/// Why lines have what was rated again on them: number of the line, and the cause in words.
///
/// Changes of contracts are not told in the registry's words: these name other organizations.
pub async fn causes(books: &mut Transaction, invoice: &Invoice) -> anyhow::Result<Vec<(u64, String)>> {
    let closes = platform_billing::closes(books).await?;
    let previous = closes.iter().find(|close| close.period == invoice.period).and_then(|close| close.previous);
    let reratings = platform_billing::reratings_of(books, &invoice.organization, previous, invoice.period).await?;
    let mut causes = Vec::new();
    for rerating in &reratings {
        let line = invoice.lines.iter().find(|line| {
            (&line.contract, &line.sku, line.service_period, &invoice.currency)
                == (&rerating.contract, &rerating.sku, rerating.service_period, &rerating.currency)
        });
        let Some(line) = line else { continue };
        let version = rerating.by.registry_version;
        let mut because: Vec<String> = Vec::new();
        for reach in changes_of(books, version).await? {
            let told = match &reach.scope {
                Scope::Skus(skus) => skus.contains(&rerating.sku),
                Scope::SkusUnder(skus, contracts) => skus.contains(&rerating.sku) && contracts.contains(&rerating.contract),
                _ => false,
            };
            if told && reach.effective_at.is_some_and(|at| rerating.service_period.next().is_none_or(|next| at < next.start())) {
                because.push(reach.what);
            }
        }
        if because.is_empty() {
            because.push("the prices that its usage falls under are others".to_owned());
        }
        let short: String = version.to_string().chars().take(12).collect();
        causes.push((line.number, format!("{} by rating again under version {short}: {}", rerating.amount, because.join("; "))));
    }
    Ok(causes)
}

/// What a version changed when it was put in force last with usage rated again.
async fn changes_of(books: &mut Transaction, address: Digest) -> anyhow::Result<Vec<Reach>> {
    // A version that is put in force once more, for usage that waited for it, changes what the version before it said.
    let (mut in_force, mut before, mut found) = (None, None, None);
    for control in platform_registry::store::controls_after(books, ControlNo(0)).await? {
        let Some(version) = control.registry_version() else { continue };
        if in_force != Some(version) {
            (before, in_force) = (in_force, Some(version));
        }
        if version == address && control.rerates() {
            found = before;
        }
    }
    let Some(old) = found else { return Ok(Vec::new()) };
    let old = platform_registry::store::version(books, old).await?;
    let new = platform_registry::store::version(books, address).await?;
    Ok(old.zip(new).map(|(old, new)| platform_registry::reach_back(&old, &new)).unwrap_or_default())
}

/// One page, as one would send it.
///
/// - `causes`: of what was rated again, by line.
/// - `measured`: what lines count in the place of their quantity, by number.
pub fn page(stored: &StoredInvoice, causes: &[(u64, String)], measured: &BTreeMap<u64, Measured>) -> String {
    let invoice = &stored.invoice;
    let billed = Billed { invoice, measured };
    let scale = invoice.rounding.scale;
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = match &stored.issue {
        Some(issue) => writeln!(out, "INVOICE {}", issue.shown()),
        None => writeln!(out, "DRAFT INVOICE (no number yet)"),
    };
    let mut fact = |name: &str, value: String| {
        let _ = writeln!(out, "  {name:<12} {value}");
    };
    fact("To", invoice.organization.to_string());
    fact("Month", format!("{}, closed", invoice.period));
    if let Some(issue) = &stored.issue {
        fact("Issued", issue.issued_at.to_string());
    }
    fact("Id", invoice.invoice_id.to_string());
    let descriptions = invoice.lines.iter().map(|line| &line.description).chain(invoice.terms.iter().map(|term| &term.description));
    let width = descriptions.map(|description| description.chars().count()).max().unwrap_or(0).max(11);
    let _ = writeln!(
        out,
        "\n  {:<4} {:<8} {:<width$} {:>22} {:<12} {:>18}",
        "Line", "Usage of", "Description", "Quantity", "", invoice.currency
    );
    for line in &invoice.lines {
        let _ = writeln!(
            out,
            "  {:<4} {:<8} {:<width$} {:>22} {:<12} {:>18}",
            line.number,
            line.service_period.to_string(),
            line.description,
            grouped(&billed.quantity(line).to_string()),
            billed.unit(line),
            grouped(&money(line.amount, scale)),
        );
        let causes: Vec<&str> = causes.iter().filter(|(number, _)| *number == line.number).map(|(_, cause)| cause.as_str()).collect();
        for note in notes(line, measured.get(&line.number), scale, &causes) {
            let _ = writeln!(out, "  {:<4} {:<8} {note}", "", "");
        }
    }
    for term in &invoice.terms {
        let (number, period, amount) = (term.number, term.service_period.to_string(), grouped(&money(term.amount, scale)));
        let _ = writeln!(out, "  {number:<4} {period:<8} {:<width$} {:>22} {:<12} {amount:>18}", term.description, "", "");
        for note in terms::notes(term, scale) {
            let _ = writeln!(out, "  {:<4} {:<8} {note}", "", "");
        }
    }
    let _ = writeln!(out, "  {:<4} {:<8} {:<width$} {:>22} {:<12} {:>18}", "", "", "Total", "", "", grouped(&money(invoice.total, scale)));
    let _ = writeln!(out, "\n  Prices: registry version {}", invoice.registry_version);
    for log in &invoice.logs {
        let _ = writeln!(out, "  Proof: readings {} to {} of the log of {}", log.from + 1, log.to, log.month);
    }
    out
}

/// What a reader of a line needs beside its figures.
fn notes(line: &Line, measured: Option<&Measured>, scale: u32, causes: &[&str]) -> Vec<String> {
    let mut notes: Vec<String> = causes.iter().map(|cause| (*cause).to_owned()).collect();
    if line.kind == LineKind::Adjustment {
        let what = if causes.is_empty() { "usage that came late" } else { "corrected" };
        notes.push(format!(
            "{what}: {} now, {} on earlier invoices",
            grouped(&money(line.key_amount, scale)),
            grouped(&money(line.invoiced_before, scale))
        ));
    }
    for price in &line.prices {
        let of_price = measured.and_then(|measured| Some((*measured.prices.get(&price.price_id)?, measured.unit.as_str())));
        let (quantity, unit) = of_price.unwrap_or((price.quantity, line.unit.as_str()));
        notes.push(format!("at price {}: {} {} in {} readings", price.price_id, grouped(&quantity.to_string()), unit, price.readings));
    }
    notes.extend(measured.map(|measured| format!("counted is {}", measured.words)));
    if line.prices.is_empty() {
        let what = if line.kind == LineKind::Adjustment { "free of charge, or taken back" } else { "free of charge" };
        notes.push(format!("{what}: {} readings", line.key_readings));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_has_the_places_of_its_currency_and_digits_stand_in_groups() {
        let amount = |text: &str| shared_types::Amount::parse(text).unwrap();
        for (text, scale, shown) in [("1234.5", 2, "1,234.50"), ("-0.5", 2, "-0.50"), ("7", 0, "7"), ("1000000", 2, "1,000,000.00")] {
            assert_eq!(grouped(&money(amount(text), scale)), shown);
        }
        assert_eq!(csv_row(&["a,b".to_owned(), "c\"d".to_owned()]), "\"a,b\",\"c\"\"d\"\n");
    }
}
