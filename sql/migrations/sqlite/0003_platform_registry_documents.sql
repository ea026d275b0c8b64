-- Registry documents, the versions made of them, and control records. Owner: platform-registry. Nothing is ever changed or removed.

-- Canonical JSON of one document by its SHA-256.
CREATE TABLE platform_registry_documents (
    digest BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    kind TEXT NOT NULL CHECK (kind IN ('contract', 'meter', 'price_book', 'rounding', 'sku', 'unit')),
    id TEXT NOT NULL CHECK (length(id) BETWEEN 1 AND 128),
    content TEXT NOT NULL
) STRICT;

CREATE TRIGGER platform_registry_documents_append_only_update BEFORE UPDATE ON platform_registry_documents
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_documents'); END;
CREATE TRIGGER platform_registry_documents_append_only_delete BEFORE DELETE ON platform_registry_documents
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_documents'); END;
CREATE TRIGGER platform_registry_documents_append_only_replace BEFORE INSERT ON platform_registry_documents
WHEN EXISTS (SELECT 1 FROM platform_registry_documents WHERE digest = NEW.digest)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_documents'); END;

-- A version by its address; documents is a JSON array of their digests in hex, by kind, then by id.
CREATE TABLE platform_registry_versions (
    address BLOB NOT NULL PRIMARY KEY CHECK (length(address) = 32),
    documents TEXT NOT NULL CHECK (json_array_length(documents) > 0),
    recorded_at INTEGER NOT NULL
) STRICT;

CREATE TRIGGER platform_registry_versions_append_only_update BEFORE UPDATE ON platform_registry_versions
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_versions'); END;
CREATE TRIGGER platform_registry_versions_append_only_delete BEFORE DELETE ON platform_registry_versions
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_versions'); END;
CREATE TRIGGER platform_registry_versions_append_only_replace BEFORE INSERT ON platform_registry_versions
WHEN EXISTS (SELECT 1 FROM platform_registry_versions WHERE address = NEW.address)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_versions'); END;
CREATE TRIGGER platform_registry_versions_complete BEFORE INSERT ON platform_registry_versions
WHEN EXISTS (SELECT 1 FROM json_each(NEW.documents) AS item
    WHERE NOT EXISTS (SELECT 1 FROM platform_registry_documents AS document WHERE document.digest = unhex(item.value)))
BEGIN SELECT RAISE(ABORT, 'a version is made of recorded documents: platform_registry_versions'); END;

-- Control records: numbered densely here, then appended to every shard of the stream.
CREATE TABLE platform_registry_controls (
    control_no INTEGER NOT NULL PRIMARY KEY CHECK (control_no >= 1),
    kind TEXT NOT NULL CHECK (length(kind) BETWEEN 1 AND 32),
    version BLOB REFERENCES platform_registry_versions (address),
    payload TEXT NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    recorded_at INTEGER NOT NULL,
    CHECK ((kind = 'registry') = (version IS NOT NULL))
) STRICT;

CREATE INDEX platform_registry_controls_by_version ON platform_registry_controls (version, control_no) WHERE version IS NOT NULL;

CREATE TRIGGER platform_registry_controls_append_only_update BEFORE UPDATE ON platform_registry_controls
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_controls'); END;
CREATE TRIGGER platform_registry_controls_append_only_delete BEFORE DELETE ON platform_registry_controls
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_controls'); END;
CREATE TRIGGER platform_registry_controls_append_only_replace BEFORE INSERT ON platform_registry_controls
WHEN EXISTS (SELECT 1 FROM platform_registry_controls WHERE control_no = NEW.control_no)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_controls'); END;
CREATE TRIGGER platform_registry_controls_dense BEFORE INSERT ON platform_registry_controls
WHEN NEW.control_no <> 1 + coalesce((SELECT max(control_no) FROM platform_registry_controls), 0)
BEGIN SELECT RAISE(ABORT, 'control records are numbered densely: platform_registry_controls'); END;
