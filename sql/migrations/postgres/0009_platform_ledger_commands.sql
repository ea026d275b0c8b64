-- Commands: everything that posts and is not usage, in the same sequence as the cuts of the batch log. Owner: platform-ledger.
--
-- An entry comes from batches or from a command, never from both. The functions of its triggers are made anew.

ALTER TABLE platform_ledger_entries ADD COLUMN command bytea
    CONSTRAINT platform_ledger_entries_come_from_batches_or_a_command CHECK ((command IS NULL) = (last_batch IS NOT NULL) AND (command IS NULL) = (first_batch IS NOT NULL)
        AND (command IS NULL OR length(command) = 32));

-- batch_no: where the fold of the batch log stood when the command was taken, so that a rebuild takes it at the same place.
CREATE TABLE platform_ledger_commands (
    entry_no bigint NOT NULL PRIMARY KEY,
    kind text NOT NULL CHECK (length(kind) BETWEEN 1 AND 32),
    subject text NOT NULL CHECK (length(subject) BETWEEN 1 AND 256),
    payload text NOT NULL,
    digest bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
    batch_no bigint NOT NULL CHECK (batch_no >= 0),
    UNIQUE (kind, subject)
);

-- The command comes before its entry and is refused when none follows.
CREATE FUNCTION platform_ledger_commands_check() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF new.entry_no <= (SELECT max(entry_no) FROM platform_ledger_entries) THEN
        RAISE EXCEPTION 'a command makes an entry of its own: platform_ledger_commands';
    END IF;
    RETURN new;
END $$;

CREATE TRIGGER platform_ledger_commands_early BEFORE INSERT ON platform_ledger_commands
FOR EACH ROW EXECUTE FUNCTION platform_ledger_commands_check();

CREATE FUNCTION platform_ledger_commands_booked() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM platform_ledger_entries WHERE entry_no = new.entry_no AND command = new.digest) THEN
        RAISE EXCEPTION 'a command makes an entry of its own: platform_ledger_commands';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER platform_ledger_commands_booked AFTER INSERT ON platform_ledger_commands
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION platform_ledger_commands_booked();

-- What is closed is closed with everything before it: no earlier period is opened behind a close.
CREATE FUNCTION platform_ledger_periods_check() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    -- one that stands here already conflicts and stays as it is
    IF NOT EXISTS (SELECT 1 FROM platform_ledger_periods WHERE period = new.period)
        AND new.period < (SELECT max(period) FROM platform_ledger_period_closes) THEN
        RAISE EXCEPTION 'the accounting period lies before a closed one: platform_ledger_periods';
    END IF;
    RETURN new;
END $$;

CREATE TRIGGER platform_ledger_periods_behind_close BEFORE INSERT ON platform_ledger_periods
FOR EACH ROW EXECUTE FUNCTION platform_ledger_periods_check();

ALTER TABLE platform_ledger_commands ENABLE ALWAYS TRIGGER platform_ledger_commands_early;
ALTER TABLE platform_ledger_commands ENABLE ALWAYS TRIGGER platform_ledger_commands_booked;
ALTER TABLE platform_ledger_periods ENABLE ALWAYS TRIGGER platform_ledger_periods_behind_close;

DO $$
DECLARE
    change text;
    each text;
