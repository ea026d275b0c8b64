-- Merges: which contiguous batches lie together in one file of each table instead of their own. Owner: platform-ingest.
-- The newest merge that holds a batch says where its rows are; what it replaces was recorded before it and lies wholly inside it.

CREATE TABLE platform_ingest_merges (
    merge_no INTEGER PRIMARY KEY CHECK (merge_no > 0),
    writer_epoch INTEGER NOT NULL REFERENCES platform_ingest_writer_epochs (epoch),
    first_batch INTEGER NOT NULL REFERENCES platform_ingest_batches (batch_no),
    last_batch INTEGER NOT NULL REFERENCES platform_ingest_batches (batch_no),
    level TEXT NOT NULL CHECK (level IN ('part', 'hour', 'day')),
    previous TEXT NOT NULL CHECK (length(previous) = 64),
    digest TEXT NOT NULL CHECK (length(digest) = 64),
    record TEXT NOT NULL,
    recorded_at INTEGER NOT NULL,
    CHECK (last_batch > first_batch)
) STRICT;

CREATE INDEX platform_ingest_merges_by_first ON platform_ingest_merges (first_batch, merge_no DESC);
CREATE INDEX platform_ingest_merges_by_last ON platform_ingest_merges (last_batch, first_batch);

CREATE TRIGGER platform_ingest_merges_append_only_update BEFORE UPDATE ON platform_ingest_merges
BEGIN SELECT RAISE(ABORT, 'append-only: platform_ingest_merges'); END;
CREATE TRIGGER platform_ingest_merges_append_only_delete BEFORE DELETE ON platform_ingest_merges
BEGIN SELECT RAISE(ABORT, 'append-only: platform_ingest_merges'); END;
CREATE TRIGGER platform_ingest_merges_append_only_replace BEFORE INSERT ON platform_ingest_merges
WHEN EXISTS (SELECT 1 FROM platform_ingest_merges WHERE merge_no = new.merge_no)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_ingest_merges'); END;
CREATE TRIGGER platform_ingest_merges_dense BEFORE INSERT ON platform_ingest_merges
WHEN new.merge_no <> (SELECT coalesce(max(merge_no), 0) + 1 FROM platform_ingest_merges)
BEGIN SELECT RAISE(ABORT, 'merges are numbered densely'); END;
CREATE TRIGGER platform_ingest_merges_chained BEFORE INSERT ON platform_ingest_merges
WHEN new.previous <> coalesce((SELECT digest FROM platform_ingest_merges ORDER BY merge_no DESC LIMIT 1),
    '0000000000000000000000000000000000000000000000000000000000000000')
BEGIN SELECT RAISE(ABORT, 'a merge names the digest of the merge before'); END;
CREATE TRIGGER platform_ingest_merges_fenced BEFORE INSERT ON platform_ingest_merges
WHEN new.writer_epoch <> (SELECT coalesce(max(epoch), 0) FROM platform_ingest_writer_epochs)
BEGIN SELECT RAISE(ABORT, 'fenced: a later writer epoch was opened'); END;
-- A merge holds earlier ones wholly or not at all, and none twice. Earlier merges nest, so one that crosses a boundary of the new one
-- holds the batch at that boundary: two look-ups by index find it.
CREATE TRIGGER platform_ingest_merges_nested BEFORE INSERT ON platform_ingest_merges
WHEN EXISTS (SELECT 1 FROM platform_ingest_merges AS other
        WHERE other.first_batch < new.first_batch AND other.last_batch >= new.first_batch)
    OR EXISTS (SELECT 1 FROM platform_ingest_merges AS other
        WHERE other.first_batch BETWEEN new.first_batch AND new.last_batch AND other.last_batch > new.last_batch)
    OR EXISTS (SELECT 1 FROM platform_ingest_merges AS other
        WHERE other.first_batch = new.first_batch AND other.last_batch = new.last_batch)
BEGIN SELECT RAISE(ABORT, 'a merge holds earlier merges wholly or not at all'); END;
