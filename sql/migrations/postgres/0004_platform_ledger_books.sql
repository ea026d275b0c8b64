-- The book: assets, accounts, accounting periods, entries, postings, balances. Owner: platform-ledger.
--
-- The entry comes first, then all its postings in one statement: a trigger over the statement's rows checks the whole group at once, and a
-- deferred trigger refuses an entry that stayed empty. Amounts are units of 10^-9 in 64 bits, balances exact numerics.

CREATE TABLE platform_ledger_assets (
    asset text NOT NULL PRIMARY KEY CHECK (length(asset) BETWEEN 1 AND 128),
    scale bigint NOT NULL CHECK (scale = 9)
);

CREATE TABLE platform_ledger_accounts (
    account text NOT NULL CHECK (length(account) BETWEEN 1 AND 512),
    asset text NOT NULL REFERENCES platform_ledger_assets (asset),
    PRIMARY KEY (account, asset)
);

-- A period is open when it stands here and has no close.
CREATE TABLE platform_ledger_periods (
    period integer NOT NULL PRIMARY KEY CHECK (period BETWEEN 197001 AND 999912 AND period % 100 BETWEEN 1 AND 12)
);

CREATE TABLE platform_ledger_period_closes (
    period integer NOT NULL PRIMARY KEY REFERENCES platform_ledger_periods (period),
    last_seq bigint NOT NULL CHECK (last_seq >= 0)
);

CREATE TABLE platform_ledger_entries (
    entry_no bigint NOT NULL PRIMARY KEY CHECK (entry_no >= 1),
    first_seq bigint NOT NULL UNIQUE CHECK (first_seq >= 1),
    last_seq bigint NOT NULL UNIQUE CHECK (last_seq >= first_seq),
    first_batch bigint UNIQUE CHECK (first_batch >= 1),
    last_batch bigint UNIQUE CHECK (last_batch >= first_batch),
    previous bytea NOT NULL UNIQUE CHECK (length(previous) = 32),
    digest bytea NOT NULL UNIQUE CHECK (length(digest) = 32)
);

-- Kinds: 1 post, 2 hold, 3 capture, 4 release, 5 reversal, 6 rounding, 7 close. Only 1 is taken so far (see the trigger on postings).
-- References are checked by the trigger, not by foreign keys: those are row by row and sleep in replica mode.
CREATE TABLE platform_ledger_postings (
    seq bigint NOT NULL PRIMARY KEY CHECK (seq >= 1),
    entry_no bigint NOT NULL,
    debit_account text NOT NULL,
    credit_account text NOT NULL CHECK (credit_account <> debit_account),
    asset text NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    kind smallint NOT NULL CHECK (kind BETWEEN 1 AND 7),
    ref_seq bigint CHECK ((kind IN (3, 4, 5)) = (ref_seq IS NOT NULL) AND (ref_seq IS NULL OR ref_seq < seq)),
    accounting_period integer NOT NULL,
    organization text,
    contract text,
    contract_line text,
    service_period integer,
    currency text,
    quantity text,
    effective_at bigint NOT NULL CHECK (effective_at >= 0),
    CHECK ((organization IS NULL) = (contract IS NULL) AND (organization IS NULL) = (contract_line IS NULL)
        AND (organization IS NULL) = (service_period IS NULL) AND (organization IS NULL) = (currency IS NULL)
        AND (currency IS NULL OR currency = asset))
);

-- Maintained by the trigger on postings only.
CREATE TABLE platform_ledger_balances (
    account text NOT NULL,
    asset text NOT NULL,
    debits numeric NOT NULL CHECK (debits >= 0 AND debits = trunc(debits)),
    credits numeric NOT NULL CHECK (credits >= 0 AND credits = trunc(credits)),
    last_seq bigint NOT NULL,
    PRIMARY KEY (account, asset)
) WITH (fillfactor = 50);

CREATE FUNCTION platform_ledger_entries_check() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
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
    IF new.last_batch IS NULL OR new.first_batch IS DISTINCT FROM coalesce(last.last_batch, 0) + 1 THEN
        RAISE EXCEPTION 'an entry continues the batches: platform_ledger_entries';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER platform_ledger_entries_check AFTER INSERT ON platform_ledger_entries
