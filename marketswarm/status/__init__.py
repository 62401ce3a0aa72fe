"""Read what the buses hold about a fleet: each service's status, incidents, silences, undelivered messages.

`fleet_state` reads what monitors, mesh and the services themselves store, `service_rows` derives one row per
service of it, `notifications` reads what the notifier stores. Anyone may have written to the buses, so every
value is parsed once into a frozen type, and parts that can't be parsed are skipped. Nothing is written here.
"""

from marketswarm.monitor.last_run import LastRun
from marketswarm.status.fleet_state import FleetState, InstanceCount, Leader, read_fleet_state
from marketswarm.status.notifications import (
    Notifications,
    OpenIncident,
    PendingDelivery,
    describe_hold,
    group_stuck_by_channel,
    read_notifications,
)
from marketswarm.status.service_rows import (
    URGENCY,
    JobStatus,
    ServiceRow,
    ServiceState,
    derive_silence,
    make_service_rows,
    write_headline,
)

__all__ = [
    "URGENCY",
    "FleetState",
    "InstanceCount",
    "JobStatus",
    "LastRun",
    "Leader",
    "Notifications",
    "OpenIncident",
    "PendingDelivery",
    "ServiceRow",
    "ServiceState",
    "derive_silence",
    "describe_hold",
    "group_stuck_by_channel",
    "make_service_rows",
    "read_fleet_state",
    "read_notifications",
    "write_headline",
]
