//! Which sets of dimension values can match one reading: those that agree on the names they share.
//! It answers without comparing every set with every other. It does not know what the sets belong to.

use std::collections::{BTreeMap, HashMap};

/// Dimension values that a reading must carry.
pub(crate) type Matches = BTreeMap<String, String>;

/// Sets by the names that they constrain, found by the values of some of them.
pub(crate) struct MatchIndex<'a> {
    groups: Vec<Group<'a>>,
}

struct Group<'a> {
    names: Vec<&'a str>,
    members: Vec<(&'a Matches, usize)>,
    /// For some of the names: from their values to the members that have them, in the order of insertion.
    projections: HashMap<Vec<&'a str>, HashMap<Vec<&'a str>, Vec<usize>>>,
}

impl<'a> MatchIndex<'a> {
    /// Sets and what they stand for.
    pub(crate) fn new(sets: impl IntoIterator<Item = (&'a Matches, usize)>) -> Self {
        let mut groups: BTreeMap<Vec<&'a str>, Vec<(&'a Matches, usize)>> = BTreeMap::new();
        for (matches, item) in sets {
            groups.entry(names(matches)).or_default().push((matches, item));
        }
        let groups = groups.into_iter().map(|(names, members)| Group { names, members, projections: HashMap::new() }).collect();
        Self { groups }
    }

    /// Visits what can match one reading together with `matches`, among sets of the wanted sizes.
    pub(crate) fn compatible(&mut self, matches: &Matches, size: impl Fn(usize) -> bool, mut visit: impl FnMut(&[usize])) {
        for group in self.groups.iter_mut().filter(|group| size(group.names.len())) {
            let shared: Vec<&'a str> = group.names.iter().copied().filter(|name| matches.contains_key(*name)).collect();
            let values: Vec<&str> = shared.iter().filter_map(|name| matches.get(*name).map(String::as_str)).collect();
            let members = &group.members;
            let projection = group.projections.entry(shared).or_insert_with_key(|shared| project(members, shared));
            if let Some(found) = projection.get(&values) {
                visit(found);
            }
        }
    }
}

fn names(matches: &Matches) -> Vec<&str> {
    matches.keys().map(String::as_str).collect()
}

fn project<'a>(members: &[(&'a Matches, usize)], shared: &[&str]) -> HashMap<Vec<&'a str>, Vec<usize>> {
    let mut projection: HashMap<Vec<&'a str>, Vec<usize>> = HashMap::new();
    for (matches, item) in members {
        let values = shared.iter().filter_map(|name| matches.get(*name).map(String::as_str)).collect();
        projection.entry(values).or_default().push(*item);
    }
    projection
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches() -> impl Strategy<Value = Matches> {
        proptest::collection::btree_map("[abc]", "[xy]", 0..3)
    }

    proptest! {
        #[test]
        fn the_index_finds_what_comparing_all_pairs_finds(sets in proptest::collection::vec(matches(), 0..12), probe in matches()) {
            let mut index = MatchIndex::new(sets.iter().zip(0..));
            let mut found = Vec::new();
            index.compatible(&probe, |size| size <= probe.len(), |items| found.extend_from_slice(items));
            found.sort_unstable();
            let agree = |set: &Matches| set.iter().all(|(name, value)| probe.get(name).is_none_or(|other| other == value));
            let expected: Vec<usize> =
                sets.iter().zip(0..).filter(|(set, _)| set.len() <= probe.len() && agree(set)).map(|(_, item)| item).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
