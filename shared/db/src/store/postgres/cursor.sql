SELECT batch_no FROM shared_db_cursors WHERE fold = $1
