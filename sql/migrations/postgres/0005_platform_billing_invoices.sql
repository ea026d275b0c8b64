-- From running totals to invoices: shards that passed a close, months that all have passed, totals by key and accounting period, invoices
-- and their lines, numbers, second opinions. Owner: platform-billing. Nothing is ever changed or removed, but totals of months that are open.

-- A shard that applied the close record of a month, and the registry version in force there.
CREATE TABLE platform_billing_passes (
    shard integer NOT NULL CHECK (shard BETWEEN 0 AND 63),
    period integer NOT NULL CHECK (period BETWEEN 197001 AND 999912 AND period % 100 BETWEEN 1 AND 12),
    registry_version bytea NOT NULL CHECK (length(registry_version) = 32),
    batch_no bigint NOT NULL CHECK (batch_no >= 1),
    PRIMARY KEY (shard, period)
);

-- A month that all shards have passed: it and all before it are closed. last_batch is the end of the cut that folded the last pass.
CREATE TABLE platform_billing_closes (
    period integer NOT NULL PRIMARY KEY CHECK (period BETWEEN 197001 AND 999912 AND period % 100 BETWEEN 1 AND 12),
    registry_version bytea NOT NULL CHECK (length(registry_version) = 32),
    last_batch bigint NOT NULL CHECK (last_batch >= 1)
);

-- What usage came to, by key and accounting period: a fold of the tables of totals. total, prices and log_sizes are those after the last row.
CREATE TABLE platform_billing_totals (
    organization text NOT NULL,
    contract text NOT NULL,
    contract_line text NOT NULL,
    sku text NOT NULL,
    service_period integer NOT NULL,
    currency text NOT NULL,
    accounting_period integer NOT NULL CHECK (accounting_period >= service_period),
    quantity text NOT NULL,
    amount bigint NOT NULL,
    readings bigint NOT NULL CHECK (readings >= 0),
    total bigint NOT NULL,
    prices text NOT NULL,
    log_sizes text NOT NULL,
    PRIMARY KEY (organization, contract, sku, service_period, currency, accounting_period)
);

CREATE INDEX platform_billing_totals_by_period ON platform_billing_totals (accounting_period, organization);

CREATE TABLE platform_billing_invoices (
    invoice_id text NOT NULL PRIMARY KEY CHECK (length(invoice_id) BETWEEN 1 AND 64),
    period integer NOT NULL REFERENCES platform_billing_closes (period),
    organization text NOT NULL,
    currency text NOT NULL,
    total bigint NOT NULL,
    content text NOT NULL,
    digest bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
    UNIQUE (period, organization, currency)
);

CREATE INDEX platform_billing_invoices_by_organization ON platform_billing_invoices (organization, period);

CREATE TABLE platform_billing_lines (
    invoice_id text NOT NULL REFERENCES platform_billing_invoices (invoice_id),
    number bigint NOT NULL CHECK (number >= 1),
    organization text NOT NULL,
    contract text NOT NULL,
    contract_line text NOT NULL,
    sku text NOT NULL,
    service_period integer NOT NULL,
    currency text NOT NULL,
    period integer NOT NULL,
    key_total bigint NOT NULL,
    key_amount bigint NOT NULL,
    exact bigint NOT NULL,
    amount bigint NOT NULL,
    PRIMARY KEY (invoice_id, number),
    UNIQUE (organization, contract, sku, service_period, currency, period)
);

-- Every organization with usage in the month has its drafts.
CREATE TABLE platform_billing_drafts (
    period integer NOT NULL PRIMARY KEY REFERENCES platform_billing_closes (period),
    invoices bigint NOT NULL CHECK (invoices >= 0)
);

-- A draft gets its number, without gap per issuer. entry_no is the ledger's entry; none when nothing moved.
CREATE TABLE platform_billing_issues (
    issuer text NOT NULL CHECK (length(issuer) BETWEEN 1 AND 64),
    number bigint NOT NULL CHECK (number >= 1),
    invoice_id text NOT NULL UNIQUE REFERENCES platform_billing_invoices (invoice_id),
    entry_no bigint UNIQUE,
    issued_at bigint NOT NULL CHECK (issued_at >= 0),
    PRIMARY KEY (issuer, number)
);

-- What the second engine said of a closed month. The last one counts; until it agrees, the month is provisional.
CREATE TABLE platform_billing_opinions (
    opinion_no bigint NOT NULL PRIMARY KEY CHECK (opinion_no >= 1),
    period integer NOT NULL REFERENCES platform_billing_closes (period),
    agrees integer NOT NULL CHECK (agrees IN (0, 1)),
    report text NOT NULL,
    recorded_at bigint NOT NULL CHECK (recorded_at >= 0)
);

CREATE FUNCTION platform_billing_closes_passed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF (SELECT count(*) FROM platform_billing_passes WHERE period = new.period) <> 64
        OR new.period <= (SELECT max(period) FROM platform_billing_closes) THEN
        RAISE EXCEPTION 'a month closes when all shards have passed it, after those before it: platform_billing_closes';
    END IF;
    RETURN new;
END $$;

CREATE TRIGGER platform_billing_closes_passed BEFORE INSERT ON platform_billing_closes
FOR EACH ROW EXECUTE FUNCTION platform_billing_closes_passed();
ALTER TABLE platform_billing_closes ENABLE ALWAYS TRIGGER platform_billing_closes_passed;

CREATE FUNCTION platform_billing_totals_insert() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF new.accounting_period <= (SELECT max(period) FROM platform_billing_closes) THEN
        RAISE EXCEPTION 'the accounting period is closed: platform_billing_totals';
    END IF;
    RETURN new;
END $$;

