SELECT invoice.invoice_id FROM platform_billing_invoices AS invoice
WHERE invoice.period = $1 AND NOT EXISTS (SELECT 1 FROM platform_billing_issues AS issue WHERE issue.invoice_id = invoice.invoice_id)
ORDER BY invoice.organization COLLATE "C", invoice.currency COLLATE "C" LIMIT $2
