INSERT INTO platform_billing_opinions (opinion_no, period, agrees, report, recorded_at)
SELECT coalesce(max(opinion_no), 0) + 1, $1, $2, $3, $4 FROM platform_billing_opinions