FOR EACH ROW EXECUTE FUNCTION platform_ledger_entries_check();

CREATE FUNCTION platform_ledger_entries_filled() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM platform_ledger_postings WHERE seq = new.first_seq AND entry_no = new.entry_no) THEN
        RAISE EXCEPTION 'postings fill their entry exactly: platform_ledger_postings';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER platform_ledger_entries_filled AFTER INSERT ON platform_ledger_entries
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION platform_ledger_entries_filled();

CREATE FUNCTION platform_ledger_postings_check() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
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
    IF EXISTS (SELECT 1 FROM new_rows WHERE kind <> 1) THEN
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

CREATE TRIGGER platform_ledger_postings_check AFTER INSERT ON platform_ledger_postings
REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION platform_ledger_postings_check();

CREATE FUNCTION platform_ledger_balances_check() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF tg_op <> 'UPDATE' THEN
        RAISE EXCEPTION 'a balance is never removed: platform_ledger_balances';
    END IF;
    IF new.account <> old.account OR new.asset <> old.asset OR new.last_seq <= old.last_seq
        OR new.debits < old.debits OR new.credits < old.credits THEN
        RAISE EXCEPTION 'a balance only grows with an entry: platform_ledger_balances';
    END IF;
    RETURN new;
END $$;

CREATE TRIGGER platform_ledger_balances_grow BEFORE UPDATE OR DELETE ON platform_ledger_balances
FOR EACH ROW EXECUTE FUNCTION platform_ledger_balances_check();
CREATE TRIGGER platform_ledger_balances_keep BEFORE TRUNCATE ON platform_ledger_balances
FOR EACH STATEMENT EXECUTE FUNCTION platform_ledger_balances_check();

-- A close names the last posting that it can cover, and waits for postings that are on their way into its period.
CREATE FUNCTION platform_ledger_period_closes_check() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM 1 FROM platform_ledger_periods WHERE period = new.period FOR UPDATE;
    IF new.last_seq <> coalesce((SELECT max(last_seq) FROM platform_ledger_entries), 0) THEN
        RAISE EXCEPTION 'a close covers all postings so far: platform_ledger_period_closes';
    END IF;
    RETURN new;
END $$;

CREATE TRIGGER platform_ledger_period_closes_check BEFORE INSERT ON platform_ledger_period_closes
FOR EACH ROW EXECUTE FUNCTION platform_ledger_period_closes_check();

ALTER TABLE platform_ledger_entries ENABLE ALWAYS TRIGGER platform_ledger_entries_check;
ALTER TABLE platform_ledger_entries ENABLE ALWAYS TRIGGER platform_ledger_entries_filled;
ALTER TABLE platform_ledger_postings ENABLE ALWAYS TRIGGER platform_ledger_postings_check;
ALTER TABLE platform_ledger_balances ENABLE ALWAYS TRIGGER platform_ledger_balances_grow;
ALTER TABLE platform_ledger_balances ENABLE ALWAYS TRIGGER platform_ledger_balances_keep;
ALTER TABLE platform_ledger_period_closes ENABLE ALWAYS TRIGGER platform_ledger_period_closes_check;

-- <table>_append_only_{update,delete,truncate} on every table but balances.
DO $$
DECLARE
    owned text;
    change text;
    each text;
BEGIN
    FOREACH owned IN ARRAY ARRAY['assets', 'accounts', 'periods', 'period_closes', 'entries', 'postings'] LOOP
        owned := 'platform_ledger_' || owned;
        FOREACH change IN ARRAY ARRAY['update', 'delete', 'truncate'] LOOP
            each := CASE change WHEN 'truncate' THEN 'STATEMENT' ELSE 'ROW' END;
            EXECUTE format(
                'CREATE TRIGGER %I BEFORE %s ON %I FOR EACH %s EXECUTE FUNCTION shared_db_append_only()',
                owned || '_append_only_' || change, change, owned, each
            );
            EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER %I', owned, owned || '_append_only_' || change);
        END LOOP;
    END LOOP;
END $$;
