//! An explanation as one page of text, for someone who distrusts the amount. Layout only: every figure comes from the explanation.

use std::fmt::Write as _;

use shared_types::{Amount, Month, Quantity};

use super::{Explanation, LineFacts, Part, PartBasis, PartCommitment, PartStep, Subject, Verdict, Worth};
use crate::charges::Rated;
use crate::evaluate::Rule;
use crate::ratio::Ratio;

/// The page.
pub(super) fn of(explanation: &Explanation) -> String {
    let mut page = Page(String::new());
    let currency = explanation.key.as_ref().map(|key| key.currency.as_str()).unwrap_or_default();
    page.line(&title(explanation, currency));
    page.line("");
    page.facts(&facts(explanation));
    let unit = explanation.key.as_ref().and_then(|key| key.unit.as_ref()).map(|unit| format!(" {unit}")).unwrap_or_default();
    match (&explanation.verdict, &explanation.subject) {
        (Verdict::Quarantined { reason }, _) => {
            page.line("");
            page.line(&format!("It was not charged: quarantined as {reason}. It is in no total and on no invoice."));
        }
        (Verdict::Free { rule }, _) => {
            page.line("");
            page.line(&format!("Nothing is owed for it, by the rule {rule}. It is counted, but does not enter the running total."));
        }
        (Verdict::Charged { before, after, amount }, _) => {
            page.prices(&[("before", before), ("after", after)], &unit);
            page.totals(&[("before", before), ("after", after)], "so far");
            page.line("");
            page.line(&format!(
                "The charge is T after this reading minus T before it: {} - {} = {amount} {currency}",
                after.total, before.total
            ));
        }
        (Verdict::TakenBack { amount }, _) => {
            page.line("");
            page.line(&format!("It takes back what this reading was charged before it was rated again: {amount} {currency}."));
        }
        (Verdict::Total { worth }, Subject::Line(line)) => {
            page.prices(&[("", worth)], &unit);
            page.totals(&[("", worth)], "up to the close");
            page.invoiced(line, currency);
        }
        (Verdict::Total { worth }, _) => {
            page.prices(&[("", worth)], &unit);
            page.totals(&[("", worth)], "so far");
        }
    }
    page.0
}

fn title(explanation: &Explanation, currency: &str) -> String {
    match (&explanation.subject, &explanation.verdict) {
        (Subject::Charge(rated), verdict) => {
            let came_to = match verdict {
                Verdict::Charged { amount, .. } | Verdict::TakenBack { amount } => format!("{amount} {currency}"),
                Verdict::Total { worth } => format!("{} {currency}", worth.total),
                Verdict::Free { .. } => "free".to_owned(),
                Verdict::Quarantined { .. } => "not charged".to_owned(),
            };
            format!("Charge {}:{}: {came_to}", rated.identity, rated.ordinal)
        }
        (Subject::Key, Verdict::Total { worth }) => format!("Running total: {} {currency}", worth.total),
        (Subject::Key, _) => "Running total".to_owned(),
        (Subject::Line(line), _) => format!("Line {} of invoice {}: {} {currency}", line.number, line.invoice, line.amount),
    }
}

fn facts(explanation: &Explanation) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let rated = match &explanation.subject {
        Subject::Charge(rated) => Some(rated.as_ref()),
        Subject::Key | Subject::Line(_) => None,
    };
    let key = explanation.key.as_ref();
    let organization = rated.map(|rated| &rated.organization).or(key.map(|key| &key.organization));
    if let Some(organization) = organization {
        let project = rated.and_then(|rated| rated.project.as_ref()).map(|project| format!(", project {project}")).unwrap_or_default();
        facts.push(("organization", format!("{organization}{project}")));
    }
    if let Some(rated) = rated {
        facts.extend(reading(rated));
    }
    if let Some(key) = key {
        let description = key.description.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
        facts.push(("contract line", format!("{}{description}", key.contract_line)));
        let booked = rated.map(|rated| format!(", in the books of {}", month(rated.accounting_period))).unwrap_or_default();
        facts.push(("service period", format!("{}{booked}", month(key.service_period))));
        facts.push(("prices of", format!("registry version {}", key.registry_version)));
    }
    facts
}

