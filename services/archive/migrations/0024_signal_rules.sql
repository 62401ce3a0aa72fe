-- By which rules and weights ticks were decided: the entry of a tick names them by their digest, as it names its symbols, so
-- they can be had and checked whatever the truth says since. Canonical JSON, without URLs and keys of voters.
CREATE TABLE signal_rules (
    digest bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    rules text NOT NULL CHECK (length(rules) BETWEEN 2 AND 65536)
);
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON signal_rules FOR EACH STATEMENT
    EXECUTE FUNCTION refuse_change();
-- also in a session that has set session_replication_role
ALTER TABLE signal_rules ENABLE ALWAYS TRIGGER refuse_change;
