-- From running totals to invoices: shards that passed a close, months that all have passed, totals by key and accounting period, invoices
-- and their lines, numbers, second opinions. Owner: platform-billing. Nothing is ever changed or removed, but totals of months that are open.

-- A shard that applied the close record of a month, and the registry version in force there.
CREATE TABLE platform_billing_passes (
    shard INTEGER NOT NULL CHECK (shard BETWEEN 0 AND 63),
    period INTEGER NOT NULL CHECK (period BETWEEN 197001 AND 999912 AND period % 100 BETWEEN 1 AND 12),
    registry_version BLOB NOT NULL CHECK (length(registry_version) = 32),
    batch_no INTEGER NOT NULL CHECK (batch_no >= 1),
    PRIMARY KEY (shard, period)
) STRICT, WITHOUT ROWID;

-- A month that all shards have passed: it and all before it are closed. last_batch is the end of the cut that folded the last pass.
CREATE TABLE platform_billing_closes (
    period INTEGER NOT NULL PRIMARY KEY CHECK (period BETWEEN 197001 AND 999912 AND period % 100 BETWEEN 1 AND 12),
    registry_version BLOB NOT NULL CHECK (length(registry_version) = 32),
    last_batch INTEGER NOT NULL CHECK (last_batch >= 1)
) STRICT;

-- What usage came to, by key and accounting period: a fold of the tables of totals. total, prices and log_sizes are those after the last row.
CREATE TABLE platform_billing_totals (
    organization TEXT NOT NULL,
    contract TEXT NOT NULL,
    contract_line TEXT NOT NULL,
    sku TEXT NOT NULL,
    service_period INTEGER NOT NULL,
    currency TEXT NOT NULL,
    accounting_period INTEGER NOT NULL CHECK (accounting_period >= service_period),
    quantity TEXT NOT NULL,
    amount INTEGER NOT NULL,
    readings INTEGER NOT NULL CHECK (readings >= 0),
    total INTEGER NOT NULL,
    prices TEXT NOT NULL,
    log_sizes TEXT NOT NULL,
    PRIMARY KEY (organization, contract, sku, service_period, currency, accounting_period)
) STRICT, WITHOUT ROWID;

CREATE INDEX platform_billing_totals_by_period ON platform_billing_totals (accounting_period, organization);

CREATE TABLE platform_billing_invoices (
    invoice_id TEXT NOT NULL PRIMARY KEY CHECK (length(invoice_id) BETWEEN 1 AND 64),
    period INTEGER NOT NULL REFERENCES platform_billing_closes (period),
    organization TEXT NOT NULL,
    currency TEXT NOT NULL,
    total INTEGER NOT NULL,
    content TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    UNIQUE (period, organization, currency)
) STRICT, WITHOUT ROWID;

CREATE INDEX platform_billing_invoices_by_organization ON platform_billing_invoices (organization, period);

CREATE TABLE platform_billing_lines (
    invoice_id TEXT NOT NULL REFERENCES platform_billing_invoices (invoice_id),
    number INTEGER NOT NULL CHECK (number >= 1),
    organization TEXT NOT NULL,
    contract TEXT NOT NULL,
    contract_line TEXT NOT NULL,
    sku TEXT NOT NULL,
    service_period INTEGER NOT NULL,
    currency TEXT NOT NULL,
    period INTEGER NOT NULL,
    key_total INTEGER NOT NULL,
    key_amount INTEGER NOT NULL,
    exact INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (invoice_id, number),
    UNIQUE (organization, contract, sku, service_period, currency, period)
) STRICT, WITHOUT ROWID;

-- Every organization with usage in the month has its drafts.
CREATE TABLE platform_billing_drafts (
    period INTEGER NOT NULL PRIMARY KEY REFERENCES platform_billing_closes (period),
    invoices INTEGER NOT NULL CHECK (invoices >= 0)
) STRICT;

-- A draft gets its number, without gap per issuer. entry_no is the ledger's entry; none when nothing moved.
CREATE TABLE platform_billing_issues (
    issuer TEXT NOT NULL CHECK (length(issuer) BETWEEN 1 AND 64),
    number INTEGER NOT NULL CHECK (number >= 1),
    invoice_id TEXT NOT NULL UNIQUE REFERENCES platform_billing_invoices (invoice_id),
    entry_no INTEGER UNIQUE,
    issued_at INTEGER NOT NULL CHECK (issued_at >= 0),
    PRIMARY KEY (issuer, number)
) STRICT, WITHOUT ROWID;

