-- The total of an invoice may be beyond 64 bits: what is below 10^18 stays in its column, the rest is beside it. Owner: platform-billing.
ALTER TABLE platform_billing_invoices ADD COLUMN total_high INTEGER NOT NULL DEFAULT 0;

-- Organizations that a close left without an invoice, because one does not fit, and why: from this month on. Nothing is ever changed or removed.

CREATE TABLE platform_billing_held (
    organization TEXT NOT NULL PRIMARY KEY,
    period INTEGER NOT NULL REFERENCES platform_billing_closes (period),
    problem TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER platform_billing_held_append_only_update BEFORE UPDATE ON platform_billing_held
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_held'); END;
CREATE TRIGGER platform_billing_held_append_only_delete BEFORE DELETE ON platform_billing_held
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_held'); END;
CREATE TRIGGER platform_billing_held_append_only_replace BEFORE INSERT ON platform_billing_held
WHEN EXISTS (SELECT 1 FROM platform_billing_held WHERE organization = NEW.organization)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_held'); END;
