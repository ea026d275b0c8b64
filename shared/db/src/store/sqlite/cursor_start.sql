INSERT INTO shared_db_cursors (fold, batch_no)
SELECT $1, $2 WHERE NOT EXISTS (SELECT 1 FROM shared_db_cursors WHERE fold = $1)
