-- From one to the next: the first that begins behind the last, and of those that begin there the newest, which holds the others.
WITH RECURSIVE live (merge_no, last_batch) AS (
    SELECT merge_no, last_batch FROM platform_ingest_merges
    WHERE merge_no = (SELECT merge_no FROM platform_ingest_merges ORDER BY first_batch, merge_no DESC LIMIT 1)
    UNION ALL
    SELECT following.merge_no, following.last_batch
    FROM live
    JOIN platform_ingest_merges AS following ON following.merge_no = (
        SELECT other.merge_no FROM platform_ingest_merges AS other
        WHERE other.first_batch > live.last_batch ORDER BY other.first_batch, other.merge_no DESC LIMIT 1
    )
)
SELECT m.merge_no, m.record, m.digest, m.previous, m.writer_epoch, m.first_batch, m.last_batch, m.level
FROM live JOIN platform_ingest_merges AS m ON m.merge_no = live.merge_no
ORDER BY m.first_batch
