//! Terms of contracts: whole service periods, SKUs and families that the book prices, amounts that an invoice can show, and no two that
//! contradict each other. It knows no spend.

use std::collections::{BTreeMap, BTreeSet};

use shared_types::{Amount, Instant, OrganizationId, SkuId};

use super::{Checker, contract, documents};
use crate::Kind;
use crate::document::{Contract, Covers, Document, PriceBook, Sku, Term, TermRule};
use crate::problem::At;
use crate::read::Located;

/// A contract with where it stands, by whom it binds and when it begins.
type Schedule<'c> = BTreeMap<Option<&'c OrganizationId>, BTreeMap<Instant, (&'c Located, &'c Contract)>>;

impl<'c> Checker<'_, 'c, '_> {
    pub(super) fn terms(&mut self) {
        let mut schedule = Schedule::new();
        for (located, contract) in documents(self.contents, contract) {
            let whom: Vec<Option<&OrganizationId>> = match &contract.covers {
                Covers::Default => vec![None],
                Covers::Organizations(organizations) => organizations.iter().map(Some).collect(),
            };
            for whom in whom {
                schedule.entry(whom).or_default().insert(contract.effective_at, (located, contract));
            }
            if contract.terms.is_empty() {
                continue;
            }
            if !begins_month(contract.effective_at) {
                let message =
                    format!("contract {:?} has terms and begins at {}, within a month", contract.id.as_str(), contract.effective_at);
                let remedy = "terms hold for whole service periods: let it begin with a month in UTC, for example 2026-10-01T00:00:00Z";
                self.findings.add(located.at("effective_at"), message, remedy);
            }
            self.terms_of(located, contract);
        }
        self.ends_of_terms(&schedule);
    }

    /// A contract with terms ends where the next one begins: not within a month.
    fn ends_of_terms(&mut self, schedule: &Schedule<'_>) {
        let mut said = BTreeSet::new();
        for contracts in schedule.values() {
            let next = contracts.values().skip(1);
            for ((_, contract), (located, next)) in contracts.values().zip(next) {
                if contract.terms.is_empty() || !said.insert((&contract.id, &next.id)) {
                    continue;
                }
                if begins_month(next.effective_at) {
                    self.window_cut(contract, located, next);
                    continue;
                }
                let (id, next_id) = (contract.id.as_str(), next.id.as_str());
                let message =
                    format!("contract {next_id:?} begins at {}, within a month of contract {id:?}, which has terms", next.effective_at);
                let remedy = "terms hold for whole service periods: let it begin with a month in UTC, for example 2026-10-01T00:00:00Z";
                self.findings.add(located.at("effective_at"), message, remedy);
            }
        }
    }

    /// A term that looks at several months together cannot be told what it comes to where the contract ends among them.
    fn window_cut(&mut self, contract: &Contract, located: &Located, next: &Contract) {
        let (from, until) = (contract.effective_at.month(), next.effective_at.month());
        let lasts = until.since(from);
        let cut = |term: &&Term| i32::try_from(term.months).is_ok_and(|months| lasts % months != 0);
        let Some(term) = contract.terms.iter().find(cut) else { return };
        let (id, next_id, months) = (contract.id.as_str(), next.id.as_str(), term.months);
        let message = format!(
            "contract {next_id:?} begins with {until}, {lasts} months behind contract {id:?}, whose term {:?} looks at {months} months together",
            term.id
        );
        let windows = i32::try_from(months).ok().and_then(|months| lasts.checked_div(months)).unwrap_or(0);
        let ends = |windows: i32| {
            let months = windows.saturating_mul(i32::try_from(months).unwrap_or(0));
            (0..months).try_fold(from, |month, _| month.next()).map(|month| month.start().to_string())
        };
        let fits: Vec<String> = [windows, windows.saturating_add(1)].into_iter().filter(|n| *n > 0).filter_map(ends).collect();
        let remedy = format!("let it begin where these months are over: effective_at = \"{}\"", fits.join("\" or \""));
        self.findings.add(located.at("effective_at"), message, remedy);
    }

    fn terms_of(&mut self, located: &Located, contract: &Contract) {
        let Some(Document::PriceBook(book)) = self.known.get(Kind::PriceBook, &contract.price_book) else { return };
        let mut scopes: Vec<(&Term, BTreeSet<&SkuId>)> = Vec::new();
        for (row, term) in contract.terms.iter().enumerate() {
            let at = located.at_row("term", row);
            let from = format!("term {:?} of contract {:?}", term.id, contract.id.as_str());
            if let Some(Document::Rounding(rounding)) = self.known.get(Kind::Rounding, book.currency.as_str())
                && let Some(amount) = term.rule.amounts().find(|amount| finer(*amount, rounding.scale))
            {
                let message = format!("{from} names {amount}, but {} is invoiced with {} decimal places", book.currency, rounding.scale);
                self.findings.add(at, message, "round it, or raise the scale of the [[rounding]]");
            }
            let Some(scope) = self.scope(located, row, &from, term, book) else { continue };
            if matches!(term.rule, TermRule::Capacity {}) && scope.len() < 2 {
                let message = format!("{from} looks at {} priced SKU", scope.len());
                self.findings.add(at, message, "of several SKUs the dearest alone is owed: name two or more, or remove the term");
            }
            for (other, other_scope) in &scopes {
                self.contradiction(located, row, (term, &scope), (*other, other_scope), contract);
            }
            scopes.push((term, scope));
        }
    }

