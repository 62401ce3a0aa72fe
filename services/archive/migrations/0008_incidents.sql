-- What the medic did about each outage, and how often each alert came. The alert log has the name `alert_log` now;
-- `alerts` is a view of it that says what became of each alert.

ALTER TABLE alerts RENAME TO alert_log;
ALTER INDEX alerts_pkey RENAME TO alert_log_pkey;
ALTER INDEX alerts_by_at RENAME TO alert_log_by_at;
CREATE INDEX alert_log_by_svc ON alert_log (svc, at);

CREATE TABLE alert_counts (
    day date NOT NULL,
    type text NOT NULL CHECK (length(type) BETWEEN 1 AND 64),
    svc text NOT NULL CHECK (length(svc) BETWEEN 1 AND 200),
    count bigint NOT NULL CHECK (count > 0),
    PRIMARY KEY (type, svc, day)
);

-- the rows that were inserted alone: an alert that is written again is counted once
CREATE FUNCTION count_alerts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO alert_counts AS known (day, type, svc, count)
    SELECT (at AT TIME ZONE 'UTC')::date, type, svc, count(*) FROM added GROUP BY 1, 2, 3 ORDER BY 2, 3, 1
    ON CONFLICT (type, svc, day) DO UPDATE SET count = known.count + excluded.count;
    RETURN NULL;
END
$$;
CREATE TRIGGER alert_log_counted AFTER INSERT ON alert_log REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION count_alerts();

INSERT INTO alert_counts (day, type, svc, count)
SELECT (at AT TIME ZONE 'UTC')::date, type, svc, count(*) FROM alert_log GROUP BY 1, 2, 3;

CREATE TABLE incidents (
    incident text PRIMARY KEY CHECK (incident ~ '^[A-Za-z0-9_.:-]{1,200}$'),
    svc text NOT NULL CHECK (length(svc) BETWEEN 1 AND 200),
    symptom text NOT NULL,
    severity text NOT NULL,
    -- when the outage began, when the medic first saw it, and its last entry
    began_at timestamptz NOT NULL CHECK (isfinite(began_at)),
    opened_at timestamptz NOT NULL CHECK (isfinite(opened_at)),
    changed_at timestamptz NOT NULL CHECK (isfinite(changed_at)),
    -- the remedies that were carried out, in their order; one that was repeated is repeated
    remedies text[] NOT NULL,
    escalated boolean NOT NULL,
    resolution text NOT NULL,
    details text NOT NULL,
    resolved_at timestamptz CHECK (isfinite(resolved_at)),
    resolution_sec double precision CHECK (resolution_sec >= 0),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX incidents_by_opened_at ON incidents (opened_at);
CREATE INDEX incidents_by_svc ON incidents (svc, began_at);

CREATE TABLE incident_events (
    id text PRIMARY KEY CHECK (id ~ '^[0-9]{1,20}-[0-9]{1,20}$'),
    -- the incident is made of its entries, when they are all there
    incident text NOT NULL REFERENCES incidents ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    at timestamptz NOT NULL CHECK (isfinite(at)),
    svc text NOT NULL CHECK (length(svc) BETWEEN 1 AND 200),
    what text NOT NULL CHECK (length(what) BETWEEN 1 AND 50),
    severity text NOT NULL CHECK (length(severity) <= 20),
    remedy text NOT NULL CHECK (length(remedy) <= 50),
    reason text NOT NULL CHECK (length(reason) <= 50),
    text text NOT NULL CHECK (length(text) <= 300),
    sec double precision CHECK (sec >= 0),
    stream_position bigint NOT NULL
);
CREATE INDEX incident_events_by_incident ON incident_events (incident, stream_position);

-- as marketswarm/operator/healing.py does it: a test holds both to each other
CREATE FUNCTION fold_incidents() RETURNS trigger LANGUAGE plpgsql AS $$
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
        coalesce((array_agg(said ORDER BY place DESC) FILTER (WHERE what NOT IN ('waiting', 'resolved')))[1], ''),
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
CREATE TRIGGER incident_events_folded AFTER INSERT ON incident_events REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION fold_incidents();

CREATE VIEW monitor_incidents AS
SELECT incident AS id,
    opened_at AS "timestamp",
    svc AS container_name,
    symptom AS issue_type,
    severity,
    cardinality(remedies) AS healing_attempts,
    ARRAY(
        SELECT remedy FROM unnest(remedies) WITH ORDINALITY AS tried (remedy, place)
        GROUP BY remedy ORDER BY min(place)
    ) AS healing_strategies_tried,
    escalated,
    resolution AS resolution_status,
    details AS resolution_details,
    resolved_at,
    resolution_sec AS resolution_time_seconds,
    created_at
FROM incidents;

CREATE VIEW alerts AS
SELECT log.id, log.at, log.type, log.svc, log.event,
    coalesce(incident.severity, CASE
        WHEN log.event ->> 'severity' IN ('info', 'warning', 'critical', 'emergency') THEN log.event ->> 'severity'
        WHEN log.type IN ('healer_miss', 'bus_miss') THEN 'critical'
        WHEN log.type ~ '_(miss|drift)$' THEN 'warning'
        ELSE 'info'
    END) AS severity,
    (
        SELECT sum(counted.count)::bigint FROM alert_counts counted
        WHERE counted.type = log.type AND counted.svc = log.svc
    ) AS count,
    incident.remedies[cardinality(incident.remedies)] AS action_taken,
    coalesce(incident.escalated, false) AS escalated,
    CASE WHEN log.type ~ '_(miss|drift)$' THEN ended.at IS NOT NULL END AS resolved,
    ended.at AS resolved_at
FROM alert_log log
LEFT JOIN LATERAL (
    SELECT min(later.at) AS at FROM alert_log later
    WHERE log.type ~ '_(miss|drift)$' AND later.svc = log.svc AND later.at >= log.at
        AND later.type IN (
            regexp_replace(log.type, '_(miss|drift)$', '_ok'), regexp_replace(log.type, '_(miss|drift)$', '_unwatched')
        )
) ended ON true
LEFT JOIN LATERAL (
    SELECT found.severity, found.remedies, found.escalated FROM incidents found
    WHERE log.type ~ '_miss$' AND found.svc = log.svc AND found.began_at <= log.at
        AND coalesce(found.resolved_at, 'infinity') >= log.at
    ORDER BY found.began_at DESC LIMIT 1
) incident ON true;
