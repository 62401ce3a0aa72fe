-- Splits, dividends and renames of stocks. A row that is withdrawn has no value: its source does not name the action any
-- more, and it must not count. The bounds are those of services/market/actions.py.
CREATE TABLE actions (
    symbol market_symbol NOT NULL,
    ex_day date NOT NULL CHECK (ex_day >= '1800-01-01' AND ex_day < '2100-01-01'),
    kind text NOT NULL CHECK (kind IN ('split', 'dividend', 'rename')),
    ratio double precision,
    amount double precision,
    new_symbol market_symbol,
    withdrawn boolean NOT NULL,
    source market_name NOT NULL,
    asked_at timestamptz CHECK (isfinite(asked_at)),
    digest market_name,
    replay boolean NOT NULL,
    stream_position bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (symbol, ex_day, kind),
    CHECK ((ratio IS NOT NULL) = (kind = 'split' AND NOT withdrawn)),
    CHECK ((amount IS NOT NULL) = (kind = 'dividend' AND NOT withdrawn)),
    CHECK ((new_symbol IS NOT NULL) = (kind = 'rename' AND NOT withdrawn)),
    CHECK (ratio >= 1e-6 AND ratio <= 1e6 AND ratio <> 1),
    CHECK (amount > 0 AND amount <= 1e9),
    CHECK (new_symbol::text <> symbol::text)
);
-- requests for actions are downloads, too; rows.py checks nothing of it, and no row has to be read for it
ALTER TABLE downloads DROP CONSTRAINT downloads_kind_check;
ALTER TABLE downloads ADD CONSTRAINT downloads_kind_check
    CHECK (kind IN ('bars', 'quotes', 'observations', 'actions')) NOT VALID;
