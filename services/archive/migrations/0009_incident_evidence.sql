-- What was known of an outage before anything was done about it: its state, and the end of its log.

CREATE TABLE incident_evidence (
    id text PRIMARY KEY CHECK (id ~ '^[0-9]{1,20}-[0-9]{1,20}$'),
    -- that of `incidents`, whose row may come later than this one, or be deleted earlier
    incident text NOT NULL CHECK (incident ~ '^[A-Za-z0-9_.:-]{1,200}$'),
    at timestamptz NOT NULL CHECK (isfinite(at)),
    svc text NOT NULL CHECK (length(svc) BETWEEN 1 AND 200),
    step text NOT NULL CHECK (length(step) <= 100),
    facts jsonb NOT NULL,
    readings jsonb NOT NULL,
    log text NOT NULL CHECK (length(log) <= 131072)
);
CREATE INDEX incident_evidence_by_incident ON incident_evidence (incident, at);
CREATE INDEX incident_evidence_by_at ON incident_evidence (at);
