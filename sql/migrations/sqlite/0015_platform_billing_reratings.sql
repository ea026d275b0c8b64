-- What rating again moved: by key and batch, the version under which it was rated again and what that added. Owner: platform-billing.
-- A fold of the tables of totals beside platform_billing_totals, which holds these amounts too. Nothing is ever changed or removed.

CREATE TABLE platform_billing_reratings (
    organization TEXT NOT NULL,
    contract TEXT NOT NULL,
    sku TEXT NOT NULL,
    service_period INTEGER NOT NULL,
    currency TEXT NOT NULL,
    batch_no INTEGER NOT NULL CHECK (batch_no >= 1),
    accounting_period INTEGER NOT NULL CHECK (accounting_period >= service_period),
    registry_version BLOB NOT NULL CHECK (length(registry_version) = 32),
    amount INTEGER NOT NULL,
    PRIMARY KEY (organization, contract, sku, service_period, currency, batch_no)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER platform_billing_reratings_append_only_update BEFORE UPDATE ON platform_billing_reratings
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_reratings'); END;
CREATE TRIGGER platform_billing_reratings_append_only_delete BEFORE DELETE ON platform_billing_reratings
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_reratings'); END;
CREATE TRIGGER platform_billing_reratings_append_only_replace BEFORE INSERT ON platform_billing_reratings
WHEN EXISTS (SELECT 1 FROM platform_billing_reratings WHERE organization = NEW.organization AND contract = NEW.contract
    AND sku = NEW.sku AND service_period = NEW.service_period AND currency = NEW.currency AND batch_no = NEW.batch_no)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_billing_reratings'); END;
