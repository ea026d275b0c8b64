-- What the terms of contracts add to invoices or take off: term_amount is what a term comes to for its service period, amount that less what
-- earlier invoices said. Owner: platform-billing. Nothing is ever changed or removed.

CREATE TABLE platform_billing_term_lines (
    invoice_id TEXT NOT NULL REFERENCES platform_billing_invoices (invoice_id),
    number INTEGER NOT NULL CHECK (number >= 1),
    organization TEXT NOT NULL,
    contract TEXT NOT NULL,
    term TEXT NOT NULL,
    service_period INTEGER NOT NULL,
    currency TEXT NOT NULL,
    period INTEGER NOT NULL CHECK (period >= service_period),
    term_amount INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (invoice_id, number),
    UNIQUE (organization, contract, term, service_period, currency, period)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER platform_billing_term_lines_append_only_update BEFORE UPDATE ON platform_billing_term_lines
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_term_lines'); END;
CREATE TRIGGER platform_billing_term_lines_append_only_delete BEFORE DELETE ON platform_billing_term_lines
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_term_lines'); END;
CREATE TRIGGER platform_billing_term_lines_append_only_replace BEFORE INSERT ON platform_billing_term_lines
WHEN EXISTS (SELECT 1 FROM platform_billing_term_lines WHERE (invoice_id = NEW.invoice_id AND number = NEW.number)
    OR (organization = NEW.organization AND contract = NEW.contract AND term = NEW.term AND service_period = NEW.service_period
        AND currency = NEW.currency AND period = NEW.period))
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_term_lines'); END;