fn reading(rated: &Rated) -> Vec<(&'static str, String)> {
    let until = rated.end_at.map(|at| format!(" to {at}")).unwrap_or_default();
    let mut facts = vec![
        ("usage", format!("{} {} of the meter {}", rated.quantity, rated.unit, rated.meter)),
        ("used at", format!("{}{until}", rated.start_at)),
        (
            "sent by",
            format!(
                "source {}, {} at {}",
                rated.source,
                if rated.supersedes.is_some() { "rated again" } else { "accepted" },
                rated.accepted_at
            ),
        ),
    ];
    let dimensions: Vec<String> = rated.dimensions.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    if !dimensions.is_empty() {
        facts.push(("dimensions", dimensions.join(", ")));
    }
    facts
}

fn month(month: Month) -> String {
    let number = month.number();
    format!("{:04}-{:02}", number.div_euclid(100), number.rem_euclid(100))
}

/// What a rule does, in words.
fn meaning(rule: Rule) -> &'static str {
    match rule.of_model() {
        Rule::PerUnit => "quantity times price",
        Rule::Package => "every begun package is owed",
        Rule::Graduated => "the part of the quantity in each tier at the price of that tier",
        Rule::Volume => "the whole quantity at the price of the tier that it reaches",
        Rule::Free => "nothing is owed",
        Rule::Percentage => "a share of the value, and a fee for each reading where there is one",
        Rule::Blocks => "the part of the quantity in each tier in blocks of that tier, begun ones counted",
        Rule::TopBlocks => "the whole quantity in blocks of the tier that it reaches, begun ones counted",
        Rule::Flat => "one amount for the service period, whatever the quantity",
        _ => "",
    }
}

/// Two states side by side, or one: each with its name.
type Columns<'a> = [(&'static str, &'a Worth)];

struct Page(String);

impl Page {
    fn line(&mut self, text: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{}", text.trim_end());
    }

