-- What the terms of contracts add to invoices or take off: term_amount is what a term comes to for its service period, amount that less what
-- earlier invoices said. Owner: platform-billing. Nothing is ever changed or removed.

CREATE TABLE platform_billing_term_lines (
    invoice_id text NOT NULL REFERENCES platform_billing_invoices (invoice_id),
    number bigint NOT NULL CHECK (number >= 1),
    organization text NOT NULL,
    contract text NOT NULL,
    term text NOT NULL,
    service_period integer NOT NULL,
    currency text NOT NULL,
    period integer NOT NULL CHECK (period >= service_period),
    term_amount bigint NOT NULL,
    amount bigint NOT NULL,
    PRIMARY KEY (invoice_id, number),
    UNIQUE (organization, contract, term, service_period, currency, period)
);

DO $$
DECLARE
    change text;
    each text;
BEGIN
    FOREACH change IN ARRAY ARRAY['update', 'delete', 'truncate'] LOOP
        each := CASE change WHEN 'truncate' THEN 'STATEMENT' ELSE 'ROW' END;
        EXECUTE format(
            'CREATE TRIGGER %I BEFORE %s ON platform_billing_term_lines FOR EACH %s EXECUTE FUNCTION shared_db_append_only()',
            'platform_billing_term_lines_append_only_' || change, change, each
        );
        EXECUTE format(
            'ALTER TABLE platform_billing_term_lines ENABLE ALWAYS TRIGGER %I', 'platform_billing_term_lines_append_only_' || change
        );
    END LOOP;
END $$;
