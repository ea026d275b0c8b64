SELECT report.source, report.organization
FROM platform_iam_key_sources AS own
JOIN platform_iam_source_reports AS report ON report.source = own.source
WHERE own.key = $1
