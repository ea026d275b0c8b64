//! Lines of terms in words: what was promised, what was spent, what comes of it. It computes nothing that the line does not say.

use platform_billing::TermLine;
use platform_billing::terms::{DiscountTier, Over, Rule, TrueUp};
use shared_types::{Amount, Sum};

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

/// What a term makes of the spend: of that of its window so far, where it looks at several months together.
pub fn reason(term: &TermLine, scale: u32) -> String {
    let Some(window) = term.window else { return of_spend(term, term.spend.into(), "the rest is owed", scale) };
    // Sums of 38 digits hold what 120 amounts come to.
    let so_far = window.spend_before.checked_add(term.spend.into()).unwrap_or_default();
    let comes_to = window.amount_before.checked_add(term.term_amount.into()).unwrap_or_default();
    // Nothing is missing before a window ends.
    let rest = if comes_to > Sum::ZERO { "the rest is owed" } else { "what is missing then is owed with the last one" };
    let reason = of_spend(term, so_far, rest, scale);
    let before = if window.amount_before == Sum::ZERO {
        String::new()
    } else {
        format!("; {} of it in earlier months", shown(window.amount_before, scale))
    };
    let (months, spent, spend) = (window.months, shown(window.spend_before, scale), shown(term.spend, scale));
    format!("over {months} months together, {spent} before and {spend} in this one: {reason}{before}")
}

/// - `rest`: what becomes of what is missing.
fn of_spend(term: &TermLine, so_far: Sum, rest: &str, scale: u32) -> String {
    let spend = shown(so_far, scale);
    let beyond = |amount: Amount| so_far.checked_sub(amount.into()).map(|sum| shown(sum, scale)).unwrap_or_default();
    match &term.rule {
        Rule::Discount { percent } => format!("{percent} % off {spend}, rounded SKU by SKU"),
        Rule::Capacity {} => {
            let owed = so_far.checked_add(term.term_amount.into()).map(|sum| shown(sum, scale)).unwrap_or_default();
            format!("{spend} came together, of which the SKU that comes to the most is owed: {owed}")
        }
        Rule::GraduatedDiscount { tiers } => {
            let tier = |tier: &DiscountTier| match tier.up_to {
                Some(up_to) => format!("{} % off up to {}", tier.percent, shown(up_to, scale)),
                None => format!("{} % off beyond", tier.percent),
            };
            format!("{}, of {spend}", tiers.iter().map(tier).collect::<Vec<_>>().join(", "))
        }
        Rule::Commitment { amount, overage_factor, true_up } => {
            let promised = format!("{} committed, {spend} spent", shown(*amount, scale));
            match (so_far.cmp(&(*amount).into()), true_up) {
                (std::cmp::Ordering::Less, TrueUp::Owed) => format!("{promised}: {rest}"),
                (std::cmp::Ordering::Less, TrueUp::None) => format!("{promised}: the rest is not owed"),
                (std::cmp::Ordering::Equal, _) => promised,
                (std::cmp::Ordering::Greater, _) => {
                    format!("{promised}: {} beyond it at {overage_factor} times its price", beyond(*amount))
                }
            }
        }
        Rule::MaximumSpend { amount } if so_far > (*amount).into() => {
            format!("at most {}, {spend} came together: {} too much", shown(*amount, scale), beyond(*amount))
        }
        Rule::MaximumSpend { amount } => format!("at most {}, {spend} came together", shown(*amount, scale)),
        Rule::MinimumSpend { amount } if so_far < (*amount).into() => {
            format!("at least {}, {spend} came together: {rest}", shown(*amount, scale))
        }
        Rule::MinimumSpend { amount } => format!("at least {}, {spend} came together", shown(*amount, scale)),
    }
}

fn shown(amount: impl Into<Sum>, scale: u32) -> String {
    grouped(&money(amount, scale))
}

/// What a reader of the line needs beside its amount.
pub fn notes(term: &TermLine, scale: u32) -> Vec<String> {
    let mut notes = vec![format!("{}; {}", reason(term, scale), scope(term))];
    if term.invoiced_before != Amount::ZERO {
        let (now, before) = (shown(term.term_amount, scale), shown(term.invoiced_before, scale));
        notes.push(format!("the spend moved: {now} now, {before} on earlier invoices"));
    }
    notes
}
