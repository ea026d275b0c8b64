-- Commands: everything that posts and is not usage, in the same sequence as the cuts of the batch log. Owner: platform-ledger.
--
-- An entry comes from batches or from a command, never from both. Its trigger is made anew; so is that of balances, which here get a second
-- word: an account holds (high × 10^18 + low) units of 10^-9, beyond what any currency needs.

ALTER TABLE platform_ledger_entries ADD COLUMN command BLOB
    CONSTRAINT platform_ledger_entries_come_from_batches_or_a_command CHECK ((command IS NULL) = (last_batch IS NOT NULL) AND (command IS NULL) = (first_batch IS NOT NULL)
        AND (command IS NULL OR length(command) = 32));

ALTER TABLE platform_ledger_balances ADD COLUMN debits_high INTEGER NOT NULL DEFAULT 0 CHECK (debits_high >= 0);
ALTER TABLE platform_ledger_balances ADD COLUMN credits_high INTEGER NOT NULL DEFAULT 0 CHECK (credits_high >= 0);

-- batch_no: where the fold of the batch log stood when the command was taken, so that a rebuild takes it at the same place.
CREATE TABLE platform_ledger_commands (
    entry_no INTEGER NOT NULL PRIMARY KEY REFERENCES platform_ledger_entries (entry_no) DEFERRABLE INITIALLY DEFERRED,
    kind TEXT NOT NULL CHECK (length(kind) BETWEEN 1 AND 32),
    subject TEXT NOT NULL CHECK (length(subject) BETWEEN 1 AND 256),
    payload TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    batch_no INTEGER NOT NULL CHECK (batch_no >= 0),
    UNIQUE (kind, subject)
) STRICT;

CREATE TRIGGER platform_ledger_commands_append_only_update BEFORE UPDATE ON platform_ledger_commands
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_ledger_commands');
END;

CREATE TRIGGER platform_ledger_commands_append_only_delete BEFORE DELETE ON platform_ledger_commands
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_ledger_commands');
END;

CREATE TRIGGER platform_ledger_commands_append_only_replace BEFORE INSERT ON platform_ledger_commands
WHEN EXISTS (
    SELECT 1 FROM platform_ledger_commands
    WHERE entry_no = NEW.entry_no OR digest = NEW.digest OR (kind = NEW.kind AND subject = NEW.subject)
)
BEGIN
    SELECT RAISE(ABORT, 'append-only: platform_ledger_commands');
END;

-- The command comes before its entry, which is written last.
CREATE TRIGGER platform_ledger_commands_early BEFORE INSERT ON platform_ledger_commands
WHEN NEW.entry_no <= (SELECT max(entry_no) FROM platform_ledger_entries)
BEGIN
    SELECT RAISE(ABORT, 'a command makes an entry of its own: platform_ledger_commands');
END;

-- What is closed is closed with everything before it: no earlier period is opened behind a close.
CREATE TRIGGER platform_ledger_periods_behind_close BEFORE INSERT ON platform_ledger_periods
WHEN NEW.period < (SELECT max(period) FROM platform_ledger_period_closes)
BEGIN
    SELECT RAISE(ABORT, 'the accounting period lies before a closed one: platform_ledger_periods');
END;

DROP TRIGGER platform_ledger_balances_grow;
CREATE TRIGGER platform_ledger_balances_grow BEFORE UPDATE ON platform_ledger_balances
WHEN NEW.account <> OLD.account OR NEW.asset <> OLD.asset OR NEW.last_seq <= OLD.last_seq
    OR (NEW.debits_high, NEW.debits) < (OLD.debits_high + OLD.debits / 1000000000000000000, OLD.debits % 1000000000000000000)
    OR (NEW.credits_high, NEW.credits) < (OLD.credits_high + OLD.credits / 1000000000000000000, OLD.credits % 1000000000000000000)
BEGIN
    SELECT RAISE(ABORT, 'a balance only grows with an entry: platform_ledger_balances');
