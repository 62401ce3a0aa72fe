-- The reason of a signal in the words of a model, which was asked after the tick was committed. It is beside the log: no hash
-- has it, and nothing is decided by it. Rows are added, and nothing changes or deletes one, as in the tables of the log.
CREATE TABLE signal_wordings (
    tick bigint NOT NULL,
    symbol market_symbol NOT NULL,
    at timestamptz NOT NULL CHECK (isfinite(at)),
    model text NOT NULL CHECK (length(model) BETWEEN 1 AND 200),
    text text NOT NULL CHECK (length(text) BETWEEN 1 AND 200),
    PRIMARY KEY (tick, symbol),
    FOREIGN KEY (tick, symbol) REFERENCES signals
);
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON signal_wordings FOR EACH STATEMENT
    EXECUTE FUNCTION refuse_change();
-- also in a session that has set session_replication_role
ALTER TABLE signal_wordings ENABLE ALWAYS TRIGGER refuse_change;
