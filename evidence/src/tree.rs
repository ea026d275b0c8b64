//! RFC 6962 trees over SHA-256: a leaf is H(00 ‖ data), a node H(01 ‖ left ‖ right), the empty tree H().
//! The frontier appends without knowing earlier leaves; roots and paths of small trees come from all leaf hashes at once.
//! It does not know what the leaves say.

use shared_types::Digest;

/// Why a frontier cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// 2^63 leaves.
    #[error("the tree is full")]
    Full,
    /// Not 8 bytes of size and 32 bytes for each of its complete subtrees.
    #[error("{bytes} bytes are no frontier of {size} leaves")]
    Malformed {
        /// How many bytes.
        bytes: usize,
        /// What the first eight say.
        size: u64,
    },
}

/// Hash of a leaf.
pub fn leaf_hash(data: &[u8]) -> Digest {
    Digest::of_parts(&[&[0], data])
}

/// Hash of an inner node.
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    Digest::of_parts(&[&[1], &left.0, &right.0])
}

/// The right edge of a tree: its size and the roots of its complete subtrees, largest first (one for each bit of the size, at most 63).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    hashes: Vec<Digest>,
}

impl Frontier {
    /// How many leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the complete subtrees, largest first.
    pub fn hashes(&self) -> &[Digest] {
        &self.hashes
    }

    /// Appends the hash of a leaf.
    pub fn append(&mut self, leaf: Digest) -> Result<(), TreeError> {
        self.append_nodes(leaf, |_, _, _| ())
    }

    /// Appends the hash of a leaf and shows every node that this completes, the leaf first: (level, index in its level, hash).
    pub fn append_nodes(&mut self, leaf: Digest, mut node: impl FnMut(u32, u64, Digest)) -> Result<(), TreeError> {
        if self.size >= i64::MAX.unsigned_abs() {
            return Err(TreeError::Full);
        }
        let mut hash = leaf;
        node(0, self.size, hash);
        for level in 1..=self.size.trailing_ones() {
            if let Some(left) = self.hashes.pop() {
                hash = node_hash(&left, &hash);
            }
            node(level, self.size >> level, hash);
        }
        self.hashes.push(hash);
        self.size += 1;
        Ok(())
    }

    /// From the size and the roots of its complete subtrees, largest first; `None` when their number does not fit.
    pub(crate) fn from_parts(size: u64, hashes: Vec<Digest>) -> Option<Self> {
        (usize::try_from(size.count_ones()) == Ok(hashes.len())).then_some(Self { size, hashes })
    }

    /// The root.
    pub fn root(&self) -> Digest {
        let mut smallest_first = self.hashes.iter().rev();
        let Some(last) = smallest_first.next() else { return Digest::of(b"") };
        smallest_first.fold(*last, |right, left| node_hash(left, &right))
    }

    /// The inclusion path of the leaf that the next [`Frontier::append`] adds, in the tree that it makes.
    pub fn path_of_next(&self) -> Vec<Digest> {
        self.hashes.iter().rev().copied().collect()
    }

    /// Size as 8 bytes, big end first, then the hashes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.size.to_be_bytes().to_vec();
        bytes.extend(self.hashes.iter().flat_map(|hash| hash.0));
        bytes
    }

    /// Reads what [`Frontier::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, TreeError> {
        let (head, rest) = bytes.split_first_chunk::<8>().ok_or(TreeError::Malformed { bytes: bytes.len(), size: 0 })?;
        let size = u64::from_be_bytes(*head);
        let (chunks, over) = rest.as_chunks::<32>();
        if !over.is_empty() || usize::try_from(size.count_ones()) != Ok(chunks.len()) || size > i64::MAX.unsigned_abs() {
            return Err(TreeError::Malformed { bytes: bytes.len(), size });
        }
        Ok(Self { size, hashes: chunks.iter().copied().map(Digest).collect() })
    }
}

