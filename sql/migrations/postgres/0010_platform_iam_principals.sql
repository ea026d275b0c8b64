-- Who may do what: organizations, projects, principals, keys, sources. Owner: platform-iam. Nothing is ever changed or removed.

-- A registered organization. Metering asks nobody: usage of others is counted as well.
CREATE TABLE platform_iam_organizations (
    organization text COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(organization) BETWEEN 1 AND 128),
    name text COLLATE "C" NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    created_at bigint NOT NULL
);

-- A project of a registered organization.
CREATE TABLE platform_iam_projects (
    organization text COLLATE "C" NOT NULL REFERENCES platform_iam_organizations (organization),
    project text COLLATE "C" NOT NULL CHECK (length(project) BETWEEN 1 AND 128),
    name text COLLATE "C" NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    created_at bigint NOT NULL,
    PRIMARY KEY (organization, project)
);

-- Who keys belong to. A principal has one role for ever; a customer's belongs to an organization.
CREATE TABLE platform_iam_principals (
    principal text COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(principal) BETWEEN 1 AND 64 AND principal NOT IN ('local', 'unknown')),
    role text COLLATE "C" NOT NULL CHECK (role IN ('operator', 'finance', 'auditor', 'customer', 'agent')),
    organization text COLLATE "C" REFERENCES platform_iam_organizations (organization),
    created_at bigint NOT NULL,
    CHECK ((role = 'customer') = (organization IS NOT NULL))
);

-- An enrolled source: whether it numbers what it sends (1) or not (0) is settled for ever.
CREATE TABLE platform_iam_sources (
    source text COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(source) BETWEEN 1 AND 128),
    sequenced bigint NOT NULL CHECK (sequenced IN (0, 1)),
    created_at bigint NOT NULL
);

-- For whom a source may report; '*' is for every organization. They need not be registered.
CREATE TABLE platform_iam_source_reports (
    source text COLLATE "C" NOT NULL REFERENCES platform_iam_sources (source),
    organization text COLLATE "C" NOT NULL CHECK (length(organization) BETWEEN 1 AND 128),
    created_at bigint NOT NULL,
    PRIMARY KEY (source, organization)
);

-- API keys: HMAC-SHA256 under the pepper, never the key. scopes is a JSON array of actions; null is all that the role may.
CREATE TABLE platform_iam_keys (
    key text COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(key) = 17),
    hash bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    last4 text COLLATE "C" NOT NULL CHECK (length(last4) = 4),
    principal text COLLATE "C" NOT NULL REFERENCES platform_iam_principals (principal),
    scopes text COLLATE "C" CHECK (scopes <> '[]'),
    created_at bigint NOT NULL,
    expires_at bigint CHECK (expires_at > created_at)
);

CREATE INDEX platform_iam_keys_by_principal ON platform_iam_keys (principal);

-- The sources that an agent's key may send as.
CREATE TABLE platform_iam_key_sources (
    key text COLLATE "C" NOT NULL REFERENCES platform_iam_keys (key),
    source text COLLATE "C" NOT NULL REFERENCES platform_iam_sources (source),
    PRIMARY KEY (key, source)
);

-- Keys that are refused for ever.
CREATE TABLE platform_iam_revocations (
    key text COLLATE "C" NOT NULL PRIMARY KEY REFERENCES platform_iam_keys (key),
    revoked_at bigint NOT NULL
);

-- <table>_append_only_{update,delete,truncate} on every table.
DO $$
DECLARE
    owned text;
    change text;
    each text;
BEGIN
    FOREACH owned IN ARRAY ARRAY[
        'organizations', 'projects', 'principals', 'sources', 'source_reports', 'keys', 'key_sources', 'revocations'
    ] LOOP
        owned := 'platform_iam_' || owned;
        FOREACH change IN ARRAY ARRAY['update', 'delete', 'truncate'] LOOP
            each := CASE change WHEN 'truncate' THEN 'STATEMENT' ELSE 'ROW' END;
            EXECUTE format(
                'CREATE TRIGGER %I BEFORE %s ON %I FOR EACH %s EXECUTE FUNCTION shared_db_append_only()',
                owned || '_append_only_' || change, change, owned, each
            );
            EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER %I', owned, owned || '_append_only_' || change);
        END LOOP;
    END LOOP;
END $$;
