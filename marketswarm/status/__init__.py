"""Read what the buses hold about a fleet: each service's status, incidents, silences, undelivered messages.

`fleet_state` reads what monitors, mesh and the services themselves store, `service_rows` derives one row per
service of it, `notifications` reads what the notifier stores. Anyone may have written to the buses, so every
value is parsed once into a frozen type, and parts that can't be parsed are skipped. Nothing is written here.
"""
