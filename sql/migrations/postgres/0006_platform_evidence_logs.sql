-- Organization logs, sums, the checkpoint tree and the tiled log of checkpoints. Owner: platform-evidence.

-- Every organization known, with the hash of its leaf in the checkpoint tree.
CREATE TABLE platform_evidence_organizations (
    organization text PRIMARY KEY,
    salted bytea NOT NULL UNIQUE CHECK (length(salted) = 32),
    leaf_hash bytea NOT NULL CHECK (length(leaf_hash) = 32)
);

-- One log per organization and UTC month (yyyymm); the frontier is 8 bytes of size and the roots of the complete subtrees.
CREATE TABLE platform_evidence_logs (
    organization text NOT NULL REFERENCES platform_evidence_organizations (organization),
    month bigint NOT NULL CHECK (month BETWEEN 197001 AND 999912),
    size bigint NOT NULL CHECK (size > 0),
    frontier bytea NOT NULL CHECK (length(frontier) >= 40 AND length(frontier) % 32 = 8),
    PRIMARY KEY (organization, month)
);

-- Sum of all charges per organization and currency, in units of 10^-9.
CREATE TABLE platform_evidence_sums (
    organization text NOT NULL REFERENCES platform_evidence_organizations (organization),
    currency text NOT NULL,
    amount bigint NOT NULL,
    PRIMARY KEY (organization, currency)
);

-- The tiled log: entry number tree_size - 1, and the signed head of the tree with it. Recorded facts, never rebuilt.
CREATE TABLE platform_evidence_checkpoints (
    tree_size bigint PRIMARY KEY CHECK (tree_size > 0),
    batch_no bigint NOT NULL CHECK (batch_no >= 0),
    entry text NOT NULL CHECK (octet_length(entry) < 65536),
    root bytea NOT NULL CHECK (length(root) = 32),
    note text NOT NULL,
    recorded_at bigint NOT NULL
);

-- Complete nodes of the tiled log's tree: level 0 are hashes of entries.
CREATE TABLE platform_evidence_nodes (
    level bigint NOT NULL CHECK (level BETWEEN 0 AND 62),
    node_no bigint NOT NULL CHECK (node_no >= 0),
    hash bytea NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, node_no)
);

CREATE FUNCTION platform_evidence_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'append-only: %', tg_table_name; END $$;

CREATE TRIGGER platform_evidence_checkpoints_append_only_update BEFORE UPDATE ON platform_evidence_checkpoints
FOR EACH ROW EXECUTE FUNCTION platform_evidence_append_only();
CREATE TRIGGER platform_evidence_checkpoints_append_only_delete BEFORE DELETE ON platform_evidence_checkpoints
FOR EACH ROW EXECUTE FUNCTION platform_evidence_append_only();
CREATE TRIGGER platform_evidence_checkpoints_append_only_truncate BEFORE TRUNCATE ON platform_evidence_checkpoints
FOR EACH STATEMENT EXECUTE FUNCTION platform_evidence_append_only();
CREATE TRIGGER platform_evidence_nodes_append_only_update BEFORE UPDATE ON platform_evidence_nodes
FOR EACH ROW EXECUTE FUNCTION platform_evidence_append_only();
CREATE TRIGGER platform_evidence_nodes_append_only_delete BEFORE DELETE ON platform_evidence_nodes
FOR EACH ROW EXECUTE FUNCTION platform_evidence_append_only();
CREATE TRIGGER platform_evidence_nodes_append_only_truncate BEFORE TRUNCATE ON platform_evidence_nodes
FOR EACH STATEMENT EXECUTE FUNCTION platform_evidence_append_only();

CREATE FUNCTION platform_evidence_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'never deleted: %', tg_table_name; END $$;

CREATE TRIGGER platform_evidence_organizations_kept BEFORE DELETE ON platform_evidence_organizations
FOR EACH ROW EXECUTE FUNCTION platform_evidence_kept();
CREATE TRIGGER platform_evidence_organizations_kept_truncate BEFORE TRUNCATE ON platform_evidence_organizations
FOR EACH STATEMENT EXECUTE FUNCTION platform_evidence_kept();
CREATE TRIGGER platform_evidence_logs_kept BEFORE DELETE ON platform_evidence_logs
FOR EACH ROW EXECUTE FUNCTION platform_evidence_kept();
CREATE TRIGGER platform_evidence_logs_kept_truncate BEFORE TRUNCATE ON platform_evidence_logs
FOR EACH STATEMENT EXECUTE FUNCTION platform_evidence_kept();
CREATE TRIGGER platform_evidence_sums_kept BEFORE DELETE ON platform_evidence_sums
FOR EACH ROW EXECUTE FUNCTION platform_evidence_kept();
CREATE TRIGGER platform_evidence_sums_kept_truncate BEFORE TRUNCATE ON platform_evidence_sums
FOR EACH STATEMENT EXECUTE FUNCTION platform_evidence_kept();

CREATE FUNCTION platform_evidence_organizations_fixed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.organization <> old.organization OR new.salted <> old.salted THEN
        RAISE EXCEPTION 'the salted organization never changes';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER platform_evidence_organizations_fixed BEFORE UPDATE ON platform_evidence_organizations
FOR EACH ROW EXECUTE FUNCTION platform_evidence_organizations_fixed();

CREATE FUNCTION platform_evidence_logs_grow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.organization <> old.organization OR new.month <> old.month OR new.size <= old.size THEN
        RAISE EXCEPTION 'a log only grows';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER platform_evidence_logs_grow BEFORE UPDATE ON platform_evidence_logs
FOR EACH ROW EXECUTE FUNCTION platform_evidence_logs_grow();

CREATE FUNCTION platform_evidence_checkpoints_check() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE head platform_evidence_checkpoints;
BEGIN
    SELECT * INTO head FROM platform_evidence_checkpoints ORDER BY tree_size DESC LIMIT 1;
    IF new.tree_size <> coalesce(head.tree_size, 0) + 1 THEN RAISE EXCEPTION 'checkpoints are dense'; END IF;
    IF new.batch_no < head.batch_no THEN RAISE EXCEPTION 'a checkpoint never names an earlier batch'; END IF;
    RETURN new;
END $$;
CREATE TRIGGER platform_evidence_checkpoints_check BEFORE INSERT ON platform_evidence_checkpoints
FOR EACH ROW EXECUTE FUNCTION platform_evidence_checkpoints_check();

-- Triggers bind the owner and a superuser in replica mode too.
DO $$
DECLARE found record;
BEGIN
    FOR found IN SELECT tgrelid::regclass AS relation, tgname FROM pg_trigger
        WHERE NOT tgisinternal AND tgname LIKE 'platform\_evidence\_%'
            AND tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = current_schema()::regnamespace) LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', found.relation, found.tgname);
    END LOOP;
END $$;
