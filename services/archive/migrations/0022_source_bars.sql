-- The bars of a symbol that are loaded from one source for itself, as voters of signals that are held to it see them.
-- The columns, checks and bounds are those of `bars`; the key has the source, since a symbol may have several.
CREATE TABLE source_bars (
    symbol market_symbol NOT NULL,
    timeframe market_timeframe NOT NULL,
    start market_time NOT NULL,
    open market_price NOT NULL,
    high market_price NOT NULL,
    low market_price NOT NULL,
    close market_price NOT NULL,
    volume market_amount,
    vwap market_price,
    trades bigint CHECK (trades >= 0),
    final boolean NOT NULL,
    rev integer NOT NULL CHECK (rev >= 0),
    epoch bigint NOT NULL DEFAULT 0,
    source market_name NOT NULL,
    asked_at timestamptz CHECK (isfinite(asked_at)),
    digest market_name,
    replay boolean NOT NULL,
    day date,
    minutes integer,
    missing integer,
    known_at timestamptz,
    adjustment text NOT NULL DEFAULT 'raw',
    adjusted_to date,
    volume_kind text CHECK (volume_kind IN ('venue', 'consolidated', 'none')),
    stream_position bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (symbol, timeframe, start, source),
    CHECK (low <= least(open, close) AND high >= greatest(open, close)),
    CHECK (adjustment IN ('raw', 'splits', 'all') AND (adjustment = 'raw') = (adjusted_to IS NULL))
);
CREATE INDEX source_bars_by_start ON source_bars USING brin (start) WITH (autosummarize = on);
