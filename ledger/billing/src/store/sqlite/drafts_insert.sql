INSERT INTO platform_billing_drafts (period, invoices)
SELECT $1, count(*) FROM platform_billing_invoices WHERE period = $1
