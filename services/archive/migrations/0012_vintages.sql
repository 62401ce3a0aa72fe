-- When each record was known. An economic value is revised for years: every value that a series ever had for a period
-- is kept, each since when it was known, and `observations` has the newest one of each period.

CREATE TABLE observation_vintages (
    symbol market_symbol NOT NULL,
    start market_time NOT NULL,
    known_at market_time NOT NULL,
    value market_number NOT NULL,
    source market_name NOT NULL,
    asked_at timestamptz CHECK (isfinite(asked_at)),
    digest market_name,
    replay boolean NOT NULL,
    stream_position bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (symbol, start, known_at)
);

-- What is stored already was known when its source was asked, or now: earlier is not proven.
ALTER TABLE observations ADD COLUMN known_at market_time NOT NULL DEFAULT now();
UPDATE observations SET known_at = asked_at WHERE asked_at < known_at;
INSERT INTO observation_vintages (symbol, start, known_at, value, source, asked_at, digest, replay, stream_position)
    SELECT symbol, start, known_at, value, source, asked_at, digest, replay, stream_position FROM observations;

-- NULL in rows from before: they count as known when their interval ended at the latest. No domain, which would have
-- every row written again.
ALTER TABLE bars ADD COLUMN known_at timestamptz;
ALTER TABLE indicators ADD COLUMN known_at timestamptz;
ALTER TABLE features ADD COLUMN known_at timestamptz;
