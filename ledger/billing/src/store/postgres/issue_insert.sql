INSERT INTO platform_billing_issues (issuer, number, invoice_id, entry_no, issued_at) VALUES ($1, $2, $3, $4::bigint, $5)
