-- The audit: hash chains of records, and where each chain ends. Owner: platform-audit. A record is never changed or removed.

-- content is canonical JSON and names chain, seq and previous; digest is its SHA-256. record_no counts over all chains.
CREATE TABLE platform_audit_records (
    record_no bigint NOT NULL PRIMARY KEY CHECK (record_no >= 1),
    chain text COLLATE "C" NOT NULL CHECK (chain = 'deployment' OR starts_with(chain, 'organization/')),
    seq bigint NOT NULL CHECK (seq >= 1),
    content text NOT NULL,
    previous bytea NOT NULL CHECK (length(previous) = 32),
    digest bytea NOT NULL CHECK (length(digest) = 32),
    UNIQUE (chain, seq)
);

-- Maintained by the records' trigger only.
CREATE TABLE platform_audit_heads (
    chain text COLLATE "C" NOT NULL PRIMARY KEY,
    seq bigint NOT NULL,
    digest bytea NOT NULL CHECK (length(digest) = 32)
);

CREATE FUNCTION platform_audit_records_check() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    head platform_audit_heads;
BEGIN
    IF new.record_no <> 1 + coalesce((SELECT max(record_no) FROM platform_audit_records WHERE record_no <> new.record_no), 0) THEN
        RAISE EXCEPTION 'audit records are numbered densely: platform_audit_records';
    END IF;
    SELECT * INTO head FROM platform_audit_heads WHERE chain = new.chain;
    IF new.seq <> coalesce(head.seq, 0) + 1 OR new.previous <> coalesce(head.digest, decode(repeat('00', 32), 'hex')) THEN
        RAISE EXCEPTION 'an audit record continues its chain: platform_audit_records';
    END IF;
    INSERT INTO platform_audit_heads (chain, seq, digest) VALUES (new.chain, new.seq, new.digest)
    ON CONFLICT (chain) DO UPDATE SET seq = excluded.seq, digest = excluded.digest;
    RETURN NULL;
END $$;

CREATE TRIGGER platform_audit_records_chained AFTER INSERT ON platform_audit_records
FOR EACH ROW EXECUTE FUNCTION platform_audit_records_check();
ALTER TABLE platform_audit_records ENABLE ALWAYS TRIGGER platform_audit_records_chained;

CREATE FUNCTION platform_audit_heads_check() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF tg_op <> 'UPDATE' THEN
        RAISE EXCEPTION 'a head is never removed: platform_audit_heads';
    END IF;
    IF new.chain <> old.chain OR new.seq <> old.seq + 1
        OR NOT EXISTS (SELECT 1 FROM platform_audit_records WHERE chain = new.chain AND seq = new.seq AND digest = new.digest) THEN
        RAISE EXCEPTION 'a head only follows its chain: platform_audit_heads';
    END IF;
    RETURN new;
END $$;

CREATE TRIGGER platform_audit_heads_rise BEFORE UPDATE OR DELETE ON platform_audit_heads
FOR EACH ROW EXECUTE FUNCTION platform_audit_heads_check();
CREATE TRIGGER platform_audit_heads_keep BEFORE TRUNCATE ON platform_audit_heads
FOR EACH STATEMENT EXECUTE FUNCTION platform_audit_heads_check();
ALTER TABLE platform_audit_heads ENABLE ALWAYS TRIGGER platform_audit_heads_rise;
ALTER TABLE platform_audit_heads ENABLE ALWAYS TRIGGER platform_audit_heads_keep;

CREATE TRIGGER platform_audit_records_append_only_update BEFORE UPDATE ON platform_audit_records
FOR EACH ROW EXECUTE FUNCTION shared_db_append_only();
CREATE TRIGGER platform_audit_records_append_only_delete BEFORE DELETE ON platform_audit_records
FOR EACH ROW EXECUTE FUNCTION shared_db_append_only();
CREATE TRIGGER platform_audit_records_append_only_truncate BEFORE TRUNCATE ON platform_audit_records
FOR EACH STATEMENT EXECUTE FUNCTION shared_db_append_only();
ALTER TABLE platform_audit_records ENABLE ALWAYS TRIGGER platform_audit_records_append_only_update;
ALTER TABLE platform_audit_records ENABLE ALWAYS TRIGGER platform_audit_records_append_only_delete;
ALTER TABLE platform_audit_records ENABLE ALWAYS TRIGGER platform_audit_records_append_only_truncate;
