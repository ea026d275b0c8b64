INSERT INTO shared_db_cursors (fold, batch_no) VALUES ($1, $2) ON CONFLICT DO NOTHING
