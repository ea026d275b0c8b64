-- Cursors of folds, the cuts they recorded, and the outbox.

CREATE TABLE shared_db_cursors (
    fold TEXT NOT NULL PRIMARY KEY CHECK (length(fold) BETWEEN 1 AND 64),
    batch_no INTEGER NOT NULL CHECK (batch_no >= 0)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER shared_db_cursors_rise BEFORE UPDATE ON shared_db_cursors
WHEN NEW.fold <> OLD.fold OR NEW.batch_no <= OLD.batch_no
BEGIN
    SELECT RAISE(ABORT, 'a cursor only rises: shared_db_cursors');
END;

CREATE TRIGGER shared_db_cursors_keep BEFORE DELETE ON shared_db_cursors
BEGIN
    SELECT RAISE(ABORT, 'a cursor is never removed: shared_db_cursors');
END;

CREATE TRIGGER shared_db_cursors_replace BEFORE INSERT ON shared_db_cursors
WHEN EXISTS (SELECT 1 FROM shared_db_cursors WHERE fold = NEW.fold)
BEGIN
    SELECT RAISE(ABORT, 'a cursor is never replaced: shared_db_cursors');
END;

CREATE TABLE shared_db_cuts (
    fold TEXT NOT NULL REFERENCES shared_db_cursors (fold),
    cut_no INTEGER NOT NULL CHECK (cut_no >= 1),
    first_batch INTEGER NOT NULL CHECK (first_batch >= 1),
    last_batch INTEGER NOT NULL CHECK (last_batch >= first_batch),
    PRIMARY KEY (fold, cut_no)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER shared_db_cuts_append_only_update BEFORE UPDATE ON shared_db_cuts
BEGIN
    SELECT RAISE(ABORT, 'append-only: shared_db_cuts');
END;

CREATE TRIGGER shared_db_cuts_append_only_delete BEFORE DELETE ON shared_db_cuts
BEGIN
    SELECT RAISE(ABORT, 'append-only: shared_db_cuts');
END;

CREATE TRIGGER shared_db_cuts_append_only_replace BEFORE INSERT ON shared_db_cuts
WHEN EXISTS (SELECT 1 FROM shared_db_cuts WHERE fold = NEW.fold AND cut_no = NEW.cut_no)
BEGIN
    SELECT RAISE(ABORT, 'append-only: shared_db_cuts');
END;

CREATE TRIGGER shared_db_cuts_dense AFTER INSERT ON shared_db_cuts
BEGIN
    SELECT RAISE(ABORT, 'a cut follows the cut before it: shared_db_cuts')
    WHERE NEW.cut_no <> 1 + coalesce((SELECT max(cut_no) FROM shared_db_cuts WHERE fold = NEW.fold AND cut_no <> NEW.cut_no), 0)
        OR NEW.first_batch <> 1 + coalesce((SELECT max(last_batch) FROM shared_db_cuts WHERE fold = NEW.fold AND cut_no <> NEW.cut_no), 0);
    SELECT RAISE(ABORT, 'a cut ends at its cursor: shared_db_cuts')
    WHERE NEW.last_batch IS NOT (SELECT batch_no FROM shared_db_cursors WHERE fold = NEW.fold);
END;

CREATE TABLE shared_db_outbox (
    event_no INTEGER NOT NULL PRIMARY KEY CHECK (event_no >= 1),
    subject TEXT NOT NULL,
    event_type TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version >= 1),
    correlation_id TEXT NOT NULL,
    payload TEXT NOT NULL
) STRICT;

CREATE TRIGGER shared_db_outbox_append_only_update BEFORE UPDATE ON shared_db_outbox
BEGIN
    SELECT RAISE(ABORT, 'append-only: shared_db_outbox');
END;

CREATE TRIGGER shared_db_outbox_append_only_delete BEFORE DELETE ON shared_db_outbox
BEGIN
    SELECT RAISE(ABORT, 'append-only: shared_db_outbox');
END;

CREATE TRIGGER shared_db_outbox_append_only_replace BEFORE INSERT ON shared_db_outbox
WHEN EXISTS (SELECT 1 FROM shared_db_outbox WHERE event_no = NEW.event_no)
BEGIN
    SELECT RAISE(ABORT, 'append-only: shared_db_outbox');
END;

CREATE TRIGGER shared_db_outbox_dense AFTER INSERT ON shared_db_outbox
BEGIN
    SELECT RAISE(ABORT, 'events are numbered densely: shared_db_outbox')
    WHERE NEW.event_no <> 1 + coalesce((SELECT max(event_no) FROM shared_db_outbox WHERE event_no <> NEW.event_no), 0);
END;
