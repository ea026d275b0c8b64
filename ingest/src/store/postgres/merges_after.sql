SELECT merge_no, record, digest, previous, writer_epoch, first_batch, last_batch, level
FROM platform_ingest_merges WHERE merge_no > $1 ORDER BY merge_no LIMIT $2
