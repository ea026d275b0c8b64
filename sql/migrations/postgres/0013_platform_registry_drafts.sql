-- Drafts of registry versions, what was said of them, and versions that are given up. Owner: platform-registry. Nothing is ever changed or
-- removed.

-- A version that somebody proposes. documents is a JSON array of digests as in platform_registry_versions; base is the version that was in
-- force then. money: whether it can alter an amount, so that another person must approve it.
CREATE TABLE platform_registry_drafts (
    draft_no bigint NOT NULL PRIMARY KEY CHECK (draft_no >= 1),
    version bytea NOT NULL CHECK (length(version) = 32),
    documents text NOT NULL CHECK (json_array_length(documents::json) > 0),
    base bytea REFERENCES platform_registry_versions (address),
    money bigint NOT NULL CHECK (money IN (0, 1)),
    note text CHECK (length(note) BETWEEN 1 AND 1000),
    proposed_by text COLLATE "C" NOT NULL CHECK (length(proposed_by) BETWEEN 1 AND 64),
    recorded_at bigint NOT NULL
);

-- What was said of a draft, once.
CREATE TABLE platform_registry_reviews (
    draft_no bigint NOT NULL PRIMARY KEY REFERENCES platform_registry_drafts (draft_no),
    verdict text NOT NULL CHECK (verdict IN ('approved', 'rejected')),
    reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 1000),
    reviewed_by text COLLATE "C" NOT NULL CHECK (length(reviewed_by) BETWEEN 1 AND 64),
    recorded_at bigint NOT NULL
);

-- The control record by which a draft was put in force.
CREATE TABLE platform_registry_publications (
    draft_no bigint NOT NULL PRIMARY KEY REFERENCES platform_registry_reviews (draft_no),
    control_no bigint NOT NULL UNIQUE REFERENCES platform_registry_controls (control_no),
    published_by text COLLATE "C" NOT NULL CHECK (length(published_by) BETWEEN 1 AND 64)
);

-- A version that is not put in force again. It stays: what was rated by it was rated by it.
CREATE TABLE platform_registry_retirements (
    version bytea NOT NULL PRIMARY KEY REFERENCES platform_registry_versions (address),
    reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 1000),
    retired_by text COLLATE "C" NOT NULL CHECK (length(retired_by) BETWEEN 1 AND 64),
    recorded_at bigint NOT NULL
);

CREATE FUNCTION platform_registry_drafts_whole() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF new.draft_no <> 1 + coalesce((SELECT max(draft_no) FROM platform_registry_drafts), 0) THEN
        RAISE EXCEPTION 'drafts are numbered densely: platform_registry_drafts';
    END IF;
    IF EXISTS (SELECT 1 FROM json_array_elements_text(new.documents::json) AS item (digest)
        WHERE NOT EXISTS (SELECT 1 FROM platform_registry_documents AS document WHERE document.digest = decode(item.digest, 'hex'))) THEN
        RAISE EXCEPTION 'a draft is made of recorded documents: platform_registry_drafts';
    END IF;
    RETURN new;
END $$;

CREATE TRIGGER platform_registry_drafts_whole BEFORE INSERT ON platform_registry_drafts
FOR EACH ROW EXECUTE FUNCTION platform_registry_drafts_whole();
ALTER TABLE platform_registry_drafts ENABLE ALWAYS TRIGGER platform_registry_drafts_whole;

CREATE FUNCTION platform_registry_reviews_four_eyes() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF new.verdict = 'approved' AND EXISTS (SELECT 1 FROM platform_registry_drafts AS draft
        WHERE draft.draft_no = new.draft_no AND draft.money = 1 AND draft.proposed_by = new.reviewed_by) THEN
        RAISE EXCEPTION 'whoever proposed it does not approve it: platform_registry_reviews';
    END IF;
    RETURN new;
END $$;

CREATE TRIGGER platform_registry_reviews_four_eyes BEFORE INSERT ON platform_registry_reviews
FOR EACH ROW EXECUTE FUNCTION platform_registry_reviews_four_eyes();
ALTER TABLE platform_registry_reviews ENABLE ALWAYS TRIGGER platform_registry_reviews_four_eyes;

CREATE FUNCTION platform_registry_publications_approved() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT EXISTS (SELECT 1
        FROM platform_registry_reviews AS review
            JOIN platform_registry_drafts AS draft ON draft.draft_no = review.draft_no
            JOIN platform_registry_controls AS control ON control.version = draft.version
        WHERE review.draft_no = new.draft_no AND review.verdict = 'approved' AND control.control_no = new.control_no) THEN
        RAISE EXCEPTION 'what is published was approved: platform_registry_publications';
    END IF;
    RETURN new;
END $$;

CREATE TRIGGER platform_registry_publications_approved BEFORE INSERT ON platform_registry_publications
FOR EACH ROW EXECUTE FUNCTION platform_registry_publications_approved();
ALTER TABLE platform_registry_publications ENABLE ALWAYS TRIGGER platform_registry_publications_approved;

