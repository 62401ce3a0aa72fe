-- Of which daily bars the correlations of a day were made: late history makes those of older days anew.

CREATE TABLE correlated_days (
    day date PRIMARY KEY,
    made_of text NOT NULL CHECK (length(made_of) <= 300)
);
INSERT INTO correlated_days SELECT DISTINCT day, '' FROM correlations;
