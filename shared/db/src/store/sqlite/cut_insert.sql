INSERT INTO shared_db_cuts (fold, cut_no, first_batch, last_batch)
SELECT $1, 1 + coalesce(max(cut_no), 0), $2 + 1, $3 FROM shared_db_cuts WHERE fold = $1
