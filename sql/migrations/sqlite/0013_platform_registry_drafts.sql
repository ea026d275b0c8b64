-- Drafts of registry versions, what was said of them, and versions that are given up. Owner: platform-registry. Nothing is ever changed or
-- removed.

-- A version that somebody proposes. documents is a JSON array of digests as in platform_registry_versions; base is the version that was in
-- force then. money: whether it can alter an amount, so that another person must approve it.
CREATE TABLE platform_registry_drafts (
    draft_no INTEGER NOT NULL PRIMARY KEY CHECK (draft_no >= 1),
    version BLOB NOT NULL CHECK (length(version) = 32),
    documents TEXT NOT NULL CHECK (json_array_length(documents) > 0),
    base BLOB REFERENCES platform_registry_versions (address),
    money INTEGER NOT NULL CHECK (money IN (0, 1)),
    note TEXT CHECK (length(note) BETWEEN 1 AND 1000),
    proposed_by TEXT NOT NULL CHECK (length(proposed_by) BETWEEN 1 AND 64),
    recorded_at INTEGER NOT NULL
) STRICT;

-- What was said of a draft, once.
CREATE TABLE platform_registry_reviews (
    draft_no INTEGER NOT NULL PRIMARY KEY REFERENCES platform_registry_drafts (draft_no),
    verdict TEXT NOT NULL CHECK (verdict IN ('approved', 'rejected')),
    reason TEXT NOT NULL CHECK (length(reason) BETWEEN 1 AND 1000),
    reviewed_by TEXT NOT NULL CHECK (length(reviewed_by) BETWEEN 1 AND 64),
    recorded_at INTEGER NOT NULL
) STRICT;

-- The control record by which a draft was put in force.
CREATE TABLE platform_registry_publications (
    draft_no INTEGER NOT NULL PRIMARY KEY REFERENCES platform_registry_reviews (draft_no),
    control_no INTEGER NOT NULL UNIQUE REFERENCES platform_registry_controls (control_no),
    published_by TEXT NOT NULL CHECK (length(published_by) BETWEEN 1 AND 64)
) STRICT;

-- A version that is not put in force again. It stays: what was rated by it was rated by it.
CREATE TABLE platform_registry_retirements (
    version BLOB NOT NULL PRIMARY KEY REFERENCES platform_registry_versions (address),
    reason TEXT NOT NULL CHECK (length(reason) BETWEEN 1 AND 1000),
    retired_by TEXT NOT NULL CHECK (length(retired_by) BETWEEN 1 AND 64),
    recorded_at INTEGER NOT NULL
) STRICT;

CREATE TRIGGER platform_registry_drafts_append_only_update BEFORE UPDATE ON platform_registry_drafts
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_drafts'); END;
CREATE TRIGGER platform_registry_drafts_append_only_delete BEFORE DELETE ON platform_registry_drafts
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_drafts'); END;
CREATE TRIGGER platform_registry_drafts_append_only_replace BEFORE INSERT ON platform_registry_drafts
WHEN EXISTS (SELECT 1 FROM platform_registry_drafts WHERE draft_no = NEW.draft_no)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_drafts'); END;

CREATE TRIGGER platform_registry_reviews_append_only_update BEFORE UPDATE ON platform_registry_reviews
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_reviews'); END;
CREATE TRIGGER platform_registry_reviews_append_only_delete BEFORE DELETE ON platform_registry_reviews
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_reviews'); END;
CREATE TRIGGER platform_registry_reviews_append_only_replace BEFORE INSERT ON platform_registry_reviews
WHEN EXISTS (SELECT 1 FROM platform_registry_reviews WHERE draft_no = NEW.draft_no)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_reviews'); END;

CREATE TRIGGER platform_registry_publications_append_only_update BEFORE UPDATE ON platform_registry_publications
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_publications'); END;
CREATE TRIGGER platform_registry_publications_append_only_delete BEFORE DELETE ON platform_registry_publications
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_publications'); END;
CREATE TRIGGER platform_registry_publications_append_only_replace BEFORE INSERT ON platform_registry_publications
WHEN EXISTS (SELECT 1 FROM platform_registry_publications WHERE draft_no = NEW.draft_no)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_publications'); END;

CREATE TRIGGER platform_registry_retirements_append_only_update BEFORE UPDATE ON platform_registry_retirements
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_retirements'); END;
CREATE TRIGGER platform_registry_retirements_append_only_delete BEFORE DELETE ON platform_registry_retirements
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_retirements'); END;
CREATE TRIGGER platform_registry_retirements_append_only_replace BEFORE INSERT ON platform_registry_retirements
WHEN EXISTS (SELECT 1 FROM platform_registry_retirements WHERE version = NEW.version)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_retirements'); END;

CREATE TRIGGER platform_registry_drafts_dense BEFORE INSERT ON platform_registry_drafts
WHEN NEW.draft_no <> 1 + coalesce((SELECT max(draft_no) FROM platform_registry_drafts), 0)
BEGIN SELECT RAISE(ABORT, 'drafts are numbered densely: platform_registry_drafts'); END;
CREATE TRIGGER platform_registry_drafts_complete BEFORE INSERT ON platform_registry_drafts
WHEN EXISTS (SELECT 1 FROM json_each(NEW.documents) AS item
    WHERE NOT EXISTS (SELECT 1 FROM platform_registry_documents AS document WHERE document.digest = unhex(item.value)))
BEGIN SELECT RAISE(ABORT, 'a draft is made of recorded documents: platform_registry_drafts'); END;

CREATE TRIGGER platform_registry_reviews_four_eyes BEFORE INSERT ON platform_registry_reviews
WHEN NEW.verdict = 'approved' AND EXISTS (SELECT 1 FROM platform_registry_drafts AS draft
    WHERE draft.draft_no = NEW.draft_no AND draft.money = 1 AND draft.proposed_by = NEW.reviewed_by)
BEGIN SELECT RAISE(ABORT, 'whoever proposed it does not approve it: platform_registry_reviews'); END;

CREATE TRIGGER platform_registry_publications_approved BEFORE INSERT ON platform_registry_publications
WHEN NOT EXISTS (SELECT 1
    FROM platform_registry_reviews AS review
        JOIN platform_registry_drafts AS draft ON draft.draft_no = review.draft_no
        JOIN platform_registry_controls AS control ON control.version = draft.version
    WHERE review.draft_no = NEW.draft_no AND review.verdict = 'approved' AND control.control_no = NEW.control_no)
BEGIN SELECT RAISE(ABORT, 'what is published was approved: platform_registry_publications'); END;

CREATE TRIGGER platform_registry_retirements_not_in_force BEFORE INSERT ON platform_registry_retirements
WHEN NEW.version = (SELECT version FROM platform_registry_controls WHERE version IS NOT NULL ORDER BY control_no DESC LIMIT 1)
BEGIN SELECT RAISE(ABORT, 'the version in force is not retired: platform_registry_retirements'); END;
CREATE TRIGGER platform_registry_controls_not_retired BEFORE INSERT ON platform_registry_controls
WHEN EXISTS (SELECT 1 FROM platform_registry_retirements AS retired WHERE retired.version = NEW.version)
BEGIN SELECT RAISE(ABORT, 'a retired version is not put in force: platform_registry_controls'); END;