-- What the second engine said of a closed month. The last one counts; until it agrees, the month is provisional.
CREATE TABLE platform_billing_opinions (
    opinion_no INTEGER NOT NULL PRIMARY KEY CHECK (opinion_no >= 1),
    period INTEGER NOT NULL REFERENCES platform_billing_closes (period),
    agrees INTEGER NOT NULL CHECK (agrees IN (0, 1)),
    report TEXT NOT NULL,
    recorded_at INTEGER NOT NULL CHECK (recorded_at >= 0)
) STRICT;

CREATE TRIGGER platform_billing_closes_passed BEFORE INSERT ON platform_billing_closes
WHEN (SELECT count(*) FROM platform_billing_passes WHERE period = NEW.period) <> 64
    OR NEW.period <= (SELECT max(period) FROM platform_billing_closes)
BEGIN SELECT RAISE(ABORT, 'a month closes when all shards have passed it, after those before it: platform_billing_closes'); END;

CREATE TRIGGER platform_billing_totals_insert BEFORE INSERT ON platform_billing_totals
WHEN NEW.accounting_period <= (SELECT max(period) FROM platform_billing_closes)
BEGIN SELECT RAISE(ABORT, 'the accounting period is closed: platform_billing_totals'); END;
CREATE TRIGGER platform_billing_totals_update BEFORE UPDATE ON platform_billing_totals
WHEN OLD.accounting_period <= (SELECT max(period) FROM platform_billing_closes) OR NEW.readings < OLD.readings
    OR NEW.organization <> OLD.organization OR NEW.contract <> OLD.contract OR NEW.sku <> OLD.sku
    OR NEW.service_period <> OLD.service_period OR NEW.currency <> OLD.currency OR NEW.accounting_period <> OLD.accounting_period
BEGIN SELECT RAISE(ABORT, 'totals of an open month only grow: platform_billing_totals'); END;
CREATE TRIGGER platform_billing_totals_keep BEFORE DELETE ON platform_billing_totals
BEGIN SELECT RAISE(ABORT, 'totals are never removed: platform_billing_totals'); END;

CREATE TRIGGER platform_billing_invoices_open BEFORE INSERT ON platform_billing_invoices
WHEN EXISTS (SELECT 1 FROM platform_billing_drafts WHERE period >= NEW.period)
BEGIN SELECT RAISE(ABORT, 'the drafts of the month are complete: platform_billing_invoices'); END;

CREATE TRIGGER platform_billing_drafts_complete BEFORE INSERT ON platform_billing_drafts
WHEN NEW.invoices <> (SELECT count(*) FROM platform_billing_invoices WHERE period = NEW.period)
    OR NEW.period <= (SELECT max(period) FROM platform_billing_drafts)
BEGIN SELECT RAISE(ABORT, 'drafts are counted, month after month: platform_billing_drafts'); END;

CREATE TRIGGER platform_billing_issues_dense BEFORE INSERT ON platform_billing_issues
WHEN NEW.number <> 1 + coalesce((SELECT max(number) FROM platform_billing_issues WHERE issuer = NEW.issuer), 0)
BEGIN SELECT RAISE(ABORT, 'numbers have no gap: platform_billing_issues'); END;
CREATE TRIGGER platform_billing_issues_drafted BEFORE INSERT ON platform_billing_issues
WHEN NOT EXISTS (
    SELECT 1 FROM platform_billing_invoices AS invoice JOIN platform_billing_drafts AS drafts ON drafts.period = invoice.period
    WHERE invoice.invoice_id = NEW.invoice_id
)
BEGIN SELECT RAISE(ABORT, 'an invoice is issued when the drafts of its month are complete: platform_billing_issues'); END;

CREATE TRIGGER platform_billing_opinions_dense BEFORE INSERT ON platform_billing_opinions
WHEN NEW.opinion_no <> 1 + coalesce((SELECT max(opinion_no) FROM platform_billing_opinions), 0)
BEGIN SELECT RAISE(ABORT, 'opinions are numbered densely: platform_billing_opinions'); END;

