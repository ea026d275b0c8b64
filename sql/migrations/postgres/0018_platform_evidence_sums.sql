-- Sums beyond 64 bits: what an organization was charged over years. Owner: platform-evidence.

ALTER TABLE platform_evidence_sums ALTER COLUMN amount TYPE numeric;
ALTER TABLE platform_evidence_sums ADD CHECK (amount = trunc(amount));
