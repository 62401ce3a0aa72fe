-- The names of `monitor_incidents` beside the archive's own. Words of an alert that is no text are left out; the rest is cut,
-- because others write it.

CREATE OR REPLACE VIEW alerts AS
SELECT log.id, log.at, log.type, log.svc, log.event,
    coalesce(CASE WHEN log.type = 'monitor_miss' THEN said.severity END, incident.severity, said.severity, CASE
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
    ended.at AS resolved_at,
    log.at AS "timestamp",
    log.type AS alert_type,
    log.svc AS container_name,
    concat(
        log.svc, ': ', log.type,
        CASE WHEN jsonb_typeof(log.event -> 'reason') = 'string' THEN concat(' (', left(log.event ->> 'reason', 100), ')') END,
        CASE WHEN jsonb_typeof(log.event -> 'detail') = 'string' THEN concat('; ', left(log.event ->> 'detail', 300)) END
    ) AS message
FROM alert_log log
CROSS JOIN LATERAL (
    SELECT
        CASE WHEN log.event ->> 'severity' IN ('info', 'warning', 'critical', 'emergency')
            THEN log.event ->> 'severity'
        END AS severity,
        -- the name of a rule has no slash, that of a subject may have some
        CASE WHEN log.type = 'monitor_miss' THEN substring(log.svc FROM '^medic/[^/]+/(.+)$') END AS subject
) said
LEFT JOIN LATERAL (
    SELECT min(later.at) AS at FROM alert_log later
    WHERE log.type ~ '_(miss|drift)$' AND later.svc = log.svc AND later.at >= log.at
        AND later.type IN (
            regexp_replace(log.type, '_(miss|drift)$', '_ok'), regexp_replace(log.type, '_(miss|drift)$', '_unwatched')
        )
) ended ON true
LEFT JOIN LATERAL (
    SELECT found.severity, found.remedies, found.escalated FROM incidents found
    WHERE log.type ~ '_miss$'
        -- of the database, archive is what can be healed
        AND found.svc = CASE said.subject WHEN 'database' THEN 'archive' ELSE coalesce(said.subject, log.svc) END
        AND found.began_at <= log.at
            + CASE WHEN log.type = 'monitor_miss' THEN interval '1 minute' ELSE interval '0' END
        AND coalesce(found.resolved_at, 'infinity') >= log.at
    ORDER BY found.began_at DESC LIMIT 1
) incident ON true;
