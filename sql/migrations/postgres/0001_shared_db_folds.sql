-- Cursors of folds, the cuts they recorded, and the outbox.

-- The refusal behind every append-only trigger. Triggers that call it are ENABLE ALWAYS: they bind the owner, the
-- superuser and a session in replica mode.
CREATE FUNCTION shared_db_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'append-only: %', tg_table_name;
END $$;

CREATE TABLE shared_db_cursors (
    fold text NOT NULL PRIMARY KEY CHECK (length(fold) BETWEEN 1 AND 64),
    batch_no bigint NOT NULL CHECK (batch_no >= 0)
);

CREATE FUNCTION shared_db_cursors_check() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF tg_op <> 'UPDATE' THEN
        RAISE EXCEPTION 'a cursor is never removed: shared_db_cursors';
    END IF;
    IF new.fold <> old.fold OR new.batch_no <= old.batch_no THEN
        RAISE EXCEPTION 'a cursor only rises: shared_db_cursors';
    END IF;
    RETURN new;
END $$;

CREATE TRIGGER shared_db_cursors_rise BEFORE UPDATE OR DELETE ON shared_db_cursors
FOR EACH ROW EXECUTE FUNCTION shared_db_cursors_check();
CREATE TRIGGER shared_db_cursors_keep BEFORE TRUNCATE ON shared_db_cursors
FOR EACH STATEMENT EXECUTE FUNCTION shared_db_cursors_check();
ALTER TABLE shared_db_cursors ENABLE ALWAYS TRIGGER shared_db_cursors_rise;
ALTER TABLE shared_db_cursors ENABLE ALWAYS TRIGGER shared_db_cursors_keep;

CREATE TABLE shared_db_cuts (
    fold text NOT NULL REFERENCES shared_db_cursors (fold),
    cut_no bigint NOT NULL CHECK (cut_no >= 1),
    first_batch bigint NOT NULL CHECK (first_batch >= 1),
    last_batch bigint NOT NULL CHECK (last_batch >= first_batch),
    PRIMARY KEY (fold, cut_no)
);

CREATE TRIGGER shared_db_cuts_append_only_update BEFORE UPDATE ON shared_db_cuts
FOR EACH ROW EXECUTE FUNCTION shared_db_append_only();
CREATE TRIGGER shared_db_cuts_append_only_delete BEFORE DELETE ON shared_db_cuts
FOR EACH ROW EXECUTE FUNCTION shared_db_append_only();
CREATE TRIGGER shared_db_cuts_append_only_truncate BEFORE TRUNCATE ON shared_db_cuts
FOR EACH STATEMENT EXECUTE FUNCTION shared_db_append_only();
ALTER TABLE shared_db_cuts ENABLE ALWAYS TRIGGER shared_db_cuts_append_only_update;
ALTER TABLE shared_db_cuts ENABLE ALWAYS TRIGGER shared_db_cuts_append_only_delete;
ALTER TABLE shared_db_cuts ENABLE ALWAYS TRIGGER shared_db_cuts_append_only_truncate;

CREATE FUNCTION shared_db_cuts_check() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    last shared_db_cuts;
BEGIN
    SELECT * INTO last FROM shared_db_cuts WHERE fold = new.fold AND cut_no <> new.cut_no ORDER BY cut_no DESC LIMIT 1;
    IF new.cut_no <> coalesce(last.cut_no, 0) + 1 OR new.first_batch <> coalesce(last.last_batch, 0) + 1 THEN
        RAISE EXCEPTION 'a cut follows the cut before it: shared_db_cuts';
    END IF;
    IF new.last_batch IS DISTINCT FROM (SELECT batch_no FROM shared_db_cursors WHERE fold = new.fold) THEN
        RAISE EXCEPTION 'a cut ends at its cursor: shared_db_cuts';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER shared_db_cuts_dense AFTER INSERT ON shared_db_cuts
FOR EACH ROW EXECUTE FUNCTION shared_db_cuts_check();
ALTER TABLE shared_db_cuts ENABLE ALWAYS TRIGGER shared_db_cuts_dense;

CREATE TABLE shared_db_outbox (
    event_no bigint NOT NULL PRIMARY KEY CHECK (event_no >= 1),
    subject text NOT NULL,
    event_type text NOT NULL,
    version bigint NOT NULL CHECK (version >= 1),
    correlation_id text NOT NULL,
    payload text NOT NULL
);

CREATE TRIGGER shared_db_outbox_append_only_update BEFORE UPDATE ON shared_db_outbox
FOR EACH ROW EXECUTE FUNCTION shared_db_append_only();
CREATE TRIGGER shared_db_outbox_append_only_delete BEFORE DELETE ON shared_db_outbox
FOR EACH ROW EXECUTE FUNCTION shared_db_append_only();
CREATE TRIGGER shared_db_outbox_append_only_truncate BEFORE TRUNCATE ON shared_db_outbox
FOR EACH STATEMENT EXECUTE FUNCTION shared_db_append_only();
ALTER TABLE shared_db_outbox ENABLE ALWAYS TRIGGER shared_db_outbox_append_only_update;
ALTER TABLE shared_db_outbox ENABLE ALWAYS TRIGGER shared_db_outbox_append_only_delete;
ALTER TABLE shared_db_outbox ENABLE ALWAYS TRIGGER shared_db_outbox_append_only_truncate;

CREATE FUNCTION shared_db_outbox_check() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF new.event_no <> 1 + coalesce((SELECT max(event_no) FROM shared_db_outbox WHERE event_no <> new.event_no), 0) THEN
        RAISE EXCEPTION 'events are numbered densely: shared_db_outbox';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER shared_db_outbox_dense AFTER INSERT ON shared_db_outbox
FOR EACH ROW EXECUTE FUNCTION shared_db_outbox_check();
ALTER TABLE shared_db_outbox ENABLE ALWAYS TRIGGER shared_db_outbox_dense;
