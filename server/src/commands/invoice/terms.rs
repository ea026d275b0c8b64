//! Lines of terms in words: what was promised, what was spent, what comes of it. It computes nothing that the line does not say.

use platform_billing::TermLine;
use platform_billing::terms::{Over, Rule, TrueUp};
use shared_types::Amount;

use super::{grouped, money};

/// What a term looks at.
pub fn scope(term: &TermLine) -> String {
    let families = term.families.iter().map(|family| format!("family {family}"));
    let skus = term.skus.iter().map(|sku| format!("SKU {sku}"));
    let named: Vec<String> = families.chain(skus).collect();
    let what = if named.is_empty() { "all of the contract".to_owned() } else { named.join(", ") };
    match term.over {
        Over::Everything => what,
        Over::Usage => format!("{what}, recurring fees left out"),
    }
}

/// What a term makes of the spend.
pub fn reason(term: &TermLine, scale: u32) -> String {
    let shown = |amount: Amount| grouped(&money(amount, scale));
    let spend = shown(term.spend);
    let beyond = |amount: Amount| term.spend.checked_sub(amount).map(shown).unwrap_or_default();
    match &term.rule {
        Rule::Discount { percent } => format!("{percent} % off {spend}, rounded SKU by SKU"),
        Rule::Capacity {} => {
            let owed = term.spend.checked_add(term.term_amount).map(shown).unwrap_or_default();
            format!("{spend} came together, of which the SKU that comes to the most is owed: {owed}")
        }
        Rule::Commitment { amount, overage_factor, true_up } => {
            let promised = format!("{} committed, {spend} spent", shown(*amount));
            match (term.spend.cmp(amount), true_up) {
                (std::cmp::Ordering::Less, TrueUp::Owed) => format!("{promised}: the rest is owed"),
                (std::cmp::Ordering::Less, TrueUp::None) => format!("{promised}: the rest is not owed"),
                (std::cmp::Ordering::Equal, _) => promised,
                (std::cmp::Ordering::Greater, _) => {
                    format!("{promised}: {} beyond it at {overage_factor} times its price", beyond(*amount))
                }
            }
        }
        Rule::MaximumSpend { amount } if term.spend > *amount => {
            format!("at most {}, {spend} came together: {} too much", shown(*amount), beyond(*amount))
        }
        Rule::MaximumSpend { amount } => format!("at most {}, {spend} came together", shown(*amount)),
        Rule::MinimumSpend { amount } if term.spend < *amount => {
            format!("at least {}, {spend} came together: the rest is owed", shown(*amount))
        }
        Rule::MinimumSpend { amount } => format!("at least {}, {spend} came together", shown(*amount)),
    }
}

/// What a reader of the line needs beside its amount.
pub fn notes(term: &TermLine, scale: u32) -> Vec<String> {
    let mut notes = vec![format!("{}; {}", reason(term, scale), scope(term))];
    if term.invoiced_before != Amount::ZERO {
        let shown = |amount: Amount| grouped(&money(amount, scale));
        notes.push(format!("the spend moved: {} now, {} on earlier invoices", shown(term.term_amount), shown(term.invoiced_before)));
    }
    notes
}
