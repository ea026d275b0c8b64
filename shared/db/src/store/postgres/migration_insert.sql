INSERT INTO shared_db_migrations (number, owner, subject, digest, applied_at)
VALUES ($1, $2, $3, $4, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
