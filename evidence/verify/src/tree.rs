//! RFC 6962 trees, written from the RFCs: roots, inclusion (RFC 9162 §2.1.3.2), consistency (§2.1.4.2).

use sha2::{Digest as _, Sha256};

/// SHA-256.
pub type Hash = [u8; 32];

/// SHA-256 over parts.
pub fn sha256(parts: &[&[u8]]) -> Hash {
    let mut state = Sha256::new();
    for part in parts {
        state.update(part);
    }
    state.finalize().into()
}

/// Hash of a leaf.
pub fn leaf(data: &[u8]) -> Hash {
    sha256(&[&[0], data])
}

fn node(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left, right])
}

/// Root over leaf hashes, level by level: the last of an odd level moves up unchanged.
pub fn root(leaves: &[Hash]) -> Hash {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => node(left, right),
                [single, ..] => *single,
                [] => [0; 32],
            })
            .collect();
    }
    level.first().copied().unwrap_or_else(|| sha256(&[]))
}

/// The root that a path leads to; none where its length does not fit.
pub fn inclusion(hash: Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    let mut sn = size.checked_sub(1)?;
    let mut at = index;
    if at > sn {
        return None;
    }
    let mut result = hash;
    for sibling in path {
        if sn == 0 {
            return None;
        }
        if at % 2 == 1 || at == sn {
            result = node(sibling, &result);
            while at.is_multiple_of(2) && at != 0 {
                at /= 2;
                sn /= 2;
            }
        } else {
            result = node(&result, sibling);
        }
        at /= 2;
        sn /= 2;
    }
    (sn == 0).then_some(result)
}

/// Whether a path shows that a tree of `first` leaves is the beginning of one of `second`.
pub fn consistent(first: u64, first_root: &Hash, second: u64, second_root: &Hash, path: &[Hash]) -> bool {
    if first == second {
        return path.is_empty() && first_root == second_root;
    }
    if first == 0 || first > second {
        return false;
    }
    let mut path = path.iter();
    let start = if first.is_power_of_two() { Some(first_root) } else { path.next() };
    let Some(start) = start else { return false };
    let (mut at, mut sn) = (first - 1, second - 1);
    while at % 2 == 1 {
        at /= 2;
        sn /= 2;
    }
    let (mut old, mut new) = (*start, *start);
    for sibling in path {
        if sn == 0 {
            return false;
        }
        if at % 2 == 1 || at == sn {
            old = node(sibling, &old);
            new = node(sibling, &new);
            while at.is_multiple_of(2) && at != 0 {
                at /= 2;
                sn /= 2;
            }
        } else {
            new = node(&new, sibling);
        }
        at /= 2;
        sn /= 2;
    }
    sn == 0 && old == *first_root && new == *second_root
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962's recursive definitions, beside which the iterative ones above are held.
    fn split(n: usize) -> usize {
        n.next_power_of_two() / 2
    }

    fn recursive(leaves: &[Hash]) -> Hash {
        match leaves {
            [one] => *one,
            _ => node(&recursive(&leaves[..split(leaves.len())]), &recursive(&leaves[split(leaves.len())..])),
        }
    }

    fn path(leaves: &[Hash], at: usize) -> Vec<Hash> {
        if leaves.len() == 1 {
            return vec![];
        }
        let (left, right) = leaves.split_at(split(leaves.len()));
        let (mut hashes, other) = if at < left.len() { (path(left, at), right) } else { (path(right, at - left.len()), left) };
        hashes.push(recursive(other));
        hashes
    }

    fn proof(leaves: &[Hash], from: usize, whole: bool) -> Vec<Hash> {
        if from == leaves.len() {
            return if whole { vec![] } else { vec![recursive(leaves)] };
        }
        let (left, right) = leaves.split_at(split(leaves.len()));
        let (mut hashes, other) =
            if from <= left.len() { (proof(left, from, whole), right) } else { (proof(right, from - left.len(), false), left) };
        hashes.push(recursive(other));
        hashes
    }

    #[test]
    fn paths_of_every_small_tree_hold_and_changed_ones_do_not() {
        let leaves: Vec<Hash> = (0..40_u8).map(|at| leaf(&[at])).collect();
        for n in 1..leaves.len() {
            let tree = &leaves[..n];
            let top = root(tree);
            assert_eq!(top, recursive(tree));
            for at in 0..n {
                let path = path(tree, at);
                assert_eq!(inclusion(tree[at], at as u64, n as u64, &path), Some(top));
                assert_ne!(inclusion(tree[at], at as u64 + 1, n as u64, &path), Some(top));
                assert_ne!(inclusion(leaf(b"x"), at as u64, n as u64, &path), Some(top));
            }
            for from in 1..=n {
                let path = proof(tree, from, true);
                let before = root(&tree[..from]);
                assert!(consistent(from as u64, &before, n as u64, &top, &path));
                assert!(!consistent(from as u64, &leaf(b"x"), n as u64, &top, &path));
                assert!(!consistent(from as u64, &before, n as u64, &leaf(b"x"), &path));
            }
        }
    }
}
