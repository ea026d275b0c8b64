//! Lines of a price book found by what readings carry, without trying every line: books of public price lists have thousands for a meter.
//! It finds what [`PriceBook::line`] finds, and knows no contract and no price.

use std::collections::HashMap;

use platform_usage::Dimensions;
use shared_types::MeterId;

use crate::plan::{Line, PriceBook};

/// The lines of one meter of one book.
#[derive(Debug)]
pub struct LineIndex<'a> {
    lines: &'a [Line],
    /// Positions of lines, rising, by the dimension value of each that the fewest lines ask for.
    by_value: HashMap<(&'a str, &'a str), Vec<usize>>,
    /// Lines that ask for no value.
    open: Vec<usize>,
}

impl<'a> LineIndex<'a> {
    /// Reads the lines once.
    pub fn of(book: &'a PriceBook, meter: &MeterId) -> Self {
        let lines = book.lines.get(meter).map(Vec::as_slice).unwrap_or_default();
        let mut askers: HashMap<(&str, &str), usize> = HashMap::new();
        for pair in lines.iter().flat_map(|line| line.matches.iter()) {
            let count = askers.entry(pair).or_default();
            *count = count.saturating_add(1);
        }
        let (mut by_value, mut open): (HashMap<_, Vec<usize>>, Vec<usize>) = (HashMap::new(), Vec::new());
        for (position, line) in lines.iter().enumerate() {
            match line.matches.iter().min_by_key(|pair| askers.get(pair)) {
                Some(pair) => by_value.entry(pair).or_default().push(position),
                None => open.push(position),
            }
        }
        Self { lines, by_value, open }
    }

    /// The first line that takes a reading with these dimensions.
    pub fn line(&self, dimensions: &Dimensions) -> Option<&'a Line> {
        let asked = dimensions.iter().filter_map(|pair| self.by_value.get(&pair)).flatten();
        let takers = asked.chain(&self.open).filter_map(|position| Some((*position, self.lines.get(*position)?)));
        takers.filter(|(_, line)| line.takes(dimensions)).min_by_key(|(position, _)| *position).map(|(_, line)| line)
    }
}
