-- A mark on every request that a recording answered, and on the features that were written without theirs.

-- `bars` did not say of its features that they were computed from replayed bars: as in migration 4, those are marked
-- whose own day was played. First, since it keeps nobody from reading.
UPDATE features SET replay = true FROM bars
    WHERE NOT features.replay AND bars.replay AND bars.timeframe = '1d'
        AND bars.symbol = features.symbol AND bars.start = features.start;

-- The default rewrites no row. From here to the end of the migration `downloads` can't be read: for one pass over it.
ALTER TABLE downloads ADD COLUMN replay boolean NOT NULL DEFAULT false;
UPDATE downloads SET replay = true WHERE url LIKE 'replay://%';
