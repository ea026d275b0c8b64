CREATE TABLE IF NOT EXISTS shared_db_migrations (
    number bigint NOT NULL PRIMARY KEY,
    owner text NOT NULL,
    subject text NOT NULL,
    digest bytea NOT NULL CHECK (length(digest) = 32),
    applied_at bigint NOT NULL
)
