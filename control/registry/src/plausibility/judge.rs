//! The rules. A pure function of a model's offers and the prices of all models.

use std::collections::BTreeMap;

use super::reason::{money, moved, power_of_ten, times, what};
use super::{
    ABOVE_OTHERS, BELOW_OTHERS, CACHE_WRITE_TO_INPUT, CHANGE_FACTOR, Hold, INPUT_TO_AUDIO, INPUT_TO_OUTPUT_HUNDREDTHS,
    INPUT_USD_PER_MILLION, MEDIA_USD_PER_MILLION, Market, OTHER_USD, OTHERS_LEAST, OUTPUT_TO_INPUT, OUTPUT_USD_PER_MILLION, Offer,
    REASONING_TO_OUTPUT, Reason, Rule, VARIANT_FACTOR,
};
use crate::import::{ListPrice, Terms, Tier, measure};

/// A dollar, in units of a [`ListPrice`].
const DOLLAR: i128 = 10_i128.pow(24);
/// Units of a price for a million.
const MILLION: i128 = 1_000_000;

/// Holds what is suspicious among the offers of a model. Prices that are what they were before are compared with, never held.
///
/// - `market`: the prices of all models, as they would be with these offers.
/// - Result: holds by rising index of the offer.
pub fn judge(model: &str, offers: &[Offer], market: &Market) -> Vec<Hold> {
    let desk = Desk { model, offers, market };
    let mut holds: BTreeMap<usize, Vec<Reason>> = BTreeMap::new();
    for (at, offer) in offers.iter().enumerate().filter(|(_, offer)| offer.is_new()) {
        let reasons = desk.reasons(offer);
        if !reasons.is_empty() {
            holds.insert(at, reasons);
        }
    }
    desk.same_entry(&mut holds);
    holds.into_iter().map(|(offer, reasons)| Hold { offer, reasons }).collect()
}

struct Desk<'a> {
    model: &'a str,
    offers: &'a [Offer],
    market: &'a Market,
}

