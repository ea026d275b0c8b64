-- Levels that are carried into the next service period. Owner: platform-registry.

-- The changes of levels by month: a fold of the batch log. Sums are exact integers of 10^-9 as text; NULL where one leaves 128 bits.
CREATE TABLE platform_registry_level_sums (
    organization text NOT NULL,
    project text NOT NULL,
    meter text NOT NULL,
    dimensions text NOT NULL,
    month integer NOT NULL CHECK (month BETWEEN 197001 AND 999912),
    quantity text,
    PRIMARY KEY (organization, project, meter, dimensions, month)
);

-- What was stated of a level for a service period by a tick, and the event that states it. Nothing is ever changed or removed.
CREATE TABLE platform_registry_levels (
    level_no bigint NOT NULL PRIMARY KEY CHECK (level_no >= 1),
    control_no bigint NOT NULL REFERENCES platform_registry_controls (control_no),
    organization text NOT NULL,
    project text NOT NULL,
    meter text NOT NULL,
    dimensions text NOT NULL,
    period integer NOT NULL CHECK (period BETWEEN 197001 AND 999912),
    quantity text NOT NULL,
    event text NOT NULL
);

CREATE INDEX platform_registry_levels_by_control ON platform_registry_levels (control_no);

-- Up to which batch the changes were summed when a tick stated levels.
CREATE TABLE platform_registry_level_ticks (
    control_no bigint NOT NULL PRIMARY KEY REFERENCES platform_registry_controls (control_no),
    batch_no bigint NOT NULL CHECK (batch_no >= 0)
);

DO $$
DECLARE
    kept text;
    change text;
    each text;
BEGIN
    FOREACH kept IN ARRAY ARRAY['platform_registry_levels', 'platform_registry_level_ticks'] LOOP
        FOREACH change IN ARRAY ARRAY['update', 'delete', 'truncate'] LOOP
            each := CASE change WHEN 'truncate' THEN 'STATEMENT' ELSE 'ROW' END;
            EXECUTE format(
                'CREATE TRIGGER %I BEFORE %s ON %I FOR EACH %s EXECUTE FUNCTION shared_db_append_only()',
                kept || '_append_only_' || change, change, kept, each
            );
            EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER %I', kept, kept || '_append_only_' || change);
        END LOOP;
    END LOOP;
END $$;
