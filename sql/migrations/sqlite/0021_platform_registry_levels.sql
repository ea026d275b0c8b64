-- Levels that are carried into the next service period. Owner: platform-registry.

-- The changes of levels by month: a fold of the batch log. Sums are exact integers of 10^-9 as text; NULL where one leaves 128 bits.
CREATE TABLE platform_registry_level_sums (
    organization TEXT NOT NULL,
    project TEXT NOT NULL,
    meter TEXT NOT NULL,
    dimensions TEXT NOT NULL,
    month INTEGER NOT NULL CHECK (month BETWEEN 197001 AND 999912),
    quantity TEXT,
    PRIMARY KEY (organization, project, meter, dimensions, month)
) STRICT, WITHOUT ROWID;

-- What was stated of a level for a service period by a tick, and the event that states it. Nothing is ever changed or removed.
CREATE TABLE platform_registry_levels (
    level_no INTEGER NOT NULL PRIMARY KEY CHECK (level_no >= 1),
    control_no INTEGER NOT NULL REFERENCES platform_registry_controls (control_no),
    organization TEXT NOT NULL,
    project TEXT NOT NULL,
    meter TEXT NOT NULL,
    dimensions TEXT NOT NULL,
    period INTEGER NOT NULL CHECK (period BETWEEN 197001 AND 999912),
    quantity TEXT NOT NULL,
    event TEXT NOT NULL
) STRICT;

CREATE INDEX platform_registry_levels_by_control ON platform_registry_levels (control_no);

CREATE TRIGGER platform_registry_levels_append_only_update BEFORE UPDATE ON platform_registry_levels
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_levels'); END;
CREATE TRIGGER platform_registry_levels_append_only_delete BEFORE DELETE ON platform_registry_levels
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_levels'); END;
CREATE TRIGGER platform_registry_levels_append_only_replace BEFORE INSERT ON platform_registry_levels
WHEN EXISTS (SELECT 1 FROM platform_registry_levels WHERE level_no = NEW.level_no)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_levels'); END;

-- Up to which batch the changes were summed when a tick stated levels.
CREATE TABLE platform_registry_level_ticks (
    control_no INTEGER NOT NULL PRIMARY KEY REFERENCES platform_registry_controls (control_no),
    batch_no INTEGER NOT NULL CHECK (batch_no >= 0)
) STRICT;

CREATE TRIGGER platform_registry_level_ticks_append_only_update BEFORE UPDATE ON platform_registry_level_ticks
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_level_ticks'); END;
CREATE TRIGGER platform_registry_level_ticks_append_only_delete BEFORE DELETE ON platform_registry_level_ticks
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_level_ticks'); END;
CREATE TRIGGER platform_registry_level_ticks_append_only_replace BEFORE INSERT ON platform_registry_level_ticks
WHEN EXISTS (SELECT 1 FROM platform_registry_level_ticks WHERE control_no = NEW.control_no)
BEGIN SELECT RAISE(ABORT, 'append-only: platform_registry_level_ticks'); END;
