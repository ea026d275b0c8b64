-- The batch log: writer epochs, shard positions, batch headers and ranges. Owner: platform-ingest.

CREATE TABLE platform_ingest_writer_epochs (
    epoch bigint PRIMARY KEY CHECK (epoch > 0),
    owner text NOT NULL,
    opened_at bigint NOT NULL
);

-- How far each shard is committed. Moves only forward, only together with a range.
CREATE TABLE platform_ingest_positions (
    shard bigint PRIMARY KEY CHECK (shard BETWEEN 0 AND 63),
    incarnation bigint NOT NULL CHECK (incarnation >= 0),
    sequence bigint NOT NULL CHECK (sequence >= 0),
    digest text NOT NULL CHECK (length(digest) = 64),
    control_no bigint NOT NULL CHECK (control_no >= 0),
    registry_version text NOT NULL CHECK (length(registry_version) = 64),
    oldest_open bigint
);

CREATE TABLE platform_ingest_batches (
    batch_no bigint PRIMARY KEY CHECK (batch_no > 0),
    writer_epoch bigint NOT NULL REFERENCES platform_ingest_writer_epochs (epoch),
    previous text NOT NULL CHECK (length(previous) = 64),
    digest text NOT NULL CHECK (length(digest) = 64),
    header text NOT NULL,
    recorded_at bigint NOT NULL
);

CREATE TABLE platform_ingest_ranges (
    batch_no bigint NOT NULL REFERENCES platform_ingest_batches (batch_no),
    shard bigint NOT NULL CHECK (shard BETWEEN 0 AND 63),
    incarnation bigint NOT NULL,
    first bigint NOT NULL CHECK (first > 0),
    last bigint NOT NULL,
    last_digest text NOT NULL CHECK (length(last_digest) = 64),
    control_no bigint NOT NULL,
    registry_version text NOT NULL,
    oldest_open bigint,
    PRIMARY KEY (shard, incarnation, first),
    CHECK (last >= first)
);

CREATE INDEX platform_ingest_ranges_by_batch ON platform_ingest_ranges (batch_no);

CREATE FUNCTION platform_ingest_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'append-only: %', tg_table_name; END $$;

CREATE TRIGGER platform_ingest_writer_epochs_append_only_update BEFORE UPDATE ON platform_ingest_writer_epochs
FOR EACH ROW EXECUTE FUNCTION platform_ingest_append_only();
CREATE TRIGGER platform_ingest_writer_epochs_append_only_delete BEFORE DELETE ON platform_ingest_writer_epochs
FOR EACH ROW EXECUTE FUNCTION platform_ingest_append_only();
CREATE TRIGGER platform_ingest_writer_epochs_append_only_truncate BEFORE TRUNCATE ON platform_ingest_writer_epochs
FOR EACH STATEMENT EXECUTE FUNCTION platform_ingest_append_only();
CREATE TRIGGER platform_ingest_batches_append_only_update BEFORE UPDATE ON platform_ingest_batches
FOR EACH ROW EXECUTE FUNCTION platform_ingest_append_only();
CREATE TRIGGER platform_ingest_batches_append_only_delete BEFORE DELETE ON platform_ingest_batches
FOR EACH ROW EXECUTE FUNCTION platform_ingest_append_only();
CREATE TRIGGER platform_ingest_batches_append_only_truncate BEFORE TRUNCATE ON platform_ingest_batches
FOR EACH STATEMENT EXECUTE FUNCTION platform_ingest_append_only();
CREATE TRIGGER platform_ingest_ranges_append_only_update BEFORE UPDATE ON platform_ingest_ranges
FOR EACH ROW EXECUTE FUNCTION platform_ingest_append_only();
CREATE TRIGGER platform_ingest_ranges_append_only_delete BEFORE DELETE ON platform_ingest_ranges
FOR EACH ROW EXECUTE FUNCTION platform_ingest_append_only();
CREATE TRIGGER platform_ingest_ranges_append_only_truncate BEFORE TRUNCATE ON platform_ingest_ranges
FOR EACH STATEMENT EXECUTE FUNCTION platform_ingest_append_only();

CREATE FUNCTION platform_ingest_writer_epochs_dense() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.epoch <> (SELECT coalesce(max(epoch), 0) + 1 FROM platform_ingest_writer_epochs) THEN
        RAISE EXCEPTION 'writer epochs are dense';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER platform_ingest_writer_epochs_dense BEFORE INSERT ON platform_ingest_writer_epochs
FOR EACH ROW EXECUTE FUNCTION platform_ingest_writer_epochs_dense();

CREATE FUNCTION platform_ingest_positions_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF tg_op <> 'UPDATE' THEN RAISE EXCEPTION 'a shard position is never deleted'; END IF;
    IF new.shard <> old.shard OR new.incarnation < old.incarnation
        OR (new.incarnation = old.incarnation AND new.sequence <= old.sequence) OR new.control_no < old.control_no THEN
        RAISE EXCEPTION 'a shard position only moves forward';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER platform_ingest_positions_forward BEFORE UPDATE OR DELETE ON platform_ingest_positions
FOR EACH ROW EXECUTE FUNCTION platform_ingest_positions_forward();
CREATE TRIGGER platform_ingest_positions_kept BEFORE TRUNCATE ON platform_ingest_positions
FOR EACH STATEMENT EXECUTE FUNCTION platform_ingest_positions_forward();

CREATE FUNCTION platform_ingest_batches_check() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE head platform_ingest_batches;
BEGIN
    SELECT * INTO head FROM platform_ingest_batches ORDER BY batch_no DESC LIMIT 1;
    IF new.batch_no <> coalesce(head.batch_no, 0) + 1 THEN RAISE EXCEPTION 'batch numbers are dense'; END IF;
    IF new.previous <> coalesce(head.digest, repeat('0', 64)) THEN
        RAISE EXCEPTION 'a batch names the digest of the batch before';
    END IF;
    IF new.writer_epoch <> (SELECT coalesce(max(epoch), 0) FROM platform_ingest_writer_epochs) THEN
        RAISE EXCEPTION 'fenced: a later writer epoch was opened';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER platform_ingest_batches_check BEFORE INSERT ON platform_ingest_batches
FOR EACH ROW EXECUTE FUNCTION platform_ingest_batches_check();

-- A range continues where the shard's position stands, or begins a new incarnation at 1.
CREATE FUNCTION platform_ingest_ranges_contiguous() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM platform_ingest_positions AS p WHERE p.shard = new.shard
        AND ((p.incarnation = new.incarnation AND p.sequence + 1 = new.first)
            OR (p.incarnation < new.incarnation AND new.first = 1))) THEN
        RAISE EXCEPTION 'a range continues at its shard position';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER platform_ingest_ranges_contiguous BEFORE INSERT ON platform_ingest_ranges
FOR EACH ROW EXECUTE FUNCTION platform_ingest_ranges_contiguous();

-- Triggers bind the owner and a superuser in replica mode too.
DO $$
DECLARE found record;
BEGIN
    FOR found IN SELECT tgrelid::regclass AS relation, tgname FROM pg_trigger
        WHERE NOT tgisinternal AND tgname LIKE 'platform\_ingest\_%' LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', found.relation, found.tgname);
    END LOOP;
END $$;