/// The largest power of two below `n`; `n` > 1.
fn split(n: usize) -> usize {
    n.next_power_of_two() / 2
}

/// Root over leaf hashes.
pub fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::of(b""),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&root(left), &root(right))
        }
    }
}

/// Inclusion path of the leaf at `index`, nearest sibling first (RFC 6962 §2.1.1); `None` when there is no such leaf.
pub fn inclusion_path(leaves: &[Digest], index: usize) -> Option<Vec<Digest>> {
    match leaves {
        [] => None,
        [_] => (index == 0).then(Vec::new),
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            let (mut path, sibling) = match index.checked_sub(left.len()) {
                None => (inclusion_path(left, index)?, right),
                Some(index) => (inclusion_path(right, index)?, left),
            };
            path.push(root(sibling));
            Some(path)
        }
    }
}

/// Consistency path from the first `from` leaves to all of them (RFC 6962 §2.1.2); `None` unless 0 < `from` ≤ size.
pub fn consistency_path(leaves: &[Digest], from: usize) -> Option<Vec<Digest>> {
    fn path(leaves: &[Digest], from: usize, whole: bool) -> Vec<Digest> {
        if from == leaves.len() {
            return if whole { Vec::new() } else { vec![root(leaves)] };
        }
        let (left, right) = leaves.split_at(split(leaves.len()));
        let (mut hashes, sibling) = match from.checked_sub(left.len()) {
            None | Some(0) => (path(left, from, whole), right),
            Some(from) => (path(right, from, false), left),
        };
        hashes.push(root(sibling));
        hashes
    }
    (0 < from && from <= leaves.len()).then(|| path(leaves, from, true))
}

