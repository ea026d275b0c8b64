-- Merges: which contiguous batches lie together in one file of each table instead of their own. Owner: platform-ingest.
-- The newest merge that holds a batch says where its rows are; what it replaces was recorded before it and lies wholly inside it.

CREATE TABLE platform_ingest_merges (
    merge_no bigint PRIMARY KEY CHECK (merge_no > 0),
    writer_epoch bigint NOT NULL REFERENCES platform_ingest_writer_epochs (epoch),
    first_batch bigint NOT NULL REFERENCES platform_ingest_batches (batch_no),
    last_batch bigint NOT NULL REFERENCES platform_ingest_batches (batch_no),
    level text NOT NULL CHECK (level IN ('part', 'hour', 'day')),
    previous text NOT NULL CHECK (length(previous) = 64),
    digest text NOT NULL CHECK (length(digest) = 64),
    record text NOT NULL,
    recorded_at bigint NOT NULL,
    CHECK (last_batch > first_batch)
);

CREATE INDEX platform_ingest_merges_by_first ON platform_ingest_merges (first_batch, merge_no DESC);
CREATE INDEX platform_ingest_merges_by_last ON platform_ingest_merges (last_batch, first_batch);

CREATE TRIGGER platform_ingest_merges_append_only_update BEFORE UPDATE ON platform_ingest_merges
FOR EACH ROW EXECUTE FUNCTION platform_ingest_append_only();
CREATE TRIGGER platform_ingest_merges_append_only_delete BEFORE DELETE ON platform_ingest_merges
FOR EACH ROW EXECUTE FUNCTION platform_ingest_append_only();
CREATE TRIGGER platform_ingest_merges_append_only_truncate BEFORE TRUNCATE ON platform_ingest_merges
FOR EACH STATEMENT EXECUTE FUNCTION platform_ingest_append_only();

CREATE FUNCTION platform_ingest_merges_check() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE head platform_ingest_merges;
BEGIN
    SELECT * INTO head FROM platform_ingest_merges ORDER BY merge_no DESC LIMIT 1;
    IF new.merge_no <> coalesce(head.merge_no, 0) + 1 THEN RAISE EXCEPTION 'merges are numbered densely'; END IF;
    IF new.previous <> coalesce(head.digest, repeat('0', 64)) THEN
        RAISE EXCEPTION 'a merge names the digest of the merge before';
    END IF;
    IF new.writer_epoch <> (SELECT coalesce(max(epoch), 0) FROM platform_ingest_writer_epochs) THEN
        RAISE EXCEPTION 'fenced: a later writer epoch was opened';
    END IF;
    -- Earlier merges nest, so one that crosses a boundary of the new one holds the batch at that boundary.
    IF EXISTS (SELECT 1 FROM platform_ingest_merges AS other
            WHERE other.first_batch < new.first_batch AND other.last_batch >= new.first_batch)
        OR EXISTS (SELECT 1 FROM platform_ingest_merges AS other
            WHERE other.first_batch BETWEEN new.first_batch AND new.last_batch AND other.last_batch > new.last_batch)
        OR EXISTS (SELECT 1 FROM platform_ingest_merges AS other
            WHERE other.first_batch = new.first_batch AND other.last_batch = new.last_batch) THEN
        RAISE EXCEPTION 'a merge holds earlier merges wholly or not at all';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER platform_ingest_merges_check BEFORE INSERT ON platform_ingest_merges
FOR EACH ROW EXECUTE FUNCTION platform_ingest_merges_check();

-- Triggers bind the owner and a superuser in replica mode too.
DO $$
DECLARE found record;
BEGIN
    FOR found IN SELECT tgrelid::regclass AS relation, tgname FROM pg_trigger
        WHERE NOT tgisinternal AND tgname LIKE 'platform\_ingest\_merges\_%' LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', found.relation, found.tgname);
    END LOOP;
END $$;
