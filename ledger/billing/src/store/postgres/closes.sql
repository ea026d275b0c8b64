SELECT period, registry_version, last_batch,
    (SELECT max(period) FROM platform_billing_closes AS earlier WHERE earlier.period < closed.period),
    (SELECT invoices FROM platform_billing_drafts AS drafts WHERE drafts.period = closed.period),
    (SELECT count(*) FROM platform_billing_issues AS issue JOIN platform_billing_invoices AS invoice ON invoice.invoice_id = issue.invoice_id
        WHERE invoice.period = closed.period),
    (SELECT agrees FROM platform_billing_opinions AS opinion WHERE opinion.period = closed.period ORDER BY opinion_no DESC LIMIT 1)
FROM platform_billing_closes AS closed ORDER BY period
