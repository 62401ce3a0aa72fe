-- Places without a signal are rare, and are asked for by their outcome: what failed, what abstained. Those of a signal are
-- nearly all rows, and are read by the primary key. `select_signals` repeats the condition, by which the index is found.
CREATE INDEX signals_by_outcome ON signals (outcome, tick, symbol) WHERE outcome <> 'signal';
