-- The diagnosis of an outage, with its patch, beside the entry that says that it was made. Null in all others.

ALTER TABLE incident_events ADD COLUMN diagnosis jsonb
    CHECK (jsonb_typeof(diagnosis) = 'object' AND octet_length(diagnosis::text) <= 131072);
