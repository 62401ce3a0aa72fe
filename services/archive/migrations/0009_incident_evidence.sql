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

-- as before, but what people were told and acknowledged is not what became of an outage
CREATE OR REPLACE FUNCTION fold_incidents() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO incidents (
        incident, svc, symptom, severity, began_at, opened_at, changed_at, remedies, escalated, resolution, details,
        resolved_at, resolution_sec
    )
    SELECT incident,
        (array_agg(svc ORDER BY place))[1],
        coalesce((array_agg(reason ORDER BY place) FILTER (WHERE what = 'opened'))[1], ''),
        coalesce((array_agg(severity ORDER BY place) FILTER (WHERE what = 'opened' AND severity <> ''))[1], 'warning'),
        least(to_timestamp(substring(incident FROM '\.([0-9]{1,14})$')::float8 / 1000), min(at)),
        (array_agg(at ORDER BY place))[1],
        max(at),
        coalesce((array_agg(remedy ORDER BY place) FILTER (WHERE what = 'acted'))[1:100], '{}'),
        bool_or(what = 'escalated'),
        coalesce(
            (array_agg(reason ORDER BY place DESC) FILTER (WHERE what = 'resolved'))[1],
            CASE (array_agg(what ORDER BY place DESC)
                FILTER (WHERE what IN ('escalated', 'recovered', 'verified', 'relapsed')))[1]
                WHEN 'escalated' THEN 'escalated' ELSE 'open'
            END
        ),
        coalesce((array_agg(said ORDER BY place DESC) FILTER (WHERE what NOT IN ('waiting', 'resolved', 'told', 'acked')))[1], ''),
        (array_agg(at ORDER BY place DESC) FILTER (WHERE what = 'resolved'))[1],
        (array_agg(sec ORDER BY place DESC) FILTER (WHERE what = 'resolved'))[1]
    FROM (
        SELECT *, (stream_position, id) AS place,
            concat_ws(': ', concat_ws(' ', what, nullif(remedy, '')), nullif(reason, ''), nullif(text, '')) AS said
        FROM incident_events WHERE incident IN (SELECT incident FROM added)
    ) entry
    GROUP BY incident ORDER BY incident
    ON CONFLICT (incident) DO UPDATE SET
        svc = excluded.svc, symptom = excluded.symptom, severity = excluded.severity,
        began_at = excluded.began_at, opened_at = excluded.opened_at, changed_at = excluded.changed_at,
        remedies = excluded.remedies, escalated = excluded.escalated, resolution = excluded.resolution,
        details = excluded.details, resolved_at = excluded.resolved_at, resolution_sec = excluded.resolution_sec;
    RETURN NULL;
END
$$;
