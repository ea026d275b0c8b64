-- One entry may move more on an account than 64 bits: its sums are made of the amounts above and below 10^9. Owner: platform-ledger.

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
    SELECT account, asset,
        (debit_high + debit / 1000000000) % 1000000000 * 1000000000 + debit % 1000000000, (debit_high + debit / 1000000000) / 1000000000,
        (credit_high + credit / 1000000000) % 1000000000 * 1000000000 + credit % 1000000000, (credit_high + credit / 1000000000) / 1000000000,
        NEW.last_seq
    FROM (
        SELECT account, asset, sum(debit / 1000000000) AS debit_high, sum(debit % 1000000000) AS debit,
            sum(credit / 1000000000) AS credit_high, sum(credit % 1000000000) AS credit
        FROM (
            SELECT debit_account AS account, asset, amount AS debit, 0 AS credit
            FROM platform_ledger_postings WHERE seq BETWEEN NEW.first_seq AND NEW.last_seq
            UNION ALL
            SELECT credit_account, asset, 0, amount
            FROM platform_ledger_postings WHERE seq BETWEEN NEW.first_seq AND NEW.last_seq
        ) AS sides GROUP BY account, asset
    ) AS sums
    WHERE true
    ON CONFLICT (account, asset) DO UPDATE SET
        debits = (debits % 1000000000000000000 + excluded.debits) % 1000000000000000000,
        debits_high = debits_high + excluded.debits_high + debits / 1000000000000000000
            + (debits % 1000000000000000000 + excluded.debits) / 1000000000000000000,
        credits = (credits % 1000000000000000000 + excluded.credits) % 1000000000000000000,
        credits_high = credits_high + excluded.credits_high + credits / 1000000000000000000
            + (credits % 1000000000000000000 + excluded.credits) / 1000000000000000000,
        last_seq = excluded.last_seq;
END;
