//! The book of the demo: the list prices, and for one customer a contract with a support fee and prices of its own, one of which slipped.

use anyhow::{Context as _, ensure};
use platform_registry::SourceFile;

/// Who has the contract.
pub(super) const CUSTOMER: &str = "org-011";
/// What it pays too much for.
pub(super) const GPU: &str = "gpu.h100";
/// What it owes without usage.
pub(super) const SUPPORT: &str = "premium-support";
/// An hour of it by mistake.
pub(super) const SLIPPED: &str = "27.9";
/// An hour of it.
pub(super) const MENDED: &str = "2.79";

/// Which price of the customer's book stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Price {
    /// Ten times too high.
    Slipped,
    /// As it was agreed.
    Mended,
}

const CONTRACT: &str = r#"# One customer has prices of its own and a support fee.

[[unit]]
id = "month"
description = "One month"

[[meter]]
id = "support"
event_type = "tallystick.recurring"
aggregation = "prorated"
by = "microsecond"
value = "quantity"
unit = "month"
dimensions = { item = "item" }

[[sku]]
id = "premium-support"
family = "support"
meter = "support"
match = { item = "support" }
description = "Premium support, per month"

[[contract]]
id = "org-011-2026"
organization = "org-011"
price_book = "org-011-usd"
effective_at = "2026-01-01T00:00:00Z"
billing_period = "month"

[[contract.recurring]]
id = "support"
item = "support"
quantity = "1"
charged_at = "start"
from = "2026-09-01T00:00:00Z"
until = "2026-11-01T00:00:00Z"

"#;

/// The documents, as files.
pub(super) fn documents(price: Price) -> anyhow::Result<Vec<SourceFile>> {
    let list = datasets::demo_registry();
    let (_, prices) = list.iter().find(|(name, _)| *name == "prices.toml").context("the demo registry has no prices")?;
    let (_, book) = prices.split_once("[[price_book]]").context("the demo registry has no price book")?;
    let agreed = format!("unit_price = \"{MENDED}\"");
    ensure!(book.matches(&agreed).count() == 1 && book.contains("list-usd"), "the demo registry has other prices than the demo shows");
    let own = book.replacen("list-usd", "org-011-usd", 1);
    let own = match price {
        Price::Slipped => own.replacen(&agreed, &format!("unit_price = \"{SLIPPED}\""), 1),
        Price::Mended => own,
    };
    let support = "[[price_book.price]]\nsku = \"premium-support\"\neffective_at = \"2026-01-01T00:00:00Z\"\nmodel = \"per_unit\"\nper = \"1\"\nunit_price = \"500\"\n";
    let mut files: Vec<SourceFile> =
        list.iter().map(|(name, text)| SourceFile { name: (*name).to_owned(), text: (*text).to_owned() }).collect();
    files.push(SourceFile { name: "org-011.toml".to_owned(), text: format!("{CONTRACT}[[price_book]]{own}\n{support}") });
    Ok(files)
}
