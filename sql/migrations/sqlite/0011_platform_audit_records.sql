-- The audit: hash chains of records, and where each chain ends. Owner: platform-audit. A record is never changed or removed.

-- content is canonical JSON and names chain, seq and previous; digest is its SHA-256. record_no counts over all chains.
CREATE TABLE platform_audit_records (
    record_no INTEGER NOT NULL PRIMARY KEY CHECK (record_no >= 1),
    chain TEXT NOT NULL CHECK (chain = 'deployment' OR substr(chain, 1, 13) = 'organization/'),
    seq INTEGER NOT NULL CHECK (seq >= 1),
    content TEXT NOT NULL,
    previous BLOB NOT NULL CHECK (length(previous) = 32),
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    UNIQUE (chain, seq)
) STRICT;

-- Maintained by the records' trigger only.
CREATE TABLE platform_audit_heads (
    chain TEXT NOT NULL PRIMARY KEY,
    seq INTEGER NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 32)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER platform_audit_records_chained AFTER INSERT ON platform_audit_records
BEGIN
    SELECT RAISE(ABORT, 'audit records are numbered densely: platform_audit_records')
    WHERE NEW.record_no <> 1 + coalesce((SELECT max(record_no) FROM platform_audit_records WHERE record_no <> NEW.record_no), 0);
    SELECT RAISE(ABORT, 'an audit record continues its chain: platform_audit_records')
    WHERE NEW.seq <> 1 + coalesce((SELECT seq FROM platform_audit_heads WHERE chain = NEW.chain), 0)
        OR NEW.previous <> coalesce((SELECT digest FROM platform_audit_heads WHERE chain = NEW.chain), zeroblob(32));
    INSERT INTO platform_audit_heads (chain, seq, digest) VALUES (NEW.chain, NEW.seq, NEW.digest)
    ON CONFLICT (chain) DO UPDATE SET seq = excluded.seq, digest = excluded.digest;
END;

CREATE TRIGGER platform_audit_heads_rise BEFORE UPDATE ON platform_audit_heads
WHEN NEW.chain <> OLD.chain OR NEW.seq <> OLD.seq + 1
    OR NOT EXISTS (SELECT 1 FROM platform_audit_records WHERE chain = NEW.chain AND seq = NEW.seq AND digest = NEW.digest)
BEGIN
    SELECT RAISE(ABORT, 'a head only follows its chain: platform_audit_heads');
END;

CREATE TRIGGER platform_audit_heads_keep BEFORE DELETE ON platform_audit_heads
BEGIN
    SELECT RAISE(ABORT, 'a head is never removed: platform_audit_heads');
END;

CREATE TRIGGER platform_audit_records_append_only_update BEFORE UPDATE ON platform_audit_records
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_audit_records');
END;

CREATE TRIGGER platform_audit_records_append_only_delete BEFORE DELETE ON platform_audit_records
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_audit_records');
END;

CREATE TRIGGER platform_audit_records_append_only_replace BEFORE INSERT ON platform_audit_records
WHEN EXISTS (SELECT 1 FROM platform_audit_records WHERE record_no = NEW.record_no OR (chain = NEW.chain AND seq = NEW.seq))
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_audit_records');
END;
