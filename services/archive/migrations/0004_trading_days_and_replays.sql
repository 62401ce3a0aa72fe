-- The trading day of a daily row, a mark on every row that was played from a recording, and the position of a row's
-- entry in its stream under a name that says so.

-- Retention asks whether a partition has rows of a recording, and the updates below look for such bars: without
-- recordings these indexes are empty. First, since to make one keeps nobody from reading: the rest of the migration
-- keeps all readers from the tables that it changes.
CREATE INDEX bars_replayed ON bars (start) WHERE replay;
CREATE INDEX quotes_replayed ON quotes (at) WHERE replay;
-- A database that was just restored has no statistics: the planner would take half of all bars for replayed, and read
-- every indicator for them.
ANALYZE bars (replay);

ALTER TABLE bars RENAME COLUMN place TO stream_position;
ALTER TABLE indicators RENAME COLUMN place TO stream_position;
ALTER TABLE features RENAME COLUMN place TO stream_position;
-- of two answers of the same time the later entry stays
ALTER TABLE quotes ADD COLUMN stream_position bigint NOT NULL DEFAULT 0;
ALTER TABLE observations ADD COLUMN stream_position bigint NOT NULL DEFAULT 0;

-- A forex day begins on the evening before in UTC, so the day does not follow from `start`. NULL where its writer did
-- not say it. It may differ from the date of the start by the days of a long weekend.
ALTER TABLE bars ADD COLUMN day date,
    ADD CHECK (day IS NULL OR timeframe = '1d' AND abs(day - (start AT TIME ZONE 'UTC')::date) <= 3);
ALTER TABLE features ADD COLUMN day date,
    ADD CHECK (day IS NULL OR abs(day - (start AT TIME ZONE 'UTC')::date) <= 3);

-- Rows from before are marked if the bars that they were computed from are.
ALTER TABLE indicators ADD COLUMN replay boolean NOT NULL DEFAULT false;
ALTER TABLE features ADD COLUMN replay boolean NOT NULL DEFAULT false;
ALTER TABLE correlations ADD COLUMN replay boolean NOT NULL DEFAULT false;
UPDATE indicators SET replay = true FROM bars
    WHERE bars.replay AND bars.symbol = indicators.symbol
        AND bars.timeframe = indicators.timeframe AND bars.start = indicators.start;
UPDATE features SET replay = true FROM bars
    WHERE bars.replay AND bars.timeframe = '1d' AND bars.symbol = features.symbol AND bars.start = features.start;
-- a correlation of 60 days lies within the 130 days after its first bar
UPDATE correlations SET replay = true FROM (
    SELECT symbol, min(start)::date AS first, max(start)::date + 130 AS last
    FROM bars WHERE replay AND timeframe = '1d' GROUP BY symbol
) played WHERE played.symbol IN (a, b) AND day BETWEEN played.first AND played.last;

CREATE INDEX indicators_replayed ON indicators (start) WHERE replay;
