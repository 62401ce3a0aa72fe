-- Whose trades the volume of a bar counts; NULL where that is unknown, as in rows from before. rows.py checks it: not
-- valid, so that no row has to be read for it.
ALTER TABLE bars ADD COLUMN volume_kind text;
ALTER TABLE bars ADD CONSTRAINT bars_volume_kind
    CHECK (volume_kind IN ('venue', 'consolidated', 'none')) NOT VALID;

-- A week has the date of its Monday, a month that of its 1st, whenever its first trading day is. The check of migration 4
-- took dates of days alone; what it took before is right by this one, too.
ALTER TABLE bars DROP CONSTRAINT bars_check1;
ALTER TABLE bars ADD CONSTRAINT bars_day CHECK (
    day IS NULL
    OR timeframe = '1d' AND abs(day - (start AT TIME ZONE 'UTC')::date) <= 3
    OR timeframe = '1w' AND extract(isodow FROM day) = 1
        AND (start AT TIME ZONE 'UTC')::date - day BETWEEN -3 AND 6
    OR timeframe = '1mo' AND extract(day FROM day) = 1
        AND (start AT TIME ZONE 'UTC')::date - day BETWEEN -3 AND 30
) NOT VALID;

-- Weeks and months from before. By the key of each symbol, since most bars are minutes; 3 hours after its start every
-- trading day is on its date.
UPDATE bars SET day = date_trunc(
        CASE timeframe WHEN '1w' THEN 'week' ELSE 'month' END, (start + interval '3 hours') AT TIME ZONE 'UTC'
    )::date
    FROM symbols WHERE bars.symbol = symbols.symbol AND timeframe IN ('1w', '1mo') AND day IS NULL;
