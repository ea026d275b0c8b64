SELECT number, owner, subject, digest FROM shared_db_migrations ORDER BY number
