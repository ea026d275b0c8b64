//! Prices of a book as what is in force when: two step functions of time for each SKU, compared piece by piece.

use std::collections::{BTreeMap, BTreeSet};

use shared_types::{AssetId, Instant, SkuId};

use super::documents::{books, name};
use super::words::{Terms, change, day, price};
use super::{Change, Difference};
use crate::document::{Document, PriceBook, PriceModel, PriceRow};
use crate::{Kind, Version};

/// The rows of each SKU, by rising instant.
type Rows<'v> = BTreeMap<&'v SkuId, Vec<&'v PriceRow>>;

/// What differs between the prices of a book. Of a book that is removed nothing is said again price by price.
pub(super) fn differences(from: &Version, to: &Version, book: &str, out: &mut Vec<Difference>) {
    let Some(after) = of(to, book) else { return };
    let before = of(from, book);
    let (old, new) = (before.map(rows).unwrap_or_default(), rows(after));
    let currencies = [before.map_or(&after.currency, |before| &before.currency), &after.currency];
    let among_others = books(from, to) > 1;
    for sku in old.keys().chain(new.keys()).copied().collect::<BTreeSet<_>>() {
        let compared = Compared::new(from, to, after, sku, currencies, among_others);
        let empty = Vec::new();
        compared.prices(old.get(sku).unwrap_or(&empty), new.get(sku).unwrap_or(&empty), out);
    }
}

fn of<'v>(version: &'v Version, book: &str) -> Option<&'v PriceBook> {
    match version.document(Kind::PriceBook, book) {
        Some(Document::PriceBook(book)) => Some(book),
        _ => None,
    }
}

fn rows(book: &PriceBook) -> Rows<'_> {
    let mut rows = Rows::new();
    for row in &book.prices {
        rows.entry(&row.sku).or_default().push(row);
    }
    rows
}

/// What a SKU is called in a version: its description, else its id.
pub(crate) fn sold(version: &Version, sku: &SkuId) -> Option<String> {
    match version.document(Kind::Sku, sku.as_str()) {
        Some(Document::Sku(sku)) => Some(sku.description.clone().unwrap_or_else(|| sku.id.to_string())),
        _ => None,
    }
}

/// The unit of a SKU's quantity, unless what is sold names it already.
pub(crate) fn unit<'v>(version: &'v Version, sku: &SkuId, sold: &str) -> Option<&'v str> {
    let Some(Document::Sku(sku)) = version.document(Kind::Sku, sku.as_str()) else { return None };
    let Some(Document::Meter(meter)) = version.document(Kind::Meter, sku.meter.as_str()) else { return None };
    Some(meter.unit.as_str()).filter(|unit| !sold.contains(unit))
}

/// One SKU of one book in both versions.
struct Compared<'v> {
    book: &'v str,
    sku: &'v SkuId,
    /// How a sentence about its price begins.
    whose: String,
    was: Terms<'v>,
    is: Terms<'v>,
}

impl<'v> Compared<'v> {
    fn new(
        from: &'v Version,
        to: &'v Version,
        book: &'v PriceBook,
        sku: &'v SkuId,
        [was, is]: [&'v AssetId; 2],
        among_others: bool,
    ) -> Self {
        let sold = sold(to, sku).or_else(|| sold(from, sku)).unwrap_or_else(|| sku.to_string());
        let terms = |version, currency| Terms { currency, unit: unit(version, sku, &sold) };
        let (was, is) = (terms(from, was), terms(to, is));
        let whose = if among_others { format!("{}, {sold}", name(Kind::PriceBook, &book.id)) } else { sold };
        Self { book: &book.id, sku, whose, was, is }
    }

    /// Where the price in force differs; then rows that differ and mean the same.
    fn prices(&self, old: &[&PriceRow], new: &[&PriceRow], out: &mut Vec<Difference>) {
        let starts: BTreeSet<Instant> = old.iter().chain(new).map(|row| row.effective_at).collect();
        let pieces: Vec<_> = starts.iter().map(|at| (*at, in_force(old, *at), in_force(new, *at))).collect();
        let same = |before: Option<&PriceModel>, after: Option<&PriceModel>| before == after && self.was.currency == self.is.currency;
        let mut rest = &pieces[..];
        // Instants at which something was said already: where a change begins or ends.
        let mut said = BTreeSet::new();
        while let Some((at, before, after)) = rest.first().copied() {
            let length = rest.iter().take_while(|(_, was, is)| (*was, *is) == (before, after)).count();
            let (piece, behind) = rest.split_at(length);
            rest = behind;
            if same(before, after) {
                continue;
            }
            let until = behind.first().map(|(until, ..)| *until);
            said.extend(piece.iter().map(|(at, ..)| *at).chain(until));
            out.push(self.price(at, until, before, after));
        }
        for at in starts.into_iter().filter(|at| !said.contains(at)) {
            out.extend(self.row(at, row_at(old, at), row_at(new, at)));
        }
    }

    fn price(&self, at: Instant, until: Option<Instant>, before: Option<&PriceModel>, after: Option<&PriceModel>) -> Difference {
        let change = match (before, after) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            _ => Change::Altered,
        };
        let ends = until.map(|until| format!(" until {}", day(until))).unwrap_or_default();
        let said = self::change(before, after, self.was, self.is);
        Difference {
            before: before.map(|model| price(model, self.was)),
            after: after.map(|model| price(model, self.is)),
            until,
            ..self.difference(at, change, format!("{}: {said} from {}{ends}", self.whose, day(at)))
        }
    }

    /// A row that differs though the price in force is the same.
    fn row(&self, at: Instant, before: Option<&PriceRow>, after: Option<&PriceRow>) -> Option<Difference> {
        let (change, said) = match (before, after) {
            (None, Some(row)) => (Change::Added, format!("row {} repeats the price", row.id)),
            (Some(row), None) => (Change::Removed, format!("row {}, which repeated the price, is removed", row.id)),
            (Some(before), Some(after)) if before.id != after.id => (Change::Altered, format!("row {} is named {}", before.id, after.id)),
            _ => return None,
        };
        let [before, after] = [before, after].map(|row| row.map(|row| row.id.to_string()));
        Some(Difference { before, after, ..self.difference(at, change, format!("{}: {said} from {}", self.whose, day(at))) })
    }

    fn difference(&self, at: Instant, change: Change, text: String) -> Difference {
        Difference {
            kind: Kind::PriceBook,
            id: self.book.to_owned(),
            change,
            field: Some("price".to_owned()),
            sku: Some(self.sku.clone()),
            before: None,
            after: None,
            effective_at: Some(at),
            until: None,
            money: true,
            text,
        }
    }
}

fn in_force<'v>(rows: &[&'v PriceRow], at: Instant) -> Option<&'v PriceModel> {
    rows.iter().rev().find(|row| row.effective_at <= at).map(|row| &row.model)
}

fn row_at<'v>(rows: &[&'v PriceRow], at: Instant) -> Option<&'v PriceRow> {
    rows.iter().find(|row| row.effective_at == at).copied()
}
