-- What `signals` decided, and the log that proves it: rows are added, and nothing changes or deletes one. The writer is the
-- role marketswarm_signals, which may add rows and read them; not even the owner changes one, but by dropping a trigger first.
-- A row that a check refuses is a fault of its writer. Places and entries are canonical JSON (services/signals/log).

-- The leaders, in the order in which they began; none but the newest adds to the log.
CREATE TABLE signal_epochs (
    epoch bigint PRIMARY KEY CHECK (epoch >= 1),
    began timestamptz NOT NULL CHECK (isfinite(began)),
    instance text NOT NULL CHECK (length(instance) BETWEEN 1 AND 200)
);

-- The entries of the log, from 0 on without a hole. A tick is one of them, a gap of ticks that were not decided, and a
-- change of the log's key.
CREATE TABLE signal_log (
    n bigint PRIMARY KEY CHECK (n >= 0),
    kind text NOT NULL CHECK (kind IN ('tick', 'gap', 'key')),
    tick bigint UNIQUE CHECK (tick >= 1),
    epoch bigint NOT NULL,
    at timestamptz NOT NULL CHECK (isfinite(at)),
    entry text NOT NULL CHECK (length(entry) BETWEEN 2 AND 65536),
    CONSTRAINT signal_log_tick_of_kind CHECK ((kind = 'tick') = (tick IS NOT NULL))
);
-- a time is made a tick by this; everything else goes by the tick, which never goes back
CREATE INDEX signal_log_by_at ON signal_log (at, n);

-- The symbols of ticks, in the order of their places; ticks name the list by its digest.
CREATE TABLE signal_symbols (
    digest bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    symbols text[] NOT NULL CHECK (cardinality(symbols) BETWEEN 1 AND 1000000)
);

-- The places of ticks that do not follow from the one before. A symbol of a tick without a row here is as in its last row:
-- after `closed`, closed since then; after anything else, unchanged since then.
CREATE TABLE signals (
    tick bigint NOT NULL,
    symbol market_symbol NOT NULL,
    place integer NOT NULL CHECK (place >= 0),
    at timestamptz NOT NULL CHECK (isfinite(at)),
    outcome text NOT NULL CHECK (outcome IN ('signal', 'unchanged', 'closed', 'abstained', 'failed')),
    side text CHECK (side IN ('long', 'short', 'flat')),
    -- NaN is greater than every number, so these exclude it
    score numeric CHECK (score BETWEEN -1 AND 1),
    confidence numeric CHECK (confidence BETWEEN 0 AND 1),
    conflict numeric CHECK (conflict BETWEEN 0 AND 1),
    participation numeric CHECK (participation BETWEEN 0 AND 1),
    replay boolean NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    content text NOT NULL CHECK (length(content) BETWEEN 2 AND 65536),
    PRIMARY KEY (tick, symbol),
    CONSTRAINT signals_side_of_outcome CHECK ((outcome = 'signal') = (side IS NOT NULL))
);
CREATE INDEX signals_by_symbol ON signals (symbol, tick);
CREATE INDEX signals_by_side ON signals (side, tick, symbol);
-- for people who ask by the wall time
CREATE INDEX signals_by_symbol_and_time ON signals (symbol, at);
CREATE INDEX signals_by_side_and_time ON signals (side, at);
-- by its id, which is this hash in hexadecimal digits
CREATE INDEX signals_by_hash ON signals USING hash (hash);

-- The full subtrees of the log's tree.
CREATE TABLE signal_nodes (
    level smallint NOT NULL CHECK (level BETWEEN 0 AND 62),
    number bigint NOT NULL CHECK (number >= 0),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (level, number)
);

-- What the log signed: notes over its first `size` entries; and what witnesses said of them, a line each.
CREATE TABLE signal_checkpoints (
    size bigint PRIMARY KEY CHECK (size >= 0),
    at timestamptz NOT NULL CHECK (isfinite(at)),
    note text NOT NULL CHECK (length(note) BETWEEN 1 AND 10000)
);
CREATE TABLE signal_cosignatures (
    size bigint NOT NULL REFERENCES signal_checkpoints,
    witness text NOT NULL CHECK (length(witness) BETWEEN 1 AND 200),
    at timestamptz NOT NULL CHECK (isfinite(at)),
    line text NOT NULL CHECK (length(line) BETWEEN 1 AND 10000),
    PRIMARY KEY (size, witness)
);

-- The functions keep this path, so that they find these tables and no temporary ones of the same names.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Writers of the log, and leaders that begin, take turns: each locks the first leader's row until its transaction ends. A
-- row can be locked by the owner alone, as which these functions run; an advisory lock could be held by every reader.
CREATE FUNCTION begin_signal_epoch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM FROM signal_epochs WHERE epoch = 1 FOR UPDATE;
    IF NEW.epoch <> coalesce((SELECT max(epoch) FROM signal_epochs), 0) + 1 THEN
        RAISE EXCEPTION 'epoch % does not follow the newest one', NEW.epoch USING ERRCODE = 'SG001';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER begin_signal_epoch BEFORE INSERT ON signal_epochs FOR EACH ROW EXECUTE FUNCTION begin_signal_epoch();

CREATE FUNCTION follow_signal_log() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM FROM signal_epochs WHERE epoch = 1 FOR UPDATE;
    -- read after the lock: who had it before may have begun an epoch, or added an entry
    IF NEW.epoch IS DISTINCT FROM (SELECT max(epoch) FROM signal_epochs) THEN
        RAISE EXCEPTION 'epoch % is not the newest one', NEW.epoch USING ERRCODE = 'SG001';
    END IF;
    IF NEW.n <> coalesce((SELECT max(n) FROM signal_log), -1) + 1
        OR NEW.tick <= (SELECT max(tick) FROM signal_log) THEN
        RAISE EXCEPTION 'entry % does not follow the last one', NEW.n USING ERRCODE = 'SG002';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER follow_signal_log BEFORE INSERT ON signal_log FOR EACH ROW EXECUTE FUNCTION follow_signal_log();

CREATE FUNCTION require_newest_tick() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (SELECT FROM added WHERE tick IS DISTINCT FROM (SELECT max(tick) FROM signal_log)) THEN
        RAISE EXCEPTION 'a place is not of the newest tick' USING ERRCODE = 'SG002';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER require_newest_tick AFTER INSERT ON signals REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION require_newest_tick();

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never changed or deleted', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
DO $$
DECLARE
    kept name;
BEGIN
    FOREACH kept IN ARRAY ARRAY[
        'signal_epochs', 'signal_log', 'signal_symbols', 'signals', 'signal_nodes', 'signal_checkpoints', 'signal_cosignatures'
    ] LOOP
        EXECUTE format(
            'CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON %I FOR EACH STATEMENT '
            'EXECUTE FUNCTION refuse_change()', kept
        );
        -- also in a session that has set session_replication_role
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER refuse_change', kept);
    END LOOP;
END
$$;