END;

DROP TRIGGER platform_ledger_entries_check;
CREATE TRIGGER platform_ledger_entries_check AFTER INSERT ON platform_ledger_entries
BEGIN
    SELECT RAISE(ABORT, 'entries are numbered densely: platform_ledger_entries')
    WHERE NEW.entry_no <> 1 + coalesce((SELECT max(entry_no) FROM platform_ledger_entries WHERE entry_no <> NEW.entry_no), 0);
    SELECT RAISE(ABORT, 'an entry continues the sequence: platform_ledger_entries')
    WHERE NEW.first_seq <> 1 + coalesce((SELECT last_seq FROM platform_ledger_entries WHERE entry_no = NEW.entry_no - 1), 0);
    SELECT RAISE(ABORT, 'an entry continues the chain: platform_ledger_entries')
    WHERE NEW.previous <> coalesce((SELECT digest FROM platform_ledger_entries WHERE entry_no = NEW.entry_no - 1), zeroblob(32));
    SELECT RAISE(ABORT, 'an entry continues the batches: platform_ledger_entries')
    WHERE NEW.command IS NULL AND NEW.first_batch IS NOT 1 + coalesce((
        SELECT last_batch FROM platform_ledger_entries
        WHERE last_batch IS NOT NULL AND entry_no <> NEW.entry_no ORDER BY last_batch DESC LIMIT 1
    ), 0);
    SELECT RAISE(ABORT, 'an entry names the command that it comes from: platform_ledger_commands')
    WHERE NEW.command IS NOT (SELECT digest FROM platform_ledger_commands WHERE entry_no = NEW.entry_no);
    SELECT RAISE(ABORT, 'postings fill their entry exactly: platform_ledger_postings')
    WHERE EXISTS (SELECT 1 FROM platform_ledger_postings WHERE seq > NEW.last_seq)
        OR NEW.last_seq - NEW.first_seq + 1 <> (
            SELECT count(*) FROM platform_ledger_postings
            WHERE seq BETWEEN NEW.first_seq AND NEW.last_seq AND entry_no = NEW.entry_no
        );
    SELECT RAISE(ABORT, 'this kind of posting is not taken: platform_ledger_postings')
    WHERE EXISTS (SELECT 1 FROM platform_ledger_postings WHERE seq BETWEEN NEW.first_seq AND NEW.last_seq
        AND NOT (kind = 1 OR (kind = 6 AND NEW.command IS NOT NULL)));
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
    INSERT INTO platform_ledger_balances (account, asset, debits, debits_high, credits, credits_high, last_seq)
    SELECT account, asset, sum(debit) % 1000000000000000000, sum(debit) / 1000000000000000000,
        sum(credit) % 1000000000000000000, sum(credit) / 1000000000000000000, NEW.last_seq
    FROM (
        SELECT debit_account AS account, asset, amount AS debit, 0 AS credit
        FROM platform_ledger_postings WHERE seq BETWEEN NEW.first_seq AND NEW.last_seq
        UNION ALL
        SELECT credit_account, asset, 0, amount
        FROM platform_ledger_postings WHERE seq BETWEEN NEW.first_seq AND NEW.last_seq
    ) AS sides
    WHERE true
    GROUP BY account, asset
    ON CONFLICT (account, asset) DO UPDATE SET
        debits = (debits % 1000000000000000000 + excluded.debits) % 1000000000000000000,
        debits_high = debits_high + excluded.debits_high + debits / 1000000000000000000
            + (debits % 1000000000000000000 + excluded.debits) / 1000000000000000000,
        credits = (credits % 1000000000000000000 + excluded.credits) % 1000000000000000000,
        credits_high = credits_high + excluded.credits_high + credits / 1000000000000000000
            + (credits % 1000000000000000000 + excluded.credits) / 1000000000000000000,
        last_seq = excluded.last_seq;
END;
