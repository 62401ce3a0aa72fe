-- How the daily returns of two symbols move together, over the 60 days up to `day` that both have.

CREATE TABLE correlations (
    day date NOT NULL,
    a market_symbol NOT NULL,
    b market_symbol NOT NULL,
    value double precision NOT NULL CHECK (value >= -1 AND value <= 1),
    n integer NOT NULL CHECK (n >= 2),
    PRIMARY KEY (day, a, b),
    -- by bytes, whatever the collation of the database
    CHECK (a COLLATE "C" < b COLLATE "C")
);

-- the daily bars of all symbols are few among the minutes, and are read together
CREATE INDEX bars_daily ON bars (start, symbol) WHERE timeframe = '1d';
