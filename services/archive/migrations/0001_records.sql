-- What the market said: bars, quotes, observations, and what is computed from bars.
-- A row that a check refuses is a fault of its writer: the archive checks each entry before, in rows.py.

CREATE DOMAIN market_symbol AS text
    CHECK (VALUE ~ '^[A-Za-z0-9^][A-Za-z0-9.:/_^=-]{0,39}$');
CREATE DOMAIN market_timeframe AS text
    CHECK (VALUE IN ('1m', '5m', '15m', '30m', '1h', '4h', '1d', '1w', '1mo'));
-- the bounds of marketswarm.market.entries: the years 1800 to 2100; they exclude infinity
CREATE DOMAIN market_time AS timestamptz
    CHECK (VALUE >= '1800-01-01 00:00:00+00' AND VALUE <= '2100-01-01 00:00:00+00');
-- NaN is greater than every number, so these exclude it
CREATE DOMAIN market_number AS double precision
    CHECK (VALUE >= -1e18 AND VALUE <= 1e18);
CREATE DOMAIN market_price AS double precision
    CHECK (VALUE > 0 AND VALUE <= 1e18);
CREATE DOMAIN market_amount AS double precision
    CHECK (VALUE >= 0 AND VALUE <= 1e18);
CREATE DOMAIN market_name AS text
    CHECK (length(VALUE) BETWEEN 1 AND 128);

-- With TimescaleDB the three long tables are hypertables, else partitioned by range; partitions.py makes the
-- partitions. Neither takes the other's form later.
DO $$
DECLARE
    is_timescale CONSTANT boolean := EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb');
    by_start CONSTANT text := CASE WHEN is_timescale THEN '' ELSE 'PARTITION BY RANGE (start)' END;
    by_at CONSTANT text := CASE WHEN is_timescale THEN '' ELSE 'PARTITION BY RANGE (at)' END;
    long_table name;
    time_column name;
BEGIN
    EXECUTE $sql$
        CREATE TABLE bars (
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
            source market_name NOT NULL,
            asked_at timestamptz CHECK (isfinite(asked_at)),
            digest market_name,
            replay boolean NOT NULL,
            -- of two rows the higher epoch stays; of one epoch the higher rev, then final, then the later in the stream
            epoch bigint NOT NULL DEFAULT 0,
            place bigint NOT NULL DEFAULT 0,
            PRIMARY KEY (symbol, timeframe, start),
            CHECK (low <= least(open, close) AND high >= greatest(open, close))
        )
    $sql$ || by_start;
    EXECUTE $sql$
        CREATE TABLE quotes (
            symbol market_symbol NOT NULL,
            at market_time NOT NULL,
            price market_number NOT NULL,
            bid market_number,
            ask market_number,
            volume market_amount,
            open_interest market_amount,
            implied_volatility market_amount,
            source market_name NOT NULL,
            asked_at timestamptz CHECK (isfinite(asked_at)),
            digest market_name,
            replay boolean NOT NULL,
            PRIMARY KEY (symbol, at, source)
        )
    $sql$ || by_at;
    EXECUTE $sql$
        CREATE TABLE indicators (
            symbol market_symbol NOT NULL,
            timeframe market_timeframe NOT NULL,
            start market_time NOT NULL,
            rev integer NOT NULL CHECK (rev >= 0),
            final boolean NOT NULL,
            "values" jsonb NOT NULL CHECK (jsonb_typeof("values") = 'object'),
            epoch bigint NOT NULL DEFAULT 0,
            place bigint NOT NULL DEFAULT 0,
            PRIMARY KEY (symbol, timeframe, start)
        )
    $sql$ || by_start;
    IF is_timescale THEN
        FOR long_table, time_column IN VALUES ('bars', 'start'), ('quotes', 'at'), ('indicators', 'start') LOOP
            -- a hypertable can't be divided by a domain: the table checks what the domain would
            EXECUTE format(
                'ALTER TABLE %I ALTER %I TYPE timestamptz, ADD CHECK (%2$I::market_time IS NOT NULL)',
                long_table, time_column
            );
            PERFORM create_hypertable(
                long_table::regclass, time_column,
                chunk_time_interval => interval '30 days', create_default_indexes => false
            );
        END LOOP;
    END IF;
END
$$;

-- rows come about in the order of their times: a range of a block says enough to leave it out
CREATE INDEX bars_by_start ON bars USING brin (start) WITH (autosummarize = on);
CREATE INDEX quotes_by_at ON quotes USING brin (at) WITH (autosummarize = on);
CREATE INDEX indicators_by_start ON indicators USING brin (start) WITH (autosummarize = on);

CREATE TABLE observations (
    symbol market_symbol NOT NULL,
    start market_time NOT NULL,
    value market_number NOT NULL,
    source market_name NOT NULL,
    asked_at timestamptz CHECK (isfinite(asked_at)),
    digest market_name,
    replay boolean NOT NULL,
    PRIMARY KEY (symbol, start)
);

CREATE TABLE features (
    symbol market_symbol NOT NULL,
    start market_time NOT NULL,
    rev integer NOT NULL CHECK (rev >= 0),
    "values" jsonb NOT NULL CHECK (jsonb_typeof("values") = 'object'),
    epoch bigint NOT NULL DEFAULT 0,
    place bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (symbol, start)
);
