//! Ranges of SKUs: which dimensions a SKU asks for, and whether two SKUs can take one reading. It does not know meters and prices.

use std::collections::BTreeSet;

use platform_rating::plan::Band;

use crate::document::Sku;

/// A band for each dimension that has a bound.
pub(crate) fn bands(sku: &Sku) -> Vec<Band> {
    let band = |name: &str| Band { dimension: name.into(), above: sku.above.get(name).copied(), up_to: sku.up_to.get(name).copied() };
    bounded(sku).into_iter().map(band).collect()
}

/// How many dimensions a SKU asks for: of two that match a reading, the one that asks for more wins.
pub(crate) fn names(sku: &Sku) -> usize {
    sku.matches.len() + bounded(sku).len()
}

/// Whether some number lies in the ranges of both, for every dimension, and no value that one of them matches lies outside the other's range.
pub(crate) fn meet(a: &Sku, b: &Sku) -> bool {
    let within = |values: &Sku, ranges: &Sku| {
        bands(ranges).iter().all(|band| values.matches.get(&*band.dimension).is_none_or(|value| band.holds(Some(value))))
    };
    let shared = bounded(a).into_iter().filter(|name| bounded(b).contains(name));
    let ranges_meet = |name: &str| {
        let above = a.above.get(name).max(b.above.get(name));
        let up_to = [a.up_to.get(name), b.up_to.get(name)].into_iter().flatten().min();
        above.zip(up_to).is_none_or(|(above, up_to)| above < up_to)
    };
    within(a, b) && within(b, a) && shared.into_iter().all(ranges_meet)
}

fn bounded(sku: &Sku) -> BTreeSet<&str> {
    sku.above.keys().chain(sku.up_to.keys()).map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use shared_types::{MeterId, Quantity, SkuId};

    use super::*;

    fn sku(matches: &[(&str, &str)], above: &[(&str, &str)], up_to: &[(&str, &str)]) -> Sku {
        let bounds = |pairs: &[(&str, &str)]| -> BTreeMap<String, Quantity> {
            pairs.iter().map(|(name, bound)| ((*name).to_owned(), bound.parse().unwrap())).collect()
        };
        Sku {
            id: SkuId::parse("s").unwrap(),
            family: "f".to_owned(),
            meter: MeterId::parse("m").unwrap(),
            matches: matches.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            above: bounds(above),
            up_to: bounds(up_to),
            description: None,
        }
    }

    #[test]
    fn ranges_meet_where_a_number_lies_in_both() {
        let short = sku(&[], &[], &[("context", "200000")]);
        let long = sku(&[], &[("context", "200000")], &[]);
        let longer = sku(&[], &[("context", "256000")], &[("context", "1000000")]);
        assert!(!meet(&short, &long));
        assert!(!meet(&short, &longer));
        assert!(meet(&long, &longer));
        assert!(meet(&short, &sku(&[], &[("width", "10")], &[])));
        assert!(meet(&short, &sku(&[("context", "7")], &[], &[])));
        assert!(!meet(&sku(&[("context", "7")], &[], &[]), &long));
        assert_eq!([&short, &longer, &sku(&[("model", "m")], &[("context", "1")], &[])].map(names), [1, 1, 2]);
    }
}