BEGIN
    FOREACH change IN ARRAY ARRAY['update', 'delete', 'truncate'] LOOP
        each := CASE change WHEN 'truncate' THEN 'STATEMENT' ELSE 'ROW' END;
        EXECUTE format(
            'CREATE TRIGGER %I BEFORE %s ON platform_ledger_commands FOR EACH %s EXECUTE FUNCTION shared_db_append_only()',
            'platform_ledger_commands_append_only_' || change, change, each
        );
        EXECUTE format('ALTER TABLE platform_ledger_commands ENABLE ALWAYS TRIGGER %I', 'platform_ledger_commands_append_only_' || change);
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION platform_ledger_entries_check() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    last platform_ledger_entries;
BEGIN
    SELECT * INTO last FROM platform_ledger_entries WHERE entry_no <> new.entry_no ORDER BY entry_no DESC LIMIT 1;
    IF new.entry_no <> coalesce(last.entry_no, 0) + 1 THEN
        RAISE EXCEPTION 'entries are numbered densely: platform_ledger_entries';
    END IF;
    IF new.first_seq <> coalesce(last.last_seq, 0) + 1 THEN
        RAISE EXCEPTION 'an entry continues the sequence: platform_ledger_entries';
    END IF;
    IF new.previous <> coalesce(last.digest, decode(repeat('00', 32), 'hex')) THEN
        RAISE EXCEPTION 'an entry continues the chain: platform_ledger_entries';
    END IF;
    IF new.command IS NULL AND new.first_batch IS DISTINCT FROM 1 + coalesce((
        SELECT last_batch FROM platform_ledger_entries
        WHERE last_batch IS NOT NULL AND entry_no <> new.entry_no ORDER BY last_batch DESC LIMIT 1
    ), 0) THEN
        RAISE EXCEPTION 'an entry continues the batches: platform_ledger_entries';
    END IF;
    IF new.command IS DISTINCT FROM (SELECT digest FROM platform_ledger_commands WHERE entry_no = new.entry_no) THEN
        RAISE EXCEPTION 'an entry names the command that it comes from: platform_ledger_commands';
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION platform_ledger_postings_check() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM new_rows) THEN
        RETURN NULL;
    END IF;
    IF EXISTS (
        SELECT 1 FROM (SELECT entry_no, min(seq) AS low, max(seq) AS high, count(*) AS rows FROM new_rows GROUP BY entry_no) AS filled
        LEFT JOIN platform_ledger_entries AS entry ON entry.entry_no = filled.entry_no
        WHERE entry.entry_no IS NULL OR filled.low <> entry.first_seq OR filled.high <> entry.last_seq
            OR filled.rows <> entry.last_seq - entry.first_seq + 1
    ) THEN
        RAISE EXCEPTION 'postings fill their entry exactly: platform_ledger_postings';
    END IF;
    IF EXISTS (
        SELECT 1 FROM new_rows AS posting JOIN platform_ledger_entries AS entry ON entry.entry_no = posting.entry_no
        WHERE NOT (posting.kind = 1 OR (posting.kind = 6 AND entry.command IS NOT NULL))
    ) THEN
        RAISE EXCEPTION 'this kind of posting is not taken: platform_ledger_postings';
    END IF;
    -- a close waits for this transaction, and this transaction for a close
    PERFORM 1 FROM platform_ledger_periods WHERE period IN (SELECT accounting_period FROM new_rows) ORDER BY period FOR SHARE;
    IF EXISTS (
        SELECT 1 FROM (SELECT DISTINCT accounting_period FROM new_rows) AS used
        WHERE NOT EXISTS (SELECT 1 FROM platform_ledger_periods WHERE period = used.accounting_period)
            OR EXISTS (SELECT 1 FROM platform_ledger_period_closes WHERE period = used.accounting_period)
    ) THEN
        RAISE EXCEPTION 'the accounting period is closed or unknown: platform_ledger_postings';
    END IF;
    IF EXISTS (
        SELECT 1 FROM (SELECT debit_account AS account, asset FROM new_rows UNION SELECT credit_account, asset FROM new_rows) AS used
        LEFT JOIN platform_ledger_accounts AS known ON known.account = used.account AND known.asset = used.asset
        WHERE known.account IS NULL
    ) THEN
        RAISE EXCEPTION 'the account is unknown in this asset: platform_ledger_postings';
    END IF;
    INSERT INTO platform_ledger_balances AS balance (account, asset, debits, credits, last_seq)
    SELECT account, asset, sum(debit), sum(credit), (SELECT max(seq) FROM new_rows) FROM (
        SELECT debit_account AS account, asset, amount AS debit, 0 AS credit FROM new_rows
        UNION ALL
        SELECT credit_account, asset, 0, amount FROM new_rows
    ) AS sides
    GROUP BY account, asset
    ORDER BY account, asset
    ON CONFLICT (account, asset) DO UPDATE SET
        debits = balance.debits + excluded.debits, credits = balance.credits + excluded.credits, last_seq = excluded.last_seq;
    RETURN NULL;
END $$;

DROP TRIGGER platform_ledger_postings_check ON platform_ledger_postings;
CREATE TRIGGER platform_ledger_postings_check AFTER INSERT ON platform_ledger_postings
REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION platform_ledger_postings_check();
ALTER TABLE platform_ledger_postings ENABLE ALWAYS TRIGGER platform_ledger_postings_check;
