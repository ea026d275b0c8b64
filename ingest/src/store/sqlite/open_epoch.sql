INSERT INTO platform_ingest_writer_epochs (epoch, owner, opened_at) VALUES ($1, $2, $3)
