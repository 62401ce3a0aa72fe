-- How the source of a bar had adjusted it: for the splits (and dividends) with an ex-day after the bar's own day, up to
-- `adjusted_to`. Rows from before count as raw: which of them were not, nobody wrote down.
ALTER TABLE bars ADD COLUMN adjustment text NOT NULL DEFAULT 'raw', ADD COLUMN adjusted_to date;
-- not valid: rows.py checks each entry, and no row has to be read for it
ALTER TABLE bars ADD CONSTRAINT bars_adjustment CHECK (
    adjustment IN ('raw', 'splits', 'all') AND (adjustment = 'raw') = (adjusted_to IS NULL)
) NOT VALID;
