-- The total of an invoice may be beyond 64 bits: what is below 10^18 stays in its column, the rest is beside it. Owner: platform-billing.
ALTER TABLE platform_billing_invoices ADD COLUMN total_high bigint NOT NULL DEFAULT 0;

-- Organizations that a close left without an invoice, because one does not fit, and why: from this month on. Nothing is ever changed or removed.

CREATE TABLE platform_billing_held (
    organization text NOT NULL PRIMARY KEY,
    period integer NOT NULL REFERENCES platform_billing_closes (period),
    problem text NOT NULL
);

DO $$
DECLARE
    change text;
    each text;
BEGIN
    FOREACH change IN ARRAY ARRAY['update', 'delete', 'truncate'] LOOP
        each := CASE change WHEN 'truncate' THEN 'STATEMENT' ELSE 'ROW' END;
        EXECUTE format(
            'CREATE TRIGGER %I BEFORE %s ON platform_billing_held FOR EACH %s EXECUTE FUNCTION shared_db_append_only()',
            'platform_billing_held_append_only_' || change, change, each
        );
        EXECUTE format(
            'ALTER TABLE platform_billing_held ENABLE ALWAYS TRIGGER %I', 'platform_billing_held_append_only_' || change
        );
    END LOOP;
END $$;
