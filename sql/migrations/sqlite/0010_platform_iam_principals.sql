-- Who may do what: organizations, projects, principals, keys, sources. Owner: platform-iam. Nothing is ever changed or removed.

-- A registered organization. Metering asks nobody: usage of others is counted as well.
CREATE TABLE platform_iam_organizations (
    organization TEXT NOT NULL PRIMARY KEY CHECK (length(organization) BETWEEN 1 AND 128),
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    created_at INTEGER NOT NULL
) STRICT;

CREATE TRIGGER platform_iam_organizations_append_only_update BEFORE UPDATE ON platform_iam_organizations
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_organizations'); END;
CREATE TRIGGER platform_iam_organizations_append_only_delete BEFORE DELETE ON platform_iam_organizations
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_organizations'); END;
CREATE TRIGGER platform_iam_organizations_append_only_replace BEFORE INSERT ON platform_iam_organizations
WHEN EXISTS (SELECT 1 FROM platform_iam_organizations WHERE organization = NEW.organization)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_organizations'); END;

-- A project of a registered organization.
CREATE TABLE platform_iam_projects (
    organization TEXT NOT NULL REFERENCES platform_iam_organizations (organization),
    project TEXT NOT NULL CHECK (length(project) BETWEEN 1 AND 128),
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (organization, project)
) STRICT;

CREATE TRIGGER platform_iam_projects_append_only_update BEFORE UPDATE ON platform_iam_projects
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_projects'); END;
CREATE TRIGGER platform_iam_projects_append_only_delete BEFORE DELETE ON platform_iam_projects
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_projects'); END;
CREATE TRIGGER platform_iam_projects_append_only_replace BEFORE INSERT ON platform_iam_projects
WHEN EXISTS (SELECT 1 FROM platform_iam_projects WHERE organization = NEW.organization AND project = NEW.project)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_projects'); END;

-- Who keys belong to. A principal has one role for ever; a customer's belongs to an organization.
CREATE TABLE platform_iam_principals (
    principal TEXT NOT NULL PRIMARY KEY CHECK (length(principal) BETWEEN 1 AND 64 AND principal NOT IN ('local', 'unknown')),
    role TEXT NOT NULL CHECK (role IN ('operator', 'finance', 'auditor', 'customer', 'agent')),
    organization TEXT REFERENCES platform_iam_organizations (organization),
    created_at INTEGER NOT NULL,
    CHECK ((role = 'customer') = (organization IS NOT NULL))
) STRICT;

CREATE TRIGGER platform_iam_principals_append_only_update BEFORE UPDATE ON platform_iam_principals
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_principals'); END;
CREATE TRIGGER platform_iam_principals_append_only_delete BEFORE DELETE ON platform_iam_principals
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_principals'); END;
CREATE TRIGGER platform_iam_principals_append_only_replace BEFORE INSERT ON platform_iam_principals
WHEN EXISTS (SELECT 1 FROM platform_iam_principals WHERE principal = NEW.principal)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_principals'); END;

-- An enrolled source: whether it numbers what it sends (1) or not (0) is settled for ever.
CREATE TABLE platform_iam_sources (
    source TEXT NOT NULL PRIMARY KEY CHECK (length(source) BETWEEN 1 AND 128),
    sequenced INTEGER NOT NULL CHECK (sequenced IN (0, 1)),
    created_at INTEGER NOT NULL
) STRICT;

CREATE TRIGGER platform_iam_sources_append_only_update BEFORE UPDATE ON platform_iam_sources
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_sources'); END;
CREATE TRIGGER platform_iam_sources_append_only_delete BEFORE DELETE ON platform_iam_sources
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_sources'); END;
CREATE TRIGGER platform_iam_sources_append_only_replace BEFORE INSERT ON platform_iam_sources
WHEN EXISTS (SELECT 1 FROM platform_iam_sources WHERE source = NEW.source)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_sources'); END;

-- For whom a source may report; '*' is for every organization. They need not be registered.
CREATE TABLE platform_iam_source_reports (
    source TEXT NOT NULL REFERENCES platform_iam_sources (source),
    organization TEXT NOT NULL CHECK (length(organization) BETWEEN 1 AND 128),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (source, organization)
) STRICT;

CREATE TRIGGER platform_iam_source_reports_append_only_update BEFORE UPDATE ON platform_iam_source_reports
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_source_reports'); END;
CREATE TRIGGER platform_iam_source_reports_append_only_delete BEFORE DELETE ON platform_iam_source_reports
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_source_reports'); END;
CREATE TRIGGER platform_iam_source_reports_append_only_replace BEFORE INSERT ON platform_iam_source_reports
WHEN EXISTS (SELECT 1 FROM platform_iam_source_reports WHERE source = NEW.source AND organization = NEW.organization)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_source_reports'); END;

-- API keys: HMAC-SHA256 under the pepper, never the key. scopes is a JSON array of actions; null is all that the role may.
CREATE TABLE platform_iam_keys (
    key TEXT NOT NULL PRIMARY KEY CHECK (length(key) = 17),
    hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    last4 TEXT NOT NULL CHECK (length(last4) = 4),
    principal TEXT NOT NULL REFERENCES platform_iam_principals (principal),
    scopes TEXT CHECK (scopes <> '[]'),
    created_at INTEGER NOT NULL,
    expires_at INTEGER CHECK (expires_at > created_at)
) STRICT;

CREATE INDEX platform_iam_keys_by_principal ON platform_iam_keys (principal);

CREATE TRIGGER platform_iam_keys_append_only_update BEFORE UPDATE ON platform_iam_keys
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_keys'); END;
CREATE TRIGGER platform_iam_keys_append_only_delete BEFORE DELETE ON platform_iam_keys
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_keys'); END;
CREATE TRIGGER platform_iam_keys_append_only_replace BEFORE INSERT ON platform_iam_keys
WHEN EXISTS (SELECT 1 FROM platform_iam_keys WHERE key = NEW.key OR hash = NEW.hash)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_keys'); END;

-- The sources that an agent's key may send as.
CREATE TABLE platform_iam_key_sources (
    key TEXT NOT NULL REFERENCES platform_iam_keys (key),
    source TEXT NOT NULL REFERENCES platform_iam_sources (source),
    PRIMARY KEY (key, source)
) STRICT;

CREATE TRIGGER platform_iam_key_sources_append_only_update BEFORE UPDATE ON platform_iam_key_sources
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_key_sources'); END;
CREATE TRIGGER platform_iam_key_sources_append_only_delete BEFORE DELETE ON platform_iam_key_sources
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_key_sources'); END;
CREATE TRIGGER platform_iam_key_sources_append_only_replace BEFORE INSERT ON platform_iam_key_sources
WHEN EXISTS (SELECT 1 FROM platform_iam_key_sources WHERE key = NEW.key AND source = NEW.source)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_key_sources'); END;

-- Keys that are refused for ever.
CREATE TABLE platform_iam_revocations (
    key TEXT NOT NULL PRIMARY KEY REFERENCES platform_iam_keys (key),
    revoked_at INTEGER NOT NULL
) STRICT;

CREATE TRIGGER platform_iam_revocations_append_only_update BEFORE UPDATE ON platform_iam_revocations
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_revocations'); END;
CREATE TRIGGER platform_iam_revocations_append_only_delete BEFORE DELETE ON platform_iam_revocations
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_revocations'); END;
CREATE TRIGGER platform_iam_revocations_append_only_replace BEFORE INSERT ON platform_iam_revocations
WHEN EXISTS (SELECT 1 FROM platform_iam_revocations WHERE key = NEW.key)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_iam_revocations'); END;