impl Desk<'_> {
    fn reasons(&self, offer: &Offer) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let mut add = |rule: Rule, text: String| reasons.push(Reason { rule, text });
        self.change(offer, &mut add);
        if offer.stated.price > ListPrice::ZERO {
            self.variant(offer, &mut add);
            self.amount(offer, &mut add);
            self.ratios(offer, &mut add);
            self.elsewhere(offer, &mut add);
        }
        reasons
    }

    fn change(&self, offer: &Offer, add: &mut impl FnMut(Rule, String)) {
        let (terms, now) = (&offer.stated.terms, offer.stated.price);
        let Some(before) = offer.before.filter(|before| *before > ListPrice::ZERO) else { return };
        let (larger, smaller) = (before.max(now), before.min(now));
        let subject = format!("price of {} of {}", what(terms), self.model);
        if now == ListPrice::ZERO {
            add(Rule::BecameFree, format!("{subject} fell from {} to zero", money(terms, before)));
        } else if reaches(larger, smaller, CHANGE_FACTOR) {
            let counterpart = self.counterpart(offer).map(|other| {
                let before = other.before.unwrap_or(other.stated.price);
                format!("; price of {} {}", what(&other.stated.terms), moved(before, other.stated.price))
            });
            let unit = if power_of_ten(larger, smaller) { ", a power of ten" } else { "" };
            let (from, to) = (money(terms, before), money(terms, now));
            add(Rule::Changed, format!("{subject} {}{unit}, from {from} to {to}{}", moved(before, now), counterpart.unwrap_or_default()));
        }
    }

    /// The price that a reader would look at beside this one: input for output, output for everything else.
    fn counterpart(&self, offer: &Offer) -> Option<&Offer> {
        let code = if offer.stated.terms.code == "output" { "input" } else { "output" };
        let same = self.offer(&Terms { code, ..offer.stated.terms.clone() });
        same.filter(|other| other.stated.terms != offer.stated.terms)
    }

    /// Another tier, or a longer context, at a price far from the usual one.
    fn variant(&self, offer: &Offer, add: &mut impl FnMut(Rule, String)) {
        let (terms, now) = (&offer.stated.terms, offer.stated.price);
        if usual(terms) {
            return;
        }
        let base = Terms { tier: Tier::Standard, above: None, up_to: None, only: BTreeMap::new(), ..terms.clone() };
        let Some(base) = self.price(&base) else { return };
        let (larger, smaller) = (base.max(now), base.min(now));
        if exceeds(larger, smaller, VARIANT_FACTOR) {
            let side = if now > base { "times" } else { "times less than" };
            add(
                Rule::VariantFarFromUsual,
                format!("price of {} of {} is {} {side} the usual {}", what(terms), self.model, times(larger, smaller), money(terms, base)),
            );
        }
    }

    /// More than anything of its kind costs.
    fn amount(&self, offer: &Offer, add: &mut impl FnMut(Rule, String)) {
        let (terms, now) = (&offer.stated.terms, offer.stated.price);
        let most = match terms.code {
            _ if !is_token(terms) => OTHER_USD * DOLLAR,
            // The limits are of usual prices; those of tiers and long requests are compared with them.
            _ if !usual(terms) => return,
            code if ["audio", "image", "video"].iter().any(|media| code.contains(media)) => MEDIA_USD_PER_MILLION * (DOLLAR / MILLION),
            "output" | "reasoning" | "citations" => OUTPUT_USD_PER_MILLION * (DOLLAR / MILLION),
            _ => INPUT_USD_PER_MILLION * (DOLLAR / MILLION),
        };
        if now.units() >= most {
            let text =
                format!("price of {} of {} is {}: probably the price of more units than one", what(terms), self.model, money(terms, now));
            add(Rule::UnitSlip, text);
        }
    }

    /// Prices of one model against each other.
    fn ratios(&self, offer: &Offer, add: &mut impl FnMut(Rule, String)) {
        let (terms, now) = (&offer.stated.terms, offer.stated.price);
        let of = |code: &'static str| self.price(&Terms { code, ..terms.clone() });
        let (input, output) = (of("input"), of("output"));
        let mut compare = |rule: Rule, larger: (&'static str, ListPrice), smaller: (&'static str, ListPrice)| {
            let label = |code: &'static str| what(&Terms { code, ..terms.clone() });
            let text = format!(
                "price of {} of {} is {} times the price of {} ({} against {})",
                label(larger.0),
                self.model,
                times(larger.1, smaller.1),
                label(smaller.0),
                money(terms, larger.1),
                money(terms, smaller.1),
            );
            add(rule, text);
        };
        match (terms.code, input, output) {
            ("input" | "output", Some(input), Some(output)) => {
                if reaches(output, input, OUTPUT_TO_INPUT) {
                    compare(Rule::OutputFarAboveInput, ("output", output), ("input", input));
                }
                let hundred = output.units().checked_mul(INPUT_TO_OUTPUT_HUNDREDTHS);
                if hundred.is_some_and(|bound| input.units().checked_mul(100).is_some_and(|input| input >= bound)) {
                    compare(Rule::InputAboveOutput, ("input", input), ("output", output));
                }
            }
            ("cache_read", Some(input), _) if now > input => compare(Rule::CacheReadAboveInput, ("cache_read", now), ("input", input)),
            ("cache_write_5m" | "cache_write_1h", Some(input), _) if exceeds(now, input, CACHE_WRITE_TO_INPUT) => {
                compare(Rule::CacheWriteFarAboveInput, (terms.code, now), ("input", input));
            }
            ("reasoning", _, Some(output)) if exceeds(now, output, REASONING_TO_OUTPUT) => {
                compare(Rule::ReasoningFarFromOutput, ("reasoning", now), ("output", output));
            }
            ("reasoning", _, Some(output)) if exceeds(output, now, REASONING_TO_OUTPUT) => {
                compare(Rule::ReasoningFarFromOutput, ("output", output), ("reasoning", now));
            }
            ("input_audio", Some(input), _) if exceeds(input, now, INPUT_TO_AUDIO) => {
                compare(Rule::AudioBelowText, ("input", input), ("input_audio", now));
            }
            _ => {}
        }
    }

    /// The same model under other names.
    fn elsewhere(&self, offer: &Offer, add: &mut impl FnMut(Rule, String)) {
        let (terms, now) = (&offer.stated.terms, offer.stated.price);
        if !usual(terms) || !is_token(terms) {
            return;
        }
        let others = self.market.elsewhere(self.model, terms);
        // The lower one of two in the middle: slips are upwards.
        let Some(middle) = others.get(others.len().saturating_sub(1) / 2).copied().filter(|_| others.len() >= OTHERS_LEAST) else { return };
        let (rule, larger, smaller, side) = if reaches(now, middle, ABOVE_OTHERS) {
            (Rule::FarAboveOthers, now, middle, "times")
        } else if reaches(middle, now, BELOW_OTHERS) {
            (Rule::FarBelowOthers, middle, now, "times less than")
        } else {
            return;
        };
        let text = format!(
            "price of {} of {} is {} {side} the {} that {} other offers of the model have in the middle",
            what(terms),
            self.model,
            times(larger, smaller),
            money(terms, middle),
            others.len(),
        );
        add(rule, text);
    }

    /// Where the usual input or output price is off by a unit, all that was stated with it is held.
    fn same_entry(&self, holds: &mut BTreeMap<usize, Vec<Reason>>) {
        let by_unit = |at: &usize, reasons: &Vec<Reason>| {
            let of_entry = self.offers.get(*at).is_some_and(|offer| {
                let terms = &offer.stated.terms;
                usual(terms) && matches!(terms.code, "input" | "output")
            });
            of_entry && reasons.iter().any(|reason| matches!(reason.rule, Rule::UnitSlip | Rule::FarAboveOthers))
        };
        let Some(cause) = holds.iter().find(|(at, reasons)| by_unit(at, reasons)).and_then(|(at, _)| self.offers.get(*at)) else { return };
        let cause = what(&cause.stated.terms);
        for (at, offer) in self.offers.iter().enumerate() {
            let priced = offer.is_new() && offer.stated.price > ListPrice::ZERO && is_token(&offer.stated.terms);
            if priced && !holds.contains_key(&at) {
                let text = format!("price of {} of {} came with one of {cause} that is held", what(&offer.stated.terms), self.model);
                holds.insert(at, vec![Reason { rule: Rule::SameEntry, text }]);
            }
        }
    }

    fn offer(&self, terms: &Terms) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.stated.terms.alike(terms))
    }

    /// The price for some terms, unless it is zero.
    fn price(&self, terms: &Terms) -> Option<ListPrice> {
        self.offer(terms).map(|offer| offer.stated.price).filter(|price| *price > ListPrice::ZERO)
    }
}

/// Neither of a tier nor of long requests.
fn usual(terms: &Terms) -> bool {
    terms.tier == Tier::Standard && terms.above.is_none() && terms.only.is_empty()
}

fn is_token(terms: &Terms) -> bool {
    measure(terms.code).is_some_and(|measure| measure.unit == "token")
}

fn reaches(larger: ListPrice, smaller: ListPrice, factor: i128) -> bool {
    smaller.units().checked_mul(factor).is_some_and(|bound| larger.units() >= bound)
}

fn exceeds(larger: ListPrice, smaller: ListPrice, factor: i128) -> bool {
    smaller.units().checked_mul(factor).is_some_and(|bound| larger.units() > bound)
}
