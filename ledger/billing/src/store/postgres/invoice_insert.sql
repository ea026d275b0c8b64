INSERT INTO platform_billing_invoices (invoice_id, period, organization, currency, total, content, digest, total_high)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
