-- The batch log: writer epochs, shard positions, batch headers and ranges. Owner: platform-ingest.

CREATE TABLE platform_ingest_writer_epochs (
    epoch INTEGER PRIMARY KEY CHECK (epoch > 0),
    owner TEXT NOT NULL,
    opened_at INTEGER NOT NULL
) STRICT;

CREATE TRIGGER platform_ingest_writer_epochs_append_only_update BEFORE UPDATE ON platform_ingest_writer_epochs
BEGIN SELECT RAISE(ABORT, 'append-only: platform_ingest_writer_epochs'); END;
CREATE TRIGGER platform_ingest_writer_epochs_append_only_delete BEFORE DELETE ON platform_ingest_writer_epochs
BEGIN SELECT RAISE(ABORT, 'append-only: platform_ingest_writer_epochs'); END;
CREATE TRIGGER platform_ingest_writer_epochs_append_only_replace BEFORE INSERT ON platform_ingest_writer_epochs
WHEN EXISTS (SELECT 1 FROM platform_ingest_writer_epochs WHERE epoch = new.epoch)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_ingest_writer_epochs'); END;
CREATE TRIGGER platform_ingest_writer_epochs_dense BEFORE INSERT ON platform_ingest_writer_epochs
WHEN new.epoch <> (SELECT coalesce(max(epoch), 0) + 1 FROM platform_ingest_writer_epochs)
BEGIN SELECT RAISE(ABORT, 'writer epochs are dense'); END;

-- How far each shard is committed. Moves only forward, only together with a range.
CREATE TABLE platform_ingest_positions (
    shard INTEGER PRIMARY KEY CHECK (shard BETWEEN 0 AND 63),
    incarnation INTEGER NOT NULL CHECK (incarnation >= 0),
    sequence INTEGER NOT NULL CHECK (sequence >= 0),
    digest TEXT NOT NULL CHECK (length(digest) = 64),
    control_no INTEGER NOT NULL CHECK (control_no >= 0),
    registry_version TEXT NOT NULL CHECK (length(registry_version) = 64),
    oldest_open INTEGER
) STRICT;

CREATE TRIGGER platform_ingest_positions_forward BEFORE UPDATE ON platform_ingest_positions
WHEN new.shard <> old.shard OR new.incarnation < old.incarnation
    OR (new.incarnation = old.incarnation AND new.sequence <= old.sequence) OR new.control_no < old.control_no
BEGIN SELECT RAISE(ABORT, 'a shard position only moves forward'); END;
CREATE TRIGGER platform_ingest_positions_kept BEFORE DELETE ON platform_ingest_positions
BEGIN SELECT RAISE(ABORT, 'a shard position is never deleted'); END;

CREATE TABLE platform_ingest_batches (
    batch_no INTEGER PRIMARY KEY CHECK (batch_no > 0),
    writer_epoch INTEGER NOT NULL REFERENCES platform_ingest_writer_epochs (epoch),
    previous TEXT NOT NULL CHECK (length(previous) = 64),
    digest TEXT NOT NULL CHECK (length(digest) = 64),
    header TEXT NOT NULL,
    recorded_at INTEGER NOT NULL
) STRICT;

CREATE TRIGGER platform_ingest_batches_append_only_update BEFORE UPDATE ON platform_ingest_batches
BEGIN SELECT RAISE(ABORT, 'append-only: platform_ingest_batches'); END;
CREATE TRIGGER platform_ingest_batches_append_only_delete BEFORE DELETE ON platform_ingest_batches
BEGIN SELECT RAISE(ABORT, 'append-only: platform_ingest_batches'); END;
CREATE TRIGGER platform_ingest_batches_append_only_replace BEFORE INSERT ON platform_ingest_batches
WHEN EXISTS (SELECT 1 FROM platform_ingest_batches WHERE batch_no = new.batch_no)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_ingest_batches'); END;
CREATE TRIGGER platform_ingest_batches_dense BEFORE INSERT ON platform_ingest_batches
WHEN new.batch_no <> (SELECT coalesce(max(batch_no), 0) + 1 FROM platform_ingest_batches)
BEGIN SELECT RAISE(ABORT, 'batch numbers are dense'); END;
CREATE TRIGGER platform_ingest_batches_chained BEFORE INSERT ON platform_ingest_batches
WHEN new.previous <> coalesce((SELECT digest FROM platform_ingest_batches ORDER BY batch_no DESC LIMIT 1),
    '0000000000000000000000000000000000000000000000000000000000000000')
BEGIN SELECT RAISE(ABORT, 'a batch names the digest of the batch before'); END;
CREATE TRIGGER platform_ingest_batches_fenced BEFORE INSERT ON platform_ingest_batches
WHEN new.writer_epoch <> (SELECT coalesce(max(epoch), 0) FROM platform_ingest_writer_epochs)
BEGIN SELECT RAISE(ABORT, 'fenced: a later writer epoch was opened'); END;

CREATE TABLE platform_ingest_ranges (
    batch_no INTEGER NOT NULL REFERENCES platform_ingest_batches (batch_no),
    shard INTEGER NOT NULL CHECK (shard BETWEEN 0 AND 63),
    incarnation INTEGER NOT NULL,
    first INTEGER NOT NULL CHECK (first > 0),
    last INTEGER NOT NULL,
    last_digest TEXT NOT NULL CHECK (length(last_digest) = 64),
    control_no INTEGER NOT NULL,
    registry_version TEXT NOT NULL,
    oldest_open INTEGER,
    PRIMARY KEY (shard, incarnation, first),
    CHECK (last >= first)
) STRICT, WITHOUT ROWID;

CREATE INDEX platform_ingest_ranges_by_batch ON platform_ingest_ranges (batch_no);

CREATE TRIGGER platform_ingest_ranges_append_only_update BEFORE UPDATE ON platform_ingest_ranges
BEGIN SELECT RAISE(ABORT, 'append-only: platform_ingest_ranges'); END;
CREATE TRIGGER platform_ingest_ranges_append_only_delete BEFORE DELETE ON platform_ingest_ranges
BEGIN SELECT RAISE(ABORT, 'append-only: platform_ingest_ranges'); END;
CREATE TRIGGER platform_ingest_ranges_append_only_replace BEFORE INSERT ON platform_ingest_ranges
WHEN EXISTS (SELECT 1 FROM platform_ingest_ranges
    WHERE shard = new.shard AND incarnation = new.incarnation AND first = new.first)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_ingest_ranges'); END;
-- A range continues where the shard's position stands, or begins a new incarnation at 1.
CREATE TRIGGER platform_ingest_ranges_contiguous BEFORE INSERT ON platform_ingest_ranges
WHEN NOT EXISTS (SELECT 1 FROM platform_ingest_positions AS p WHERE p.shard = new.shard
    AND ((p.incarnation = new.incarnation AND p.sequence + 1 = new.first) OR (p.incarnation < new.incarnation AND new.first = 1)))
BEGIN SELECT RAISE(ABORT, 'a range continues at its shard position'); END;
