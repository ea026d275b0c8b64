-- Documents may be billable states. Owner: platform-registry.
--
-- SQLite alters no CHECK: the table is made anew with its rows and triggers, and so are the triggers elsewhere that read it.

DROP TRIGGER platform_registry_versions_complete;
DROP TRIGGER platform_registry_drafts_complete;

ALTER TABLE platform_registry_documents RENAME TO platform_registry_documents_before;

CREATE TABLE platform_registry_documents (
    digest BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    kind TEXT NOT NULL CHECK (kind IN ('billable_states', 'contract', 'meter', 'price_book', 'rounding', 'sku', 'unit')),
    id TEXT NOT NULL CHECK (length(id) BETWEEN 1 AND 128),
    content TEXT NOT NULL
) STRICT;

INSERT INTO platform_registry_documents SELECT digest, kind, id, content FROM platform_registry_documents_before;
DROP TABLE platform_registry_documents_before;

CREATE TRIGGER platform_registry_documents_append_only_update BEFORE UPDATE ON platform_registry_documents
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_documents'); END;
CREATE TRIGGER platform_registry_documents_append_only_delete BEFORE DELETE ON platform_registry_documents
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_documents'); END;
CREATE TRIGGER platform_registry_documents_append_only_replace BEFORE INSERT ON platform_registry_documents
WHEN EXISTS (SELECT 1 FROM platform_registry_documents WHERE digest = NEW.digest)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_documents'); END;

CREATE TRIGGER platform_registry_versions_complete BEFORE INSERT ON platform_registry_versions
WHEN EXISTS (SELECT 1 FROM json_each(NEW.documents) AS item
    WHERE NOT EXISTS (SELECT 1 FROM platform_registry_documents AS document WHERE document.digest = unhex(item.value)))
BEGIN SELECT RAISE(ABORT, 'a version is made of recorded documents: platform_registry_versions'); END;
CREATE TRIGGER platform_registry_drafts_complete BEFORE INSERT ON platform_registry_drafts
WHEN EXISTS (SELECT 1 FROM json_each(NEW.documents) AS item
    WHERE NOT EXISTS (SELECT 1 FROM platform_registry_documents AS document WHERE document.digest = unhex(item.value)))
BEGIN SELECT RAISE(ABORT, 'a draft is made of recorded documents: platform_registry_drafts'); END;
