-- What rating again moved: by key and batch, the version under which it was rated again and what that added. Owner: platform-billing.
-- A fold of the tables of totals beside platform_billing_totals, which holds these amounts too. Nothing is ever changed or removed.

CREATE TABLE platform_billing_reratings (
    organization text NOT NULL,
    contract text NOT NULL,
    sku text NOT NULL,
    service_period integer NOT NULL,
    currency text NOT NULL,
    batch_no bigint NOT NULL CHECK (batch_no >= 1),
    accounting_period integer NOT NULL CHECK (accounting_period >= service_period),
    registry_version bytea NOT NULL CHECK (length(registry_version) = 32),
    amount bigint NOT NULL,
    PRIMARY KEY (organization, contract, sku, service_period, currency, batch_no)
);

DO $$
DECLARE
    change text;
    each text;
BEGIN
    FOREACH change IN ARRAY ARRAY['update', 'delete', 'truncate'] LOOP
        each := CASE change WHEN 'truncate' THEN 'STATEMENT' ELSE 'ROW' END;
        EXECUTE format(
            'CREATE TRIGGER %I BEFORE %s ON platform_billing_reratings FOR EACH %s EXECUTE FUNCTION shared_db_append_only()',
            'platform_billing_reratings_append_only_' || change, change, each
        );
        EXECUTE format(
            'ALTER TABLE platform_billing_reratings ENABLE ALWAYS TRIGGER %I', 'platform_billing_reratings_append_only_' || change
        );
    END LOOP;
END $$;
