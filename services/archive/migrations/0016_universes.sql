-- Which symbols the truth had, and when: a row for each span of time in which it named a symbol, with its class and group.
-- Nothing is known of the time before the first row.
CREATE TABLE universes (
    symbol market_symbol NOT NULL,
    -- when archive saw it in the truth, and when it saw that it is gone, or has another class or group
    known_at timestamptz NOT NULL CHECK (isfinite(known_at)),
    gone_at timestamptz CHECK (isfinite(gone_at) AND gone_at > known_at),
    asset text NOT NULL CHECK (length(asset) BETWEEN 1 AND 60),
    label text NOT NULL CHECK (length(label) BETWEEN 1 AND 200),
    is_series boolean NOT NULL,
    PRIMARY KEY (symbol, known_at)
);

-- Since when all closes were known of which a correlation is made. NULL in rows from before: they count as known at the
-- end of their day.
ALTER TABLE correlations ADD COLUMN known_at timestamptz CHECK (isfinite(known_at));
