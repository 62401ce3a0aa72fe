-- Of how many minutes a bar was built, and how many minutes of its interval have none. NULL where a source gave the whole
-- bar, and in bars from before. rows.py checks them: a check here would read all bars.
ALTER TABLE bars ADD COLUMN minutes integer, ADD COLUMN missing integer;
