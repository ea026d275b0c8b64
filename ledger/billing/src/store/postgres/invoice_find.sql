SELECT invoice.invoice_id, invoice.content, invoice.digest, issue.issuer, issue.number, issue.entry_no, issue.issued_at,
    invoice.period, invoice.organization, invoice.currency, invoice.total, invoice.total_high
FROM platform_billing_invoices AS invoice LEFT JOIN platform_billing_issues AS issue ON issue.invoice_id = invoice.invoice_id
WHERE invoice.invoice_id = $1
