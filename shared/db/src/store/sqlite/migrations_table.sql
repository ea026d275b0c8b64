CREATE TABLE IF NOT EXISTS shared_db_migrations (
    number INTEGER NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    subject TEXT NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    applied_at INTEGER NOT NULL
) STRICT
