-- Where the records come from: symbols, sources with their health, each request, and the alert log.

CREATE TABLE symbols (
    symbol market_symbol PRIMARY KEY,
    asset text NOT NULL CHECK (
        asset IN ('stocks', 'forex', 'crypto', 'economic', 'commodities', 'options', 'volatility')
    ),
    -- the times of its oldest and its newest record
    first_seen market_time NOT NULL,
    last_seen market_time NOT NULL CHECK (last_seen >= first_seen),
    -- whether every record of it was played from a recording
    replay boolean NOT NULL
);

CREATE TABLE sources (
    source market_name PRIMARY KEY,
    state jsonb NOT NULL CHECK (jsonb_typeof(state) = 'object'),
    updated timestamptz NOT NULL CHECK (isfinite(updated))
);

CREATE TABLE source_health (
    source market_name NOT NULL,
    at timestamptz NOT NULL CHECK (isfinite(at)),
    state text NOT NULL CHECK (length(state) BETWEEN 1 AND 64),
    reason text NOT NULL CHECK (length(reason) <= 500),
    PRIMARY KEY (source, at)
);

CREATE TABLE downloads (
    id text PRIMARY KEY CHECK (id ~ '^[0-9]{1,20}-[0-9]{1,20}$'),
    source market_name NOT NULL,
    series text CHECK (length(series) <= 200),
    symbol text CHECK (length(symbol) <= 40),
    kind text CHECK (kind IN ('bars', 'quotes', 'observations')),
    timeframe market_timeframe,
    asked_at timestamptz NOT NULL CHECK (isfinite(asked_at)),
    took_ms integer CHECK (took_ms >= 0),
    url text CHECK (length(url) <= 2000),
    status integer CHECK (status BETWEEN 0 AND 999),
    outcome text NOT NULL CHECK (length(outcome) BETWEEN 1 AND 64),
    reason text CHECK (length(reason) <= 500),
    digest market_name,
    bytes bigint CHECK (bytes >= 0),
    records integer CHECK (records >= 0)
);
CREATE INDEX downloads_by_asked_at ON downloads (asked_at);
CREATE INDEX downloads_by_source ON downloads (source, asked_at);

CREATE TABLE alerts (
    id text PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 300),
    at timestamptz NOT NULL CHECK (isfinite(at)),
    type text NOT NULL CHECK (length(type) BETWEEN 1 AND 64),
    svc text NOT NULL CHECK (length(svc) BETWEEN 1 AND 200),
    event jsonb NOT NULL CHECK (jsonb_typeof(event) = 'object')
);
CREATE INDEX alerts_by_at ON alerts (at);