    fn facts(&mut self, facts: &[(&'static str, String)]) {
        let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, value) in facts {
            self.line(&format!("  {name:<width$}  {value}"));
        }
    }

    /// One table for each price row that any of the states names.
    fn prices(&mut self, columns: &Columns<'_>, unit: &str) {
        let mut names: Vec<&Part> = Vec::new();
        for part in columns.iter().flat_map(|(_, worth)| &worth.parts) {
            if !names.iter().any(|known| known.price_id == part.price_id) {
                names.push(part);
            }
        }
        names.sort_by(|a, b| a.price_id.cmp(&b.price_id));
        for shown in names {
            self.line("");
            self.line(&format!("Price {}, for usage from {} on", shown.price_id, shown.effective_at));
            let size = match shown.rule.of_model() {
                Rule::Package => format!("a package is {}{unit}", shown.per),
                Rule::Free | Rule::Flat | Rule::Blocks | Rule::TopBlocks => String::new(),
                _ => format!("prices are for {}{unit}", shown.per),
            };
            self.line(format!("Rule {}: {}; {size}", shown.rule.code(), meaning(shown.rule)).trim_end_matches("; "));
            self.line("");
            self.basis(shown, columns);
            self.steps(shown, columns);
            self.commitment(shown, columns);
        }
    }

    /// What is priced in place of Σ quantity, where something is.
    fn basis(&mut self, shown: &Part, columns: &Columns<'_>) {
        let Some(basis) = &shown.basis else { return };
        for rule in &basis.rules {
            self.line(&format!("  - {rule}"));
        }
        // How it came about in the end: the state that the last column shows.
        let last = columns.last().and_then(|(_, worth)| worth.parts.iter().find(|part| part.price_id == shown.price_id));
        let how = last.and_then(|part| part.basis.as_ref()).map(|basis| basis.how.as_slice()).unwrap_or_default();
        if !how.is_empty() {
            self.line("");
            self.line("  How it came about");
            how.iter().for_each(|sentence| self.line(&format!("    {sentence}")));
        }
        self.line("");
        if basis.measured == basis.billed && shown.rule == shown.rule.of_model() {
            return;
        }
        let mut table = Table::default();
        let mut row = |name: &str, pick: fn(&PartBasis) -> &Vec<Ratio>| {
            let cell = |worth: &Worth| {
                let part = worth.parts.iter().find(|part| part.price_id == shown.price_id);
                part.and_then(|part| part.basis.as_ref()).map_or_else(|| "-".to_owned(), |basis| several(pick(basis)))
            };
            table.row(std::iter::once(name.to_owned()).chain(columns.iter().map(|(_, worth)| cell(worth))).collect());
        };
        row("measured", |basis| &basis.measured);
        row("billed", |basis| &basis.billed);
        self.table(&table);
        self.line("");
    }

    fn steps(&mut self, shown: &Part, columns: &Columns<'_>) {
        let parts: Vec<Option<&Part>> =
            columns.iter().map(|(_, worth)| worth.parts.iter().find(|part| part.price_id == shown.price_id)).collect();
        let mut bounds: Vec<&PartStep> = Vec::new();
        for step in parts.iter().flatten().flat_map(|part| &part.steps) {
            if !bounds.iter().any(|known| is_like(known, step)) {
                bounds.push(step);
            }
        }
        bounds.sort_by_key(|step| step.above);
        let mut table = Table::default();
        let mut head = vec![if has_tiers(shown.rule) { "tier" } else { "" }.to_owned(), "price".to_owned()];
        let counted = match shown.rule.of_model() {
            Rule::Package => "packages",
            Rule::Blocks | Rule::TopBlocks => "blocks",
            Rule::Percentage => "value or readings",
            _ => "quantity",
        };
        for (name, _) in columns {
            head.push(format!("{counted} {name}"));
            head.push(format!("money {name}"));
        }
        table.row(head);
        for bound in bounds {
            let fee = if bound.flat_fee.units() == 0 { String::new() } else { format!(" + {} once", bound.flat_fee) };
            let block = bound.block.map(|size| format!(" for {size}")).unwrap_or_default();
            let each =
                if bound.packages.is_some() && bound.block.is_none() && shown.rule.of_model() != Rule::Package { " each" } else { "" };
            let mut row =
                vec![if has_tiers(shown.rule) { tier(bound) } else { String::new() }, format!("{}{block}{each}{fee}", bound.unit_price)];
            for part in &parts {
                let step = part.and_then(|part| part.steps.iter().find(|step| is_like(step, bound)));
                row.push(
                    step.map_or_else(|| "-".to_owned(), |step| step.packages.map_or(step.quantity.to_string(), |count| count.to_string())),
                );
                row.push(step.map_or_else(|| "-".to_owned(), |step| step.exact.clone()));
            }
            table.row(row);
        }
        self.table(&table);
    }

    /// What windows come to against what was promised for them, where something was.
    fn commitment(&mut self, shown: &Part, columns: &Columns<'_>) {
        let part = |worth: &&Worth| worth.parts.iter().find(|part| part.price_id == shown.price_id).cloned();
        let parts: Vec<Option<Part>> = columns.iter().map(|(_, worth)| part(worth)).collect();
        let Some(factor) = shown.commitment.as_ref().map(|commitment| commitment.overage_factor) else { return };
        self.line("");
        self.line("  Each window against what was promised for it, money exactly");
        let mut table = Table::default();
        if columns.len() > 1 {
            table.row(std::iter::once(String::new()).chain(columns.iter().map(|(name, _)| (*name).to_owned())).collect());
        }
        let mut row = |name: &str, value: &dyn Fn(&Part, &PartCommitment) -> String| {
            let cell = |part: &Option<Part>| {
                let found = part.as_ref().and_then(|part| Some(value(part, part.commitment.as_ref()?)));
                found.unwrap_or_else(|| "-".to_owned())
            };
            table.row(std::iter::once(name.to_owned()).chain(parts.iter().map(cell)).collect());
        };
        row("windows with readings", &|_, commitment| commitment.used.to_string());
        row("windows without, owed in full", &|_, commitment| commitment.unused.to_string());
        row("cost at the prices above", &|_, commitment| commitment.cost.clone());
        row("of it within what was promised", &|_, commitment| commitment.within.clone());
        row(&format!("beyond it, times {factor}"), &|_, commitment| commitment.overage.clone());
        row("promised, missing and owed", &|_, commitment| commitment.true_up.clone());
        row("together", &|part, _| part.exact.clone());
        self.table(&table);
    }

    /// What the prices add up to, and the one rounding.
    fn totals(&mut self, columns: &Columns<'_>, until: &str) {
        self.line("");
        self.line(&format!("All readings of the contract line and service period {until}"));
        self.line("");
        let mut table = Table::default();
        let row = |name: &str, value: fn(&Worth) -> String| {
            std::iter::once(name.to_owned()).chain(columns.iter().map(|(_, worth)| value(worth))).collect::<Vec<_>>()
        };
        if columns.len() > 1 {
            table.row(std::iter::once(String::new()).chain(columns.iter().map(|(name, _)| (*name).to_owned())).collect());
        }
        table.row(row("readings", |worth| worth.readings.to_string()));
        table.row(row("quantity", |worth| quantity(worth).to_string()));
        let committed = columns.iter().flat_map(|(_, worth)| &worth.parts).any(|part| part.commitment.is_some());
        let name = if committed { "F, the sum of what each price comes to, exactly" } else { "F, the sum of the money above, exactly" };
        table.row(row(name, |worth| worth.exact.clone()));
        table.row(row("T, F rounded once to 9 places, half to even", |worth| worth.total.to_string()));
        self.table(&table);
    }

    fn invoiced(&mut self, line: &LineFacts, currency: &str) {
        self.line("");
        let way = match line.mode.as_str() {
            "half_even" => "half to the even digit",
            _ => "half away from zero",
        };
        let rounding = line.key_amount.checked_sub(line.key_total).unwrap_or_default();
        self.line(&format!(
            "T at the close, rounded to {} places, {way}: {} {currency}; the difference of {rounding} is a posting of its own",
            line.scale, line.key_amount
        ));
        if line.invoiced_before == Amount::ZERO {
            self.line(&format!("Nothing of it was invoiced before: the line asks for {} {currency}", line.amount));
        } else {
            self.line(&format!(
                "Invoices before asked for {}: the line asks for {} - {} = {} {currency}",
                line.invoiced_before, line.key_amount, line.invoiced_before, line.amount
            ));
        }
    }

    fn table(&mut self, table: &Table) {
        let columns = table.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| table.rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or_default();
        let widths: Vec<usize> = (0..columns).map(width).collect();
        // A column in which nothing stands takes no room.
        let shown = |column: &usize| widths.get(*column).is_some_and(|width| *width > 0);
        for row in &table.rows {
            let cells = (0..columns).filter(shown).map(|column| {
                let cell = row.get(column).map(String::as_str).unwrap_or_default();
                let width = widths.get(column).copied().unwrap_or_default();
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            self.line(&format!("  {}", cells.collect::<Vec<_>>().join("  ")));
        }
    }
}

#[derive(Default)]
struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.into_iter().map(|cell| cell.trim().to_owned()).collect());
    }
}

