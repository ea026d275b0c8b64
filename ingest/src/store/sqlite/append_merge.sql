INSERT INTO platform_ingest_merges
    (merge_no, writer_epoch, first_batch, last_batch, level, previous, digest, record, recorded_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
