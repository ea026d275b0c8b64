SELECT batch_no, digest FROM platform_ingest_batches ORDER BY batch_no DESC LIMIT 1
