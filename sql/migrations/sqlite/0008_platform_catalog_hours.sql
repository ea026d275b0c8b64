-- Usage by hour: a fold of the batch log. Quantities and amounts are exact integers of 10^-9 as text: 128 bits. Owner: platform-catalog.

CREATE TABLE platform_catalog_hours (
    organization TEXT NOT NULL,
    project TEXT NOT NULL,
    meter TEXT NOT NULL,
    unit TEXT NOT NULL,
    currency TEXT NOT NULL,
    hour INTEGER NOT NULL CHECK (hour % 3600000000 = 0),
    quantity TEXT NOT NULL,
    amount TEXT NOT NULL,
    readings INTEGER NOT NULL CHECK (readings > 0),
    PRIMARY KEY (organization, hour, meter, unit, currency, project)
) STRICT, WITHOUT ROWID;