CREATE TRIGGER platform_billing_passes_append_only_update BEFORE UPDATE ON platform_billing_passes
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_passes'); END;
CREATE TRIGGER platform_billing_passes_append_only_delete BEFORE DELETE ON platform_billing_passes
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_passes'); END;
CREATE TRIGGER platform_billing_passes_append_only_replace BEFORE INSERT ON platform_billing_passes
WHEN EXISTS (SELECT 1 FROM platform_billing_passes WHERE shard = NEW.shard AND period = NEW.period)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_passes'); END;

CREATE TRIGGER platform_billing_closes_append_only_update BEFORE UPDATE ON platform_billing_closes
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_closes'); END;
CREATE TRIGGER platform_billing_closes_append_only_delete BEFORE DELETE ON platform_billing_closes
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_closes'); END;
CREATE TRIGGER platform_billing_closes_append_only_replace BEFORE INSERT ON platform_billing_closes
WHEN EXISTS (SELECT 1 FROM platform_billing_closes WHERE period = NEW.period)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_closes'); END;

CREATE TRIGGER platform_billing_invoices_append_only_update BEFORE UPDATE ON platform_billing_invoices
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_invoices'); END;
CREATE TRIGGER platform_billing_invoices_append_only_delete BEFORE DELETE ON platform_billing_invoices
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_invoices'); END;
CREATE TRIGGER platform_billing_invoices_append_only_replace BEFORE INSERT ON platform_billing_invoices
WHEN EXISTS (SELECT 1 FROM platform_billing_invoices WHERE (invoice_id = NEW.invoice_id) OR (digest = NEW.digest) OR (period = NEW.period AND organization = NEW.organization AND currency = NEW.currency))
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_invoices'); END;

CREATE TRIGGER platform_billing_lines_append_only_update BEFORE UPDATE ON platform_billing_lines
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_lines'); END;
CREATE TRIGGER platform_billing_lines_append_only_delete BEFORE DELETE ON platform_billing_lines
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_lines'); END;
CREATE TRIGGER platform_billing_lines_append_only_replace BEFORE INSERT ON platform_billing_lines
WHEN EXISTS (SELECT 1 FROM platform_billing_lines WHERE (invoice_id = NEW.invoice_id AND number = NEW.number) OR (organization = NEW.organization AND contract = NEW.contract AND sku = NEW.sku AND service_period = NEW.service_period AND currency = NEW.currency AND period = NEW.period))
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_lines'); END;

CREATE TRIGGER platform_billing_drafts_append_only_update BEFORE UPDATE ON platform_billing_drafts
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_drafts'); END;
CREATE TRIGGER platform_billing_drafts_append_only_delete BEFORE DELETE ON platform_billing_drafts
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_drafts'); END;
CREATE TRIGGER platform_billing_drafts_append_only_replace BEFORE INSERT ON platform_billing_drafts
WHEN EXISTS (SELECT 1 FROM platform_billing_drafts WHERE period = NEW.period)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_drafts'); END;

CREATE TRIGGER platform_billing_issues_append_only_update BEFORE UPDATE ON platform_billing_issues
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_issues'); END;
CREATE TRIGGER platform_billing_issues_append_only_delete BEFORE DELETE ON platform_billing_issues
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_issues'); END;
CREATE TRIGGER platform_billing_issues_append_only_replace BEFORE INSERT ON platform_billing_issues
WHEN EXISTS (SELECT 1 FROM platform_billing_issues WHERE (issuer = NEW.issuer AND number = NEW.number) OR (invoice_id = NEW.invoice_id) OR (entry_no = NEW.entry_no))
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_issues'); END;

CREATE TRIGGER platform_billing_opinions_append_only_update BEFORE UPDATE ON platform_billing_opinions
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_opinions'); END;
CREATE TRIGGER platform_billing_opinions_append_only_delete BEFORE DELETE ON platform_billing_opinions
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_opinions'); END;
CREATE TRIGGER platform_billing_opinions_append_only_replace BEFORE INSERT ON platform_billing_opinions
WHEN EXISTS (SELECT 1 FROM platform_billing_opinions WHERE opinion_no = NEW.opinion_no)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_opinions'); END;