fn has_tiers(rule: Rule) -> bool {
    matches!(rule.of_model(), Rule::Graduated | Rule::Volume | Rule::Blocks | Rule::TopBlocks)
}

/// Whether two steps are one line of the table.
fn is_like(a: &PartStep, b: &PartStep) -> bool {
    (a.above, a.unit_price, a.packages.is_some()) == (b.above, b.unit_price, b.packages.is_some())
}

/// Quantities, at most four of them written out.
fn several(quantities: &[Ratio]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> = quantities.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = quantities.len().saturating_sub(SHOWN);
    if more == 0 { shown.join(" + ") } else { format!("{} and {more} more", shown.join(" + ")) }
}

fn tier(step: &PartStep) -> String {
    match step.up_to {
        Some(up_to) if step.above == Quantity::ZERO => format!("up to {up_to}"),
        Some(up_to) => format!("above {} up to {up_to}", step.above),
        None if step.above == Quantity::ZERO => "all".to_owned(),
        None => format!("above {}", step.above),
    }
}

fn quantity(worth: &Worth) -> Quantity {
    // Each part fits a quantity and so does what was metered in all; a page must not fail where a sum of prices did not.
    worth.parts.iter().fold(Quantity::ZERO, |sum, part| sum.checked_add(part.quantity).unwrap_or(sum))
}
