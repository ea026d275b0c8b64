SELECT batch_no, header, digest, previous, writer_epoch FROM platform_ingest_batches WHERE batch_no > $1 ORDER BY batch_no LIMIT $2
