SELECT coalesce(max(epoch), 0) FROM platform_ingest_writer_epochs