CREATE FUNCTION platform_registry_retirements_not_in_force() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF new.version = (SELECT version FROM platform_registry_controls WHERE version IS NOT NULL ORDER BY control_no DESC LIMIT 1) THEN
        RAISE EXCEPTION 'the version in force is not retired: platform_registry_retirements';
    END IF;
    RETURN new;
END $$;

CREATE TRIGGER platform_registry_retirements_not_in_force BEFORE INSERT ON platform_registry_retirements
FOR EACH ROW EXECUTE FUNCTION platform_registry_retirements_not_in_force();
ALTER TABLE platform_registry_retirements ENABLE ALWAYS TRIGGER platform_registry_retirements_not_in_force;

CREATE FUNCTION platform_registry_controls_not_retired() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM platform_registry_retirements AS retired WHERE retired.version = new.version) THEN
        RAISE EXCEPTION 'a retired version is not put in force: platform_registry_controls';
    END IF;
    RETURN new;
END $$;

CREATE TRIGGER platform_registry_controls_not_retired BEFORE INSERT ON platform_registry_controls
FOR EACH ROW EXECUTE FUNCTION platform_registry_controls_not_retired();
ALTER TABLE platform_registry_controls ENABLE ALWAYS TRIGGER platform_registry_controls_not_retired;

CREATE TRIGGER platform_registry_drafts_append_only_update BEFORE UPDATE ON platform_registry_drafts
FOR EACH ROW EXECUTE FUNCTION shared_db_append_only();
CREATE TRIGGER platform_registry_drafts_append_only_delete BEFORE DELETE ON platform_registry_drafts
FOR EACH ROW EXECUTE FUNCTION shared_db_append_only();
CREATE TRIGGER platform_registry_drafts_append_only_truncate BEFORE TRUNCATE ON platform_registry_drafts
FOR EACH STATEMENT EXECUTE FUNCTION shared_db_append_only();
ALTER TABLE platform_registry_drafts ENABLE ALWAYS TRIGGER platform_registry_drafts_append_only_update;
ALTER TABLE platform_registry_drafts ENABLE ALWAYS TRIGGER platform_registry_drafts_append_only_delete;
ALTER TABLE platform_registry_drafts ENABLE ALWAYS TRIGGER platform_registry_drafts_append_only_truncate;

CREATE TRIGGER platform_registry_reviews_append_only_update BEFORE UPDATE ON platform_registry_reviews
FOR EACH ROW EXECUTE FUNCTION shared_db_append_only();
CREATE TRIGGER platform_registry_reviews_append_only_delete BEFORE DELETE ON platform_registry_reviews
FOR EACH ROW EXECUTE FUNCTION shared_db_append_only();
CREATE TRIGGER platform_registry_reviews_append_only_truncate BEFORE TRUNCATE ON platform_registry_reviews
FOR EACH STATEMENT EXECUTE FUNCTION shared_db_append_only();
ALTER TABLE platform_registry_reviews ENABLE ALWAYS TRIGGER platform_registry_reviews_append_only_update;
ALTER TABLE platform_registry_reviews ENABLE ALWAYS TRIGGER platform_registry_reviews_append_only_delete;
ALTER TABLE platform_registry_reviews ENABLE ALWAYS TRIGGER platform_registry_reviews_append_only_truncate;

CREATE TRIGGER platform_registry_publications_append_only_update BEFORE UPDATE ON platform_registry_publications
FOR EACH ROW EXECUTE FUNCTION shared_db_append_only();
CREATE TRIGGER platform_registry_publications_append_only_delete BEFORE DELETE ON platform_registry_publications
FOR EACH ROW EXECUTE FUNCTION shared_db_append_only();
CREATE TRIGGER platform_registry_publications_append_only_truncate BEFORE TRUNCATE ON platform_registry_publications
FOR EACH STATEMENT EXECUTE FUNCTION shared_db_append_only();
ALTER TABLE platform_registry_publications ENABLE ALWAYS TRIGGER platform_registry_publications_append_only_update;
ALTER TABLE platform_registry_publications ENABLE ALWAYS TRIGGER platform_registry_publications_append_only_delete;
ALTER TABLE platform_registry_publications ENABLE ALWAYS TRIGGER platform_registry_publications_append_only_truncate;

CREATE TRIGGER platform_registry_retirements_append_only_update BEFORE UPDATE ON platform_registry_retirements
FOR EACH ROW EXECUTE FUNCTION shared_db_append_only();
CREATE TRIGGER platform_registry_retirements_append_only_delete BEFORE DELETE ON platform_registry_retirements
FOR EACH ROW EXECUTE FUNCTION shared_db_append_only();
CREATE TRIGGER platform_registry_retirements_append_only_truncate BEFORE TRUNCATE ON platform_registry_retirements
FOR EACH STATEMENT EXECUTE FUNCTION shared_db_append_only();
ALTER TABLE platform_registry_retirements ENABLE ALWAYS TRIGGER platform_registry_retirements_append_only_update;
ALTER TABLE platform_registry_retirements ENABLE ALWAYS TRIGGER platform_registry_retirements_append_only_delete;
ALTER TABLE platform_registry_retirements ENABLE ALWAYS TRIGGER platform_registry_retirements_append_only_truncate;
