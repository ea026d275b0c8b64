//! Reasons in words. They name the model's price, what it is compared with, and the factor between them.

use std::fmt;

use shared_types::Price;

use crate::import::{ListPrice, Terms, Tier};

/// Why an offer is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The rule that found it.
    pub rule: Rule,
    /// For people, without a full stop.
    pub text: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $name:literal,)*) => {
        /// What made an offer suspicious.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Rule {
            $($(#[$doc])* $rule,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Self] = &[$(Self::$rule,)*];

            /// Its name, for example `changed_by_a_factor`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$rule => $name,)*
                }
            }
        }
    };
}

rules! {
    /// [`super::CHANGE_FACTOR`].
    Changed = "changed_by_a_factor",
    /// A price became zero.
    BecameFree = "became_free",
    /// [`super::INPUT_USD_PER_MILLION`] and its like: a price for a thousand or a million units, in the place of one.
    UnitSlip = "unit_slip",
    /// [`super::OUTPUT_TO_INPUT`].
    OutputFarAboveInput = "output_far_above_input",
    /// [`super::INPUT_TO_OUTPUT_HUNDREDTHS`].
    InputAboveOutput = "input_above_output",
    /// Reading from the cache costs more than reading anew.
    CacheReadAboveInput = "cache_read_above_input",
    /// [`super::CACHE_WRITE_TO_INPUT`].
    CacheWriteFarAboveInput = "cache_write_far_above_input",
    /// [`super::REASONING_TO_OUTPUT`].
    ReasoningFarFromOutput = "reasoning_far_from_output",
    /// [`super::INPUT_TO_AUDIO`].
    AudioBelowText = "audio_below_text",
    /// [`super::VARIANT_FACTOR`].
    VariantFarFromUsual = "variant_far_from_usual",
    /// [`super::ABOVE_OTHERS`].
    FarAboveOthers = "far_above_others",
    /// [`super::BELOW_OTHERS`].
    FarBelowOthers = "far_below_others",
    /// Another price of the model, stated at the same time, is off by a unit: this one probably is too.
    SameEntry = "same_entry",
}

/// What a price is for, for example `input tokens (priority, context_tokens above 200000)`.
pub(crate) fn what(terms: &Terms) -> String {
    let label = crate::import::measure(terms.code).map_or(terms.code, |measure| measure.label);
    let tier = (terms.tier != Tier::Standard).then(|| terms.tier.name().to_owned());
    let above = terms.above.map(|(name, bound)| format!("{name} above {bound}"));
    let only = terms.only.iter().map(|(name, value)| format!("{name} {value}"));
    let conditions: Vec<String> = tier.into_iter().chain(above).chain(only).collect();
    if conditions.is_empty() { label.to_owned() } else { format!("{label} ({})", conditions.join(", ")) }
}

/// `0.15 USD per million tokens`, `0.04 USD per image`.
pub(super) fn money(terms: &Terms, price: ListPrice) -> String {
    let measure = crate::import::measure(terms.code);
    let unit = measure.map_or("unit", |measure| measure.unit);
    match measure {
        Some(measure) if measure.per > 1 => match Price::from_units(price.units()) {
            // 10^-24 a unit is 10^-18 a million.
            Ok(price) => format!("{price} USD per million {unit}s"),
            Err(_) => format!("{price} USD per {unit}"),
        },
        _ => format!("{price} USD per {unit}"),
    }
}

/// How many times one price is the other, with a decimal place below a hundred.
pub(super) fn times(larger: ListPrice, smaller: ListPrice) -> String {
    let tenths = larger.units().checked_mul(10).and_then(|larger| larger.checked_div(smaller.units()));
    match tenths {
        None => "infinitely many".to_owned(),
        Some(tenths) if tenths >= 1000 => (tenths / 10).to_string(),
        Some(tenths) => format!("{}.{}", tenths / 10, tenths % 10),
    }
}

/// `rose 1000 times`, `fell 10.0 times`, `stayed`.
pub(super) fn moved(before: ListPrice, now: ListPrice) -> String {
    match now.cmp(&before) {
        std::cmp::Ordering::Greater => format!("rose {} times", times(now, before)),
        std::cmp::Ordering::Less => format!("fell {} times", times(before, now)),
        std::cmp::Ordering::Equal => "rose 1.0 times".to_owned(),
    }
}

/// Whether a factor is a power of ten to within two percent: then a slip of the unit is the likeliest cause.
pub(super) fn power_of_ten(larger: ListPrice, smaller: ListPrice) -> bool {
    let (Some(larger), Some(smaller)) = (larger.units().checked_mul(100), smaller.units().checked_mul(100)) else { return false };
    let mut power = smaller;
    for _ in 0..12 {
        let Some(next) = power.checked_mul(10) else { return false };
        power = next;
        let margin = power / 50;
        if (larger - power).abs() <= margin {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_told_in_words() {
        let list = |text: &str| ListPrice::parse(text).unwrap();
        assert_eq!(moved(list("1.5e-07"), list("1.5e-04")), "rose 1000 times");
        assert_eq!(moved(list("3e-05"), list("3e-06")), "fell 10.0 times");
        assert_eq!(moved(list("3e-05"), list("3e-05")), "rose 1.0 times");
        assert_eq!(moved(list("0"), list("3e-05")), "rose infinitely many times");
        assert!(power_of_ten(list("0.00100001"), list("1e-06")));
        assert!(!power_of_ten(list("8e-06"), list("1e-06")));
        assert!(!power_of_ten(list("1e-06"), list("1e-06")));
    }
}
