UPDATE shared_db_cursors SET batch_no = $3 WHERE fold = $1 AND batch_no = $2
