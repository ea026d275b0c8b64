-- The book: assets, accounts, accounting periods, entries, postings, balances. Owner: platform-ledger.
--
-- Postings of a group come first, its entry last: the entry's trigger checks the whole group at once, and the deferred foreign key
-- refuses postings that no entry closes. Amounts are units of 10^-9 in 64 bits: a sum that does not fit is refused, never wrapped.

CREATE TABLE platform_ledger_assets (
    asset TEXT NOT NULL PRIMARY KEY CHECK (length(asset) BETWEEN 1 AND 128),
    scale INTEGER NOT NULL CHECK (scale = 9)
) STRICT, WITHOUT ROWID;

CREATE TABLE platform_ledger_accounts (
    account TEXT NOT NULL CHECK (length(account) BETWEEN 1 AND 512),
    asset TEXT NOT NULL REFERENCES platform_ledger_assets (asset),
    PRIMARY KEY (account, asset)
) STRICT, WITHOUT ROWID;

-- A period is open when it stands here and has no close.
CREATE TABLE platform_ledger_periods (
    period INTEGER NOT NULL PRIMARY KEY CHECK (period BETWEEN 197001 AND 999912 AND period % 100 BETWEEN 1 AND 12)
) STRICT;

CREATE TABLE platform_ledger_period_closes (
    period INTEGER NOT NULL PRIMARY KEY REFERENCES platform_ledger_periods (period),
    last_seq INTEGER NOT NULL CHECK (last_seq >= 0)
) STRICT;

CREATE TABLE platform_ledger_entries (
    entry_no INTEGER NOT NULL PRIMARY KEY CHECK (entry_no >= 1),
    first_seq INTEGER NOT NULL UNIQUE CHECK (first_seq >= 1),
    last_seq INTEGER NOT NULL UNIQUE CHECK (last_seq >= first_seq),
    first_batch INTEGER UNIQUE CHECK (first_batch >= 1),
    last_batch INTEGER UNIQUE CHECK (last_batch >= first_batch),
    previous BLOB NOT NULL UNIQUE CHECK (length(previous) = 32),
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32)
) STRICT;

-- Kinds: 1 post, 2 hold, 3 capture, 4 release, 5 reversal, 6 rounding, 7 close. Only 1 is taken so far (see the entry's trigger).
CREATE TABLE platform_ledger_postings (
    seq INTEGER NOT NULL PRIMARY KEY CHECK (seq >= 1),
    entry_no INTEGER NOT NULL REFERENCES platform_ledger_entries (entry_no) DEFERRABLE INITIALLY DEFERRED,
    debit_account TEXT NOT NULL,
    credit_account TEXT NOT NULL CHECK (credit_account <> debit_account),
    asset TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    kind INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 7),
    ref_seq INTEGER CHECK ((kind IN (3, 4, 5)) = (ref_seq IS NOT NULL) AND (ref_seq IS NULL OR ref_seq < seq)),
    accounting_period INTEGER NOT NULL,
    organization TEXT,
    contract TEXT,
    contract_line TEXT,
    service_period INTEGER,
    currency TEXT,
    quantity TEXT,
    effective_at INTEGER NOT NULL CHECK (effective_at >= 0),
    CHECK ((organization IS NULL) = (contract IS NULL) AND (organization IS NULL) = (contract_line IS NULL)
        AND (organization IS NULL) = (service_period IS NULL) AND (organization IS NULL) = (currency IS NULL)
        AND (currency IS NULL OR currency = asset))
) STRICT;

