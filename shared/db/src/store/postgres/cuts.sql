SELECT cut_no, first_batch, last_batch FROM shared_db_cuts WHERE fold = $1 ORDER BY cut_no