/// The root to which an inclusion path leads (RFC 9162 §2.1.3.2); `None` when its length does not fit index and size.
pub fn root_of_inclusion(leaf: Digest, index: u64, size: u64, path: &[Digest]) -> Option<Digest> {
    let mut last = size.checked_sub(1)?;
    let mut index = index;
    if index > last {
        return None;
    }
    let mut hash = leaf;
    for sibling in path {
        if last == 0 {
            return None;
        }
        if index & 1 == 1 || index == last {
            hash = node_hash(sibling, &hash);
            while index & 1 == 0 && index != 0 {
                index >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        index >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

/// A size and its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many leaves.
    pub size: u64,
    /// The root.
    pub root: Digest,
}

/// Whether the path shows that `earlier` is a prefix of `later` (RFC 9162 §2.1.4.2). Every tree continues the empty one.
pub fn consistent(earlier: Head, later: Head, path: &[Digest]) -> bool {
    if earlier.size == 0 || earlier.size >= later.size {
        return path.is_empty() && (earlier.size == 0 && earlier.root == Digest::of(b"") || earlier == later);
    }
    let mut index = earlier.size - 1;
    let mut last = later.size - 1;
    while index & 1 == 1 {
        index >>= 1;
        last >>= 1;
    }
    let mut rest = path.iter();
    // Where the earlier tree is one complete subtree the path leaves its root out.
    let Some(first) = (if earlier.size.is_power_of_two() { Some(&earlier.root) } else { rest.next() }) else { return false };
    let (mut old, mut new) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if index & 1 == 1 || index == last {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
            while index & 1 == 0 && index != 0 {
                index >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(&new, sibling);
        }
        index >>= 1;
        last >>= 1;
    }
    last == 0 && old == earlier.root && new == later.root
}

#[cfg(test)]
mod tests {
    use super::*;
    use tlog_tiles::{Hash, HashReader};

    /// tlog_tiles' own storage of hashes: an independent implementation, a port of Go's sumdb.
    struct Stored(Vec<Hash>);

    impl HashReader for Stored {
        fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
            Ok(indexes.iter().map(|index| self.0[usize::try_from(*index).unwrap()]).collect())
        }
    }

    fn hashes(path: &[Digest]) -> Vec<Hash> {
        path.iter().map(|hash| Hash(hash.0)).collect()
    }

    #[test]
    fn roots_paths_and_frontiers_agree_with_tlog_tiles() {
        let mut frontier = Frontier::default();
        let mut stored = Stored(Vec::new());
        let mut leaves = Vec::new();
        let mut nodes = std::collections::BTreeMap::new();
        let mut roots = vec![frontier.root()];
        for n in 0..70_u64 {
            let data = n.to_string();
            stored.0.extend(tlog_tiles::stored_hashes(n, data.as_bytes(), &stored).unwrap());
            let leaf = leaf_hash(data.as_bytes());
            let path_of_next = frontier.path_of_next();
            frontier.append_nodes(leaf, |level, at, hash| assert_eq!(nodes.insert((level, at), hash), None)).unwrap();
            leaves.push(leaf);
            let root = frontier.root();
            roots.push(root);
            let size = n + 1;
            assert_eq!(Hash(root.0), tlog_tiles::tree_hash(size, &stored).unwrap());
            assert_eq!(root, super::root(&leaves));
            assert_eq!(Frontier::decode(&frontier.encode()), Ok(frontier.clone()));
            assert_eq!(inclusion_path(&leaves, leaves.len() - 1).unwrap(), path_of_next);
            for ((level, at), hash) in &nodes {
                let index = tlog_tiles::stored_hash_index(u8::try_from(*level).unwrap(), *at);
                assert_eq!(Hash(hash.0), stored.0[usize::try_from(index).unwrap()]);
            }
            for index in 0..size {
                let leaf = leaves[usize::try_from(index).unwrap()];
                let path = inclusion_path(&leaves, usize::try_from(index).unwrap()).unwrap();
                assert_eq!(hashes(&path), tlog_tiles::prove_record(size, index, &stored).unwrap());
                tlog_tiles::check_record(&hashes(&path), size, Hash(root.0), index, Hash(leaf.0)).unwrap();
                assert_eq!(root_of_inclusion(leaf, index, size, &path), Some(root));
                assert_ne!(root_of_inclusion(leaf, index + 1, size, &path), Some(root));
                let longer: Vec<_> = path.iter().copied().chain([leaf]).collect();
                assert_ne!(root_of_inclusion(leaf, index, size, &longer), Some(root));
            }
            for from in 1..=size {
                let path = consistency_path(&leaves, usize::try_from(from).unwrap()).unwrap();
                let earlier = Head { size: from, root: roots[usize::try_from(from).unwrap()] };
                let later = Head { size, root };
                assert_eq!(hashes(&path), tlog_tiles::prove_tree(size, from, &stored).unwrap());
                tlog_tiles::check_tree(&hashes(&path), size, Hash(root.0), from, Hash(earlier.root.0)).unwrap();
                assert!(consistent(earlier, later, &path), "{from} to {size}");
                assert!(!consistent(Head { root: leaf_hash(b"forged"), ..earlier }, later, &path));
                if from < size {
                    assert!(!consistent(earlier, Head { root: leaf_hash(b"forged"), ..later }, &path));
                    assert!(!consistent(earlier, later, &path[1..]));
                }
            }
        }
        assert_eq!(inclusion_path(&leaves, 70), None);
        assert_eq!(consistency_path(&leaves, 0), None);
        assert_eq!(consistency_path(&leaves, 71), None);
    }

    #[test]
    fn malformed_frontiers_are_refused() {
        let mut frontier = Frontier::default();
        assert_eq!(frontier.encode(), [0; 8]);
        frontier.append(leaf_hash(b"")).unwrap();
        let bytes = frontier.encode();
        for wrong in [&bytes[..7], &bytes[..39], &bytes[..8], &[bytes.as_slice(), &[0; 32]].concat(), &[0xff; 8 + 64 * 32]] {
            assert!(matches!(Frontier::decode(wrong), Err(TreeError::Malformed { .. })));
        }
    }
}
