-- Organization logs, sums, the checkpoint tree and the tiled log of checkpoints. Owner: platform-evidence.

-- Every organization known, with the hash of its leaf in the checkpoint tree.
CREATE TABLE platform_evidence_organizations (
    organization TEXT PRIMARY KEY,
    salted BLOB NOT NULL UNIQUE CHECK (length(salted) = 32),
    leaf_hash BLOB NOT NULL CHECK (length(leaf_hash) = 32)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER platform_evidence_organizations_kept BEFORE DELETE ON platform_evidence_organizations
BEGIN SELECT RAISE(ABORT, 'an organization is never forgotten'); END;
CREATE TRIGGER platform_evidence_organizations_fixed BEFORE UPDATE ON platform_evidence_organizations
WHEN new.organization <> old.organization OR new.salted <> old.salted
BEGIN SELECT RAISE(ABORT, 'the salted organization never changes'); END;

-- One log per organization and UTC month (yyyymm); the frontier is 8 bytes of size and the roots of the complete subtrees.
CREATE TABLE platform_evidence_logs (
    organization TEXT NOT NULL REFERENCES platform_evidence_organizations (organization),
    month INTEGER NOT NULL CHECK (month BETWEEN 197001 AND 999912),
    size INTEGER NOT NULL CHECK (size > 0),
    frontier BLOB NOT NULL CHECK (length(frontier) >= 40 AND length(frontier) % 32 = 8),
    PRIMARY KEY (organization, month)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER platform_evidence_logs_kept BEFORE DELETE ON platform_evidence_logs
BEGIN SELECT RAISE(ABORT, 'a log is never deleted'); END;
CREATE TRIGGER platform_evidence_logs_grow BEFORE UPDATE ON platform_evidence_logs
WHEN new.organization <> old.organization OR new.month <> old.month OR new.size <= old.size
BEGIN SELECT RAISE(ABORT, 'a log only grows'); END;

-- Sum of all charges per organization and currency, in units of 10^-9.
CREATE TABLE platform_evidence_sums (
    organization TEXT NOT NULL REFERENCES platform_evidence_organizations (organization),
    currency TEXT NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (organization, currency)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER platform_evidence_sums_kept BEFORE DELETE ON platform_evidence_sums
BEGIN SELECT RAISE(ABORT, 'a sum is never deleted'); END;

-- The tiled log: entry number tree_size - 1, and the signed head of the tree with it. Recorded facts, never rebuilt.
CREATE TABLE platform_evidence_checkpoints (
    tree_size INTEGER PRIMARY KEY CHECK (tree_size > 0),
    batch_no INTEGER NOT NULL CHECK (batch_no >= 0),
    entry TEXT NOT NULL CHECK (length(CAST(entry AS BLOB)) < 65536),
    root BLOB NOT NULL CHECK (length(root) = 32),
    note TEXT NOT NULL,
    recorded_at INTEGER NOT NULL
) STRICT;

CREATE TRIGGER platform_evidence_checkpoints_append_only_update BEFORE UPDATE ON platform_evidence_checkpoints
BEGIN SELECT RAISE(ABORT, 'append-only: platform_evidence_checkpoints'); END;
CREATE TRIGGER platform_evidence_checkpoints_append_only_delete BEFORE DELETE ON platform_evidence_checkpoints
BEGIN SELECT RAISE(ABORT, 'append-only: platform_evidence_checkpoints'); END;
CREATE TRIGGER platform_evidence_checkpoints_append_only_replace BEFORE INSERT ON platform_evidence_checkpoints
WHEN EXISTS (SELECT 1 FROM platform_evidence_checkpoints WHERE tree_size = new.tree_size)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_evidence_checkpoints'); END;
CREATE TRIGGER platform_evidence_checkpoints_dense BEFORE INSERT ON platform_evidence_checkpoints
WHEN new.tree_size <> (SELECT coalesce(max(tree_size), 0) + 1 FROM platform_evidence_checkpoints)
BEGIN SELECT RAISE(ABORT, 'checkpoints are dense'); END;
CREATE TRIGGER platform_evidence_checkpoints_forward BEFORE INSERT ON platform_evidence_checkpoints
WHEN new.batch_no < (SELECT batch_no FROM platform_evidence_checkpoints ORDER BY tree_size DESC LIMIT 1)
BEGIN SELECT RAISE(ABORT, 'a checkpoint never names an earlier batch'); END;

-- Complete nodes of the tiled log's tree: level 0 are hashes of entries.
CREATE TABLE platform_evidence_nodes (
    level INTEGER NOT NULL CHECK (level BETWEEN 0 AND 62),
    node_no INTEGER NOT NULL CHECK (node_no >= 0),
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, node_no)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER platform_evidence_nodes_append_only_update BEFORE UPDATE ON platform_evidence_nodes
BEGIN SELECT RAISE(ABORT, 'append-only: platform_evidence_nodes'); END;
CREATE TRIGGER platform_evidence_nodes_append_only_delete BEFORE DELETE ON platform_evidence_nodes
BEGIN SELECT RAISE(ABORT, 'append-only: platform_evidence_nodes'); END;
CREATE TRIGGER platform_evidence_nodes_append_only_replace BEFORE INSERT ON platform_evidence_nodes
WHEN EXISTS (SELECT 1 FROM platform_evidence_nodes WHERE level = new.level AND node_no = new.node_no)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_evidence_nodes'); END;
