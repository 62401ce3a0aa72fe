"""Read what the buses hold about a fleet: each service's status, incidents, silences, undelivered messages.

`fleet_state` reads what monitors, mesh and the services themselves store, `service_rows` derives one row per
service of it, `notifications` reads what the notifier stores. `topology_view` combines the truth with what
mesh measured, `topology_graph` makes a graph of that.

Enters: keys of any bus, which anyone may have written.
Leaves: frozen values, parsed once; what can't be parsed is skipped.
Never: a write to a bus.
"""
