//! An import as files: the book, what is held beside it, and what was refused. It writes nothing to a disk.

use std::fmt::Write as _;

use super::{Held, Import};
use crate::document::Document;
use crate::{Kind, SourceFile};

/// The folder inside the import that is checked and published.
pub const BOOK: &str = "book";

const HEAD: &str = "\
# Prices that the plausibility gate holds. This file is not published; nothing else remembers them.
#
# To release a price, move its [[price_book.price]] blocks to the end of book/prices.toml. Until then usage of a new price is quarantined
# as unpriced, and a changed price stays what it was.
# To reject it, do nothing: the next import holds it again for as long as the map states it.
";

impl Import {
    /// `book/units.toml`, `book/meters.toml`, `book/skus.toml`, `book/prices.toml`, `held.toml`, `refused.txt`.
    pub fn files(&self) -> Vec<SourceFile> {
        let of = |kinds: &[Kind]| {
            let documents = self.documents.iter().filter(|document| kinds.contains(&document.kind()));
            documents.map(Document::to_toml).collect::<Vec<_>>().join("\n")
        };
        let book = [
            ("units.toml", &[Kind::Unit][..]),
            ("meters.toml", &[Kind::Meter]),
            ("skus.toml", &[Kind::Sku]),
            ("prices.toml", &[Kind::Rounding, Kind::PriceBook]),
        ];
        let book = book.into_iter().map(|(name, kinds)| SourceFile { name: format!("{BOOK}/{name}"), text: of(kinds) });
        let beside = [("held.toml", self.held_toml()), ("refused.txt", self.refused_text())];
        book.chain(beside.into_iter().map(|(name, text)| SourceFile { name: name.to_owned(), text })).collect()
    }

    /// Held prices with their reasons as comments above the blocks that release them.
    fn held_toml(&self) -> String {
        let mut text = HEAD.to_owned();
        for held in &self.held {
            let _ = write!(text, "\n{}", comment(held));
            for row in &held.rows {
                text.push_str(&row.to_toml());
            }
        }
        text
    }

    fn refused_text(&self) -> String {
        let mut text = String::new();
        for refused in &self.refused {
            let _ = writeln!(text, "{} {}: {}", refused.model, refused.field, refused.why);
        }
        for model in &self.unpriced {
            let _ = writeln!(text, "{model}: no price");
        }
        for sku in &self.gone {
            let _ = writeln!(text, "sku {sku}: the map no longer states it; its price stays in force");
        }
        text
    }
}

fn comment(held: &Held) -> String {
    let mut text = String::new();
    // A line end in a name would let the rest of it out of the comment.
    let one_line = |text: &str| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let _ = writeln!(text, "# {} {}", one_line(&held.model), one_line(&held.field));
    for reason in &held.reasons {
        let _ = writeln!(text, "# {}: {}: held", reason.rule.name(), one_line(&reason.text));
    }
    text
}
