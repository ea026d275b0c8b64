SELECT merge_no, record, digest, previous, writer_epoch, first_batch, last_batch, level
FROM platform_ingest_merges WHERE first_batch BETWEEN $1 AND $2 AND last_batch <= $2 ORDER BY merge_no