-- Maintained by the entry's trigger only.
CREATE TABLE platform_ledger_balances (
    account TEXT NOT NULL,
    asset TEXT NOT NULL,
    debits INTEGER NOT NULL CHECK (debits >= 0),
    credits INTEGER NOT NULL CHECK (credits >= 0),
    last_seq INTEGER NOT NULL,
    PRIMARY KEY (account, asset)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER platform_ledger_entries_check AFTER INSERT ON platform_ledger_entries
BEGIN
    SELECT RAISE(ABORT, 'entries are numbered densely: platform_ledger_entries')
    WHERE NEW.entry_no <> 1 + coalesce((SELECT max(entry_no) FROM platform_ledger_entries WHERE entry_no <> NEW.entry_no), 0);
    SELECT RAISE(ABORT, 'an entry continues the sequence: platform_ledger_entries')
    WHERE NEW.first_seq <> 1 + coalesce((SELECT last_seq FROM platform_ledger_entries WHERE entry_no = NEW.entry_no - 1), 0);
    SELECT RAISE(ABORT, 'an entry continues the chain: platform_ledger_entries')
    WHERE NEW.previous <> coalesce((SELECT digest FROM platform_ledger_entries WHERE entry_no = NEW.entry_no - 1), zeroblob(32));
    SELECT RAISE(ABORT, 'an entry continues the batches: platform_ledger_entries')
    WHERE NEW.last_batch IS NULL
        OR NEW.first_batch IS NOT 1 + coalesce((SELECT last_batch FROM platform_ledger_entries WHERE entry_no = NEW.entry_no - 1), 0);
    SELECT RAISE(ABORT, 'postings fill their entry exactly: platform_ledger_postings')
    WHERE EXISTS (SELECT 1 FROM platform_ledger_postings WHERE seq > NEW.last_seq)
        OR NEW.last_seq - NEW.first_seq + 1 <> (
            SELECT count(*) FROM platform_ledger_postings
            WHERE seq BETWEEN NEW.first_seq AND NEW.last_seq AND entry_no = NEW.entry_no
        );
    SELECT RAISE(ABORT, 'this kind of posting is not taken: platform_ledger_postings')
    WHERE EXISTS (SELECT 1 FROM platform_ledger_postings WHERE seq BETWEEN NEW.first_seq AND NEW.last_seq AND kind <> 1);
    SELECT RAISE(ABORT, 'the accounting period is closed or unknown: platform_ledger_postings')
    WHERE EXISTS (
        SELECT 1 FROM (
            SELECT DISTINCT accounting_period FROM platform_ledger_postings WHERE seq BETWEEN NEW.first_seq AND NEW.last_seq
        ) AS used
        WHERE NOT EXISTS (SELECT 1 FROM platform_ledger_periods WHERE period = used.accounting_period)
            OR EXISTS (SELECT 1 FROM platform_ledger_period_closes WHERE period = used.accounting_period)
    );
    SELECT RAISE(ABORT, 'the account is unknown in this asset: platform_ledger_postings')
    WHERE EXISTS (
        SELECT 1 FROM platform_ledger_postings AS posting
        WHERE seq BETWEEN NEW.first_seq AND NEW.last_seq AND (
            NOT EXISTS (
                SELECT 1 FROM platform_ledger_accounts AS known
                WHERE known.account = posting.debit_account AND known.asset = posting.asset
            )
            OR NOT EXISTS (
                SELECT 1 FROM platform_ledger_accounts AS known
                WHERE known.account = posting.credit_account AND known.asset = posting.asset
            )
        )
    );
    INSERT INTO platform_ledger_balances (account, asset, debits, credits, last_seq)
    SELECT account, asset, sum(debit), sum(credit), NEW.last_seq FROM (
        SELECT debit_account AS account, asset, amount AS debit, 0 AS credit
        FROM platform_ledger_postings WHERE seq BETWEEN NEW.first_seq AND NEW.last_seq
        UNION ALL
        SELECT credit_account, asset, 0, amount
        FROM platform_ledger_postings WHERE seq BETWEEN NEW.first_seq AND NEW.last_seq
    ) AS sides
    WHERE true
    GROUP BY account, asset
    ON CONFLICT (account, asset) DO UPDATE SET
        debits = debits + excluded.debits, credits = credits + excluded.credits, last_seq = excluded.last_seq;
END;

-- What an entry has closed stays as it is: no posting is added to it, and none is put in its place.
CREATE TRIGGER platform_ledger_postings_sealed BEFORE INSERT ON platform_ledger_postings
WHEN NEW.seq <= (SELECT max(last_seq) FROM platform_ledger_entries)
    OR NEW.entry_no <= (SELECT max(entry_no) FROM platform_ledger_entries)
BEGIN
    SELECT RAISE(ABORT, 'an entry is filled once: platform_ledger_postings');
END;

CREATE TRIGGER platform_ledger_balances_grow BEFORE UPDATE ON platform_ledger_balances
WHEN NEW.account <> OLD.account OR NEW.asset <> OLD.asset OR NEW.last_seq <= OLD.last_seq
    OR NEW.debits < OLD.debits OR NEW.credits < OLD.credits
BEGIN
    SELECT RAISE(ABORT, 'a balance only grows with an entry: platform_ledger_balances');
END;

CREATE TRIGGER platform_ledger_balances_keep BEFORE DELETE ON platform_ledger_balances
BEGIN
    SELECT RAISE(ABORT, 'a balance is never removed: platform_ledger_balances');
END;

-- A close names the last posting that it can cover.
CREATE TRIGGER platform_ledger_period_closes_check BEFORE INSERT ON platform_ledger_period_closes
WHEN NEW.last_seq <> coalesce((SELECT max(last_seq) FROM platform_ledger_entries), 0)
BEGIN
    SELECT RAISE(ABORT, 'a close covers all postings so far: platform_ledger_period_closes');
END;

CREATE TRIGGER platform_ledger_assets_append_only_update BEFORE UPDATE ON platform_ledger_assets
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_ledger_assets');
END;

CREATE TRIGGER platform_ledger_assets_append_only_delete BEFORE DELETE ON platform_ledger_assets
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_ledger_assets');
END;

CREATE TRIGGER platform_ledger_assets_append_only_replace BEFORE INSERT ON platform_ledger_assets
WHEN EXISTS (SELECT 1 FROM platform_ledger_assets WHERE asset = NEW.asset)
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_ledger_assets');
END;

CREATE TRIGGER platform_ledger_accounts_append_only_update BEFORE UPDATE ON platform_ledger_accounts
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_ledger_accounts');
END;

CREATE TRIGGER platform_ledger_accounts_append_only_delete BEFORE DELETE ON platform_ledger_accounts
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_ledger_accounts');
END;

CREATE TRIGGER platform_ledger_accounts_append_only_replace BEFORE INSERT ON platform_ledger_accounts
WHEN EXISTS (SELECT 1 FROM platform_ledger_accounts WHERE account = NEW.account AND asset = NEW.asset)
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_ledger_accounts');
END;

CREATE TRIGGER platform_ledger_periods_append_only_update BEFORE UPDATE ON platform_ledger_periods
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_ledger_periods');
END;

CREATE TRIGGER platform_ledger_periods_append_only_delete BEFORE DELETE ON platform_ledger_periods
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_ledger_periods');
END;

CREATE TRIGGER platform_ledger_periods_append_only_replace BEFORE INSERT ON platform_ledger_periods
WHEN EXISTS (SELECT 1 FROM platform_ledger_periods WHERE period = NEW.period)
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_ledger_periods');
END;

CREATE TRIGGER platform_ledger_period_closes_append_only_update BEFORE UPDATE ON platform_ledger_period_closes
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_ledger_period_closes');
END;

CREATE TRIGGER platform_ledger_period_closes_append_only_delete BEFORE DELETE ON platform_ledger_period_closes
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_ledger_period_closes');
END;

CREATE TRIGGER platform_ledger_period_closes_append_only_replace BEFORE INSERT ON platform_ledger_period_closes
WHEN EXISTS (SELECT 1 FROM platform_ledger_period_closes WHERE period = NEW.period)
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_ledger_period_closes');
END;

CREATE TRIGGER platform_ledger_entries_append_only_update BEFORE UPDATE ON platform_ledger_entries
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_ledger_entries');
END;

CREATE TRIGGER platform_ledger_entries_append_only_delete BEFORE DELETE ON platform_ledger_entries
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_ledger_entries');
END;

CREATE TRIGGER platform_ledger_entries_append_only_replace BEFORE INSERT ON platform_ledger_entries
WHEN EXISTS (
    SELECT 1 FROM platform_ledger_entries
    WHERE entry_no = NEW.entry_no OR first_seq = NEW.first_seq OR last_seq = NEW.last_seq
        OR first_batch = NEW.first_batch OR last_batch = NEW.last_batch OR previous = NEW.previous OR digest = NEW.digest
)
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_ledger_entries');
END;

CREATE TRIGGER platform_ledger_postings_append_only_update BEFORE UPDATE ON platform_ledger_postings
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_ledger_postings');
END;

CREATE TRIGGER platform_ledger_postings_append_only_delete BEFORE DELETE ON platform_ledger_postings
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_ledger_postings');
END;

CREATE TRIGGER platform_ledger_postings_append_only_replace BEFORE INSERT ON platform_ledger_postings
WHEN EXISTS (SELECT 1 FROM platform_ledger_postings WHERE seq = NEW.seq)
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_ledger_postings');
END;
