-- Sums beyond 64 bits: what an organization was charged over years. Owner: platform-evidence.
--
-- SQLite alters no column: the table is made anew with its rows and its trigger.

ALTER TABLE platform_evidence_sums RENAME TO platform_evidence_sums_before;
DROP TRIGGER platform_evidence_sums_kept;

-- Sum of all charges per organization and currency, in units of 10^-9, an integer as text.
CREATE TABLE platform_evidence_sums (
    organization TEXT NOT NULL REFERENCES platform_evidence_organizations (organization),
    currency TEXT NOT NULL,
    amount TEXT NOT NULL,
    PRIMARY KEY (organization, currency)
) STRICT, WITHOUT ROWID;

INSERT INTO platform_evidence_sums SELECT organization, currency, amount FROM platform_evidence_sums_before;
DROP TABLE platform_evidence_sums_before;

CREATE TRIGGER platform_evidence_sums_kept BEFORE DELETE ON platform_evidence_sums
BEGIN SELECT RAISE(ABORT, 'a sum is never deleted'); END;
