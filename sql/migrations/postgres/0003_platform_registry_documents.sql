-- Registry documents, the versions made of them, and control records. Owner: platform-registry. Nothing is ever changed or removed.

-- Canonical JSON of one document by its SHA-256.
CREATE TABLE platform_registry_documents (
    digest bytea NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    kind text NOT NULL CHECK (kind IN ('contract', 'meter', 'price_book', 'rounding', 'sku', 'unit')),
    id text NOT NULL CHECK (length(id) BETWEEN 1 AND 128),
    content text NOT NULL
);

-- A version by its address; documents is a JSON array of their digests in hex, by kind, then by id.
CREATE TABLE platform_registry_versions (
    address bytea NOT NULL PRIMARY KEY CHECK (length(address) = 32),
    documents text NOT NULL CHECK (json_array_length(documents::json) > 0),
    recorded_at bigint NOT NULL
);

CREATE FUNCTION platform_registry_versions_check() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM json_array_elements_text(new.documents::json) AS item (digest)
        WHERE NOT EXISTS (SELECT 1 FROM platform_registry_documents AS document WHERE document.digest = decode(item.digest, 'hex'))) THEN
        RAISE EXCEPTION 'a version is made of recorded documents: platform_registry_versions';
    END IF;
    RETURN new;
END $$;

CREATE TRIGGER platform_registry_versions_complete BEFORE INSERT ON platform_registry_versions
FOR EACH ROW EXECUTE FUNCTION platform_registry_versions_check();
ALTER TABLE platform_registry_versions ENABLE ALWAYS TRIGGER platform_registry_versions_complete;

-- Control records: numbered densely here, then appended to every shard of the stream.
CREATE TABLE platform_registry_controls (
    control_no bigint NOT NULL PRIMARY KEY CHECK (control_no >= 1),
    kind text NOT NULL CHECK (length(kind) BETWEEN 1 AND 32),
    version bytea REFERENCES platform_registry_versions (address),
    payload text NOT NULL,
    digest bytea NOT NULL CHECK (length(digest) = 32),
    recorded_at bigint NOT NULL,
    CHECK ((kind = 'registry') = (version IS NOT NULL))
);

CREATE INDEX platform_registry_controls_by_version ON platform_registry_controls (version, control_no) WHERE version IS NOT NULL;

CREATE FUNCTION platform_registry_controls_check() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF new.control_no <> 1 + coalesce((SELECT max(control_no) FROM platform_registry_controls), 0) THEN
        RAISE EXCEPTION 'control records are numbered densely: platform_registry_controls';
    END IF;
    RETURN new;
END $$;

CREATE TRIGGER platform_registry_controls_dense BEFORE INSERT ON platform_registry_controls
FOR EACH ROW EXECUTE FUNCTION platform_registry_controls_check();
ALTER TABLE platform_registry_controls ENABLE ALWAYS TRIGGER platform_registry_controls_dense;

CREATE TRIGGER platform_registry_documents_append_only_update BEFORE UPDATE ON platform_registry_documents
FOR EACH ROW EXECUTE FUNCTION shared_db_append_only();
CREATE TRIGGER platform_registry_documents_append_only_delete BEFORE DELETE ON platform_registry_documents
FOR EACH ROW EXECUTE FUNCTION shared_db_append_only();
CREATE TRIGGER platform_registry_documents_append_only_truncate BEFORE TRUNCATE ON platform_registry_documents
FOR EACH STATEMENT EXECUTE FUNCTION shared_db_append_only();
ALTER TABLE platform_registry_documents ENABLE ALWAYS TRIGGER platform_registry_documents_append_only_update;
ALTER TABLE platform_registry_documents ENABLE ALWAYS TRIGGER platform_registry_documents_append_only_delete;
ALTER TABLE platform_registry_documents ENABLE ALWAYS TRIGGER platform_registry_documents_append_only_truncate;

CREATE TRIGGER platform_registry_versions_append_only_update BEFORE UPDATE ON platform_registry_versions
FOR EACH ROW EXECUTE FUNCTION shared_db_append_only();
CREATE TRIGGER platform_registry_versions_append_only_delete BEFORE DELETE ON platform_registry_versions
FOR EACH ROW EXECUTE FUNCTION shared_db_append_only();
CREATE TRIGGER platform_registry_versions_append_only_truncate BEFORE TRUNCATE ON platform_registry_versions
FOR EACH STATEMENT EXECUTE FUNCTION shared_db_append_only();
ALTER TABLE platform_registry_versions ENABLE ALWAYS TRIGGER platform_registry_versions_append_only_update;
ALTER TABLE platform_registry_versions ENABLE ALWAYS TRIGGER platform_registry_versions_append_only_delete;
ALTER TABLE platform_registry_versions ENABLE ALWAYS TRIGGER platform_registry_versions_append_only_truncate;

CREATE TRIGGER platform_registry_controls_append_only_update BEFORE UPDATE ON platform_registry_controls
FOR EACH ROW EXECUTE FUNCTION shared_db_append_only();
CREATE TRIGGER platform_registry_controls_append_only_delete BEFORE DELETE ON platform_registry_controls
FOR EACH ROW EXECUTE FUNCTION shared_db_append_only();
CREATE TRIGGER platform_registry_controls_append_only_truncate BEFORE TRUNCATE ON platform_registry_controls
FOR EACH STATEMENT EXECUTE FUNCTION shared_db_append_only();
ALTER TABLE platform_registry_controls ENABLE ALWAYS TRIGGER platform_registry_controls_append_only_update;
ALTER TABLE platform_registry_controls ENABLE ALWAYS TRIGGER platform_registry_controls_append_only_delete;
ALTER TABLE platform_registry_controls ENABLE ALWAYS TRIGGER platform_registry_controls_append_only_truncate;
