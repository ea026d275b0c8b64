-- Batches in which the stream of a shard begins another life than its first. A life begins at record 1.
WITH RECURSIVE lives (shard, incarnation) AS (
    SELECT shard, incarnation FROM platform_ingest_positions
    UNION ALL
    SELECT shard, incarnation - 1 FROM lives WHERE incarnation > 1
)
SELECT DISTINCT r.batch_no
FROM lives
JOIN platform_ingest_ranges AS r ON r.shard = lives.shard AND r.incarnation = lives.incarnation AND r.first = 1
WHERE r.batch_no > $1 AND EXISTS (
    SELECT 1 FROM platform_ingest_ranges AS earlier WHERE earlier.shard = r.shard AND earlier.incarnation < r.incarnation
)
ORDER BY r.batch_no