CREATE TRIGGER platform_billing_totals_insert BEFORE INSERT ON platform_billing_totals
FOR EACH ROW EXECUTE FUNCTION platform_billing_totals_insert();
ALTER TABLE platform_billing_totals ENABLE ALWAYS TRIGGER platform_billing_totals_insert;

CREATE FUNCTION platform_billing_totals_update() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF old.accounting_period <= (SELECT max(period) FROM platform_billing_closes) OR new.readings < old.readings
        OR new.organization <> old.organization OR new.contract <> old.contract OR new.sku <> old.sku
        OR new.service_period <> old.service_period OR new.currency <> old.currency OR new.accounting_period <> old.accounting_period THEN
        RAISE EXCEPTION 'totals of an open month only grow: platform_billing_totals';
    END IF;
    RETURN new;
END $$;

CREATE TRIGGER platform_billing_totals_update BEFORE UPDATE ON platform_billing_totals
FOR EACH ROW EXECUTE FUNCTION platform_billing_totals_update();
ALTER TABLE platform_billing_totals ENABLE ALWAYS TRIGGER platform_billing_totals_update;

CREATE FUNCTION platform_billing_totals_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'totals are never removed: platform_billing_totals';
END $$;

CREATE TRIGGER platform_billing_totals_keep BEFORE DELETE ON platform_billing_totals
FOR EACH ROW EXECUTE FUNCTION platform_billing_totals_keep();
ALTER TABLE platform_billing_totals ENABLE ALWAYS TRIGGER platform_billing_totals_keep;
CREATE TRIGGER platform_billing_totals_keep_all BEFORE TRUNCATE ON platform_billing_totals
FOR EACH STATEMENT EXECUTE FUNCTION platform_billing_totals_keep();
ALTER TABLE platform_billing_totals ENABLE ALWAYS TRIGGER platform_billing_totals_keep_all;

CREATE FUNCTION platform_billing_invoices_open() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM platform_billing_drafts WHERE period >= new.period) THEN
        RAISE EXCEPTION 'the drafts of the month are complete: platform_billing_invoices';
    END IF;
    RETURN new;
END $$;

CREATE TRIGGER platform_billing_invoices_open BEFORE INSERT ON platform_billing_invoices
FOR EACH ROW EXECUTE FUNCTION platform_billing_invoices_open();
ALTER TABLE platform_billing_invoices ENABLE ALWAYS TRIGGER platform_billing_invoices_open;

CREATE FUNCTION platform_billing_drafts_complete() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF new.invoices <> (SELECT count(*) FROM platform_billing_invoices WHERE period = new.period)
        OR new.period <= (SELECT max(period) FROM platform_billing_drafts) THEN
        RAISE EXCEPTION 'drafts are counted, month after month: platform_billing_drafts';
    END IF;
    RETURN new;
END $$;

CREATE TRIGGER platform_billing_drafts_complete BEFORE INSERT ON platform_billing_drafts
FOR EACH ROW EXECUTE FUNCTION platform_billing_drafts_complete();
ALTER TABLE platform_billing_drafts ENABLE ALWAYS TRIGGER platform_billing_drafts_complete;

CREATE FUNCTION platform_billing_issues_check() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    -- one issuer's numbers are given one after the other
    PERFORM pg_advisory_xact_lock(hashtextextended(current_schema() || '.platform_billing_issues', 0));
    IF new.number <> 1 + coalesce((SELECT max(number) FROM platform_billing_issues WHERE issuer = new.issuer), 0) THEN
        RAISE EXCEPTION 'numbers have no gap: platform_billing_issues';
    END IF;
    IF NOT EXISTS (
        SELECT 1 FROM platform_billing_invoices AS invoice JOIN platform_billing_drafts AS drafts ON drafts.period = invoice.period
        WHERE invoice.invoice_id = new.invoice_id
    ) THEN
        RAISE EXCEPTION 'an invoice is issued when the drafts of its month are complete: platform_billing_issues';
    END IF;
    RETURN new;
END $$;

CREATE TRIGGER platform_billing_issues_check BEFORE INSERT ON platform_billing_issues
FOR EACH ROW EXECUTE FUNCTION platform_billing_issues_check();
ALTER TABLE platform_billing_issues ENABLE ALWAYS TRIGGER platform_billing_issues_check;

CREATE FUNCTION platform_billing_opinions_dense() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF new.opinion_no <> 1 + coalesce((SELECT max(opinion_no) FROM platform_billing_opinions), 0) THEN
        RAISE EXCEPTION 'opinions are numbered densely: platform_billing_opinions';
    END IF;
    RETURN new;
END $$;

CREATE TRIGGER platform_billing_opinions_dense BEFORE INSERT ON platform_billing_opinions
FOR EACH ROW EXECUTE FUNCTION platform_billing_opinions_dense();
ALTER TABLE platform_billing_opinions ENABLE ALWAYS TRIGGER platform_billing_opinions_dense;

-- <table>_append_only_{update,delete,truncate} on every table but totals.
DO $$
DECLARE
    owned text;
    change text;
    each text;
BEGIN
    FOREACH owned IN ARRAY ARRAY['passes', 'closes', 'invoices', 'lines', 'drafts', 'issues', 'opinions'] LOOP
        owned := 'platform_billing_' || owned;
        FOREACH change IN ARRAY ARRAY['update', 'delete', 'truncate'] LOOP
            each := CASE change WHEN 'truncate' THEN 'STATEMENT' ELSE 'ROW' END;
            EXECUTE format(
                'CREATE TRIGGER %I BEFORE %s ON %I FOR EACH %s EXECUTE FUNCTION shared_db_append_only()',
                owned || '_append_only_' || change, change, owned, each
            );
            EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER %I', owned, owned || '_append_only_' || change);
        END LOOP;
    END LOOP;
END $$;