    /// The SKUs of the book that a term names; none where it names one that the book does not price.
    fn scope<'b>(&mut self, located: &Located, row: usize, from: &str, term: &Term, book: &'b PriceBook) -> Option<BTreeSet<&'b SkuId>>
    where
        'c: 'b,
    {
        let at = located.at_row("term", row);
        let priced: BTreeSet<&SkuId> = book.prices.iter().map(|price| &price.sku).collect();
        let family = |sku: &SkuId| match self.known.get(Kind::Sku, sku.as_str()) {
            Some(Document::Sku(Sku { family, .. })) => Some(family.as_str()),
            _ => None,
        };
        let missing_sku = term.skus.iter().find(|sku| !priced.contains(sku));
        let missing_family = term.families.iter().find(|named| !priced.iter().any(|sku| family(sku) == Some(named.as_str())));
        let (missing, hint) = match (missing_sku, missing_family) {
            (Some(sku), _) => (format!("sku {:?}", sku.as_str()), self.findings.hint(sku.as_str(), priced.iter().map(|sku| sku.as_str()))),
            (None, Some(named)) => {
                let families: BTreeSet<&str> = priced.iter().filter_map(|sku| family(sku)).collect();
                (format!("family {named:?}"), self.findings.hint(named, families))
            }
            (None, None) if term.skus.is_empty() && term.families.is_empty() => return Some(priced),
            (None, None) => {
                let named = |sku: &&SkuId| term.skus.contains(*sku) || family(sku).is_some_and(|family| term.families.contains(family));
                return Some(priced.into_iter().filter(named).collect());
            }
        };
        if !self.contents.broken {
            let message = format!("{from} looks at {missing}, of which price book {:?} prices nothing", book.id);
            self.findings.add(at, message, format!("{hint}name what the book prices, or leave it out for all of the contract"));
        }
        None
    }

    /// Two terms that cannot both be meant. Discounts are taken one after the other, so they contradict nothing.
    fn contradiction(
        &mut self,
        located: &Located,
        row: usize,
        (term, scope): (&Term, &BTreeSet<&SkuId>),
        (other, other_scope): (&Term, &BTreeSet<&SkuId>),
        contract: &Contract,
    ) {
        if [term, other].iter().any(|term| matches!(term.rule, TermRule::Discount { .. })) {
            return;
        }
        let at = located.at_row("term", row);
        let both = format!("terms {:?} and {:?} of contract {:?}", other.id, term.id, contract.id.as_str());
        if self.apart(at, &both, (term, scope), (other, other_scope)) {
            return;
        }
        let names = |term: &Term| !term.skus.is_empty() || !term.families.is_empty();
        let same = (&term.skus, &term.families) == (&other.skus, &other.families);
        if same && term.rule.kind() == other.rule.kind() {
            let message = format!("{both} are both a {} over the same SKUs", term.rule.kind());
            self.findings.add(at, message, "keep one of them");
        } else if !same && names(term) && names(other) && !scope.is_disjoint(other_scope) {
            let shared = scope.intersection(other_scope).next().map_or("", |sku| sku.as_str());
            let message = format!("{both} look at different SKUs that overlap, for example {shared:?}");
            let remedy =
                "let both name the same skus and families, or none in common, or let one name none: it then looks at all of the contract";
            self.findings.add(at, message, remedy);
        } else if same {
            let pair = [&term.rule, &other.rule];
            let most = pair.iter().find(|rule| matches!(rule, TermRule::MaximumSpend { .. })).and_then(|rule| rule.amount());
            let least = pair.iter().find(|rule| rule.owed_unused()).and_then(|rule| rule.amount());
            if let (Some(most), Some(least)) = (most, least)
                && most < least
            {
                let message = format!("{both} ask for at most {most} and for at least {least} of the same SKUs");
                self.findings.add(at, message, "raise the maximum, or lower the other one");
            }
        }
    }
}

impl Checker<'_, '_, '_> {
    /// Refuses two terms of which one looks at months together that the other parts: what the one adds in a month would be the other's spend
    /// there, however it is meant. A capacity comes before both and looks at the same SKUs month by month.
    fn apart(
        &mut self,
        at: At,
        both: &str,
        (term, scope): (&Term, &BTreeSet<&SkuId>),
        (other, other_scope): (&Term, &BTreeSet<&SkuId>),
    ) -> bool {
        let capacity = [term, other].iter().any(|term| matches!(term.rule, TermRule::Capacity {}));
        if term.months == other.months || capacity {
            return false;
        }
        let spans = |months: u32| match months {
            1 => "each month by itself".to_owned(),
            months => format!("{months} months together"),
        };
        let look = format!("{both} look at {} and at {}", spans(other.months), spans(term.months));
        if term.months > 1 && other.months > 1 {
            self.findings.add(at, look, "let all terms of a contract that look at months together look at equally many");
        } else if !scope.is_disjoint(other_scope) {
            let remedy = "let both look at equally many months, or at SKUs of their own";
            self.findings.add(at, format!("{look}, over the same SKUs"), remedy);
        } else {
            return false;
        }
        true
    }
}

fn begins_month(at: Instant) -> bool {
    at.month().start() == at
}

/// Whether an amount has more decimal places than an invoice line.
fn finer(amount: Amount, scale: u32) -> bool {
    let step = 10_i64.checked_pow(Amount::SCALE.saturating_sub(scale)).unwrap_or(1);
    amount.units() % step != 0
}
