INSERT INTO platform_evidence_logs (organization, month, size, frontier) VALUES ($1, $2, $3, $4)
ON CONFLICT (organization, month) DO UPDATE SET size = excluded.size, frontier = excluded.frontier
