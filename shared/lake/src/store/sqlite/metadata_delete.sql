DELETE FROM ducklake_metadata WHERE "key" = $1 AND "scope" IS NULL
