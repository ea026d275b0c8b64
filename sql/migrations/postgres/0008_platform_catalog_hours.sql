-- Usage by hour: a fold of the batch log. Quantities and amounts are exact integers of 10^-9 as text: 128 bits. Owner: platform-catalog.

CREATE TABLE platform_catalog_hours (
    organization text NOT NULL,
    project text NOT NULL,
    meter text NOT NULL,
    unit text NOT NULL,
    currency text NOT NULL,
    hour bigint NOT NULL CHECK (hour % 3600000000 = 0),
    quantity text NOT NULL,
    amount text NOT NULL,
    readings bigint NOT NULL CHECK (readings > 0),
    PRIMARY KEY (organization, hour, meter, unit, currency, project)
);
