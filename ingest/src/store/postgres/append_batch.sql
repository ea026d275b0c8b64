INSERT INTO platform_ingest_batches (batch_no, writer_epoch, previous, digest, header, recorded_at)
VALUES ($1, $2, $3, $4, $5, $6)
