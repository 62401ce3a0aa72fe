"""Store incidents as fields, say which changed, and forget those that are long over. Pure."""

from collections.abc import Mapping
from typing import Final

from notifier.router.incident import Incident, parse_incident

INCIDENT_FIELD: Final = "r:i:"
"""Prefix of the state's fields that hold an incident; its key follows."""
FORGOTTEN_SEC: Final = 86_400.0
"""How long an incident is kept after its end, in seconds."""
TIDY_EVERY_SEC: Final = 3600.0
"""How often old incidents are removed, in seconds."""


class IncidentStore:
    """Converts incidents to fields of the state, and tracks changes. Pure."""

    def __init__(self, incidents: dict[str, Incident]) -> None:
        self._incidents = incidents
        self._dirty: set[str] = set()  # keys of incidents that changed
        self._tidied_at = float("-inf")

    def restore(self, fields: Mapping[str, bytes]) -> list[str]:
        """Restore what `changes` returned in an earlier run; return the fields that can't be parsed."""
        found = {name: parse_incident(raw) for name, raw in fields.items() if name.startswith(INCIDENT_FIELD)}
        for incident in filter(None, found.values()):
            self._incidents[incident.key] = incident
        return [name for name, incident in found.items() if incident is None]

    def list_past_times(self) -> list[float]:
        return [at for incident in self._incidents.values() for at in incident.list_past_times()]

    def forget_changes(self) -> None:
        """Forget the changes of all that does not flap: how long ago they were is not known any more."""
        for key, incident in self._incidents.items():
            if incident.changes and not incident.flapping:
                incident.changes = []
                self._dirty.add(key)

    def cap_times(self, now: float) -> None:
        """Make times at which something began `now`, if they are later."""
        for incident in self._incidents.values():
            incident.cap_times(now)

    def changed(self, *keys: str) -> None:
        self._dirty.update(keys)

    def changes(self) -> dict[str, bytes | None]:
        """Return the fields that changed since the last call; None for deleted ones."""
        found: dict[str, bytes | None] = {}
        for key in self._dirty:
            incident = self._incidents.get(key)
            found[INCIDENT_FIELD + key] = incident.encode() if incident is not None else None
        self._dirty.clear()
        return found

    def shift_times(self, by_sec: float) -> None:
        """Move the times at which waits of incidents began or end by `by_sec`."""
        self._tidied_at += by_sec
        for key, incident in self._incidents.items():
            if incident.shift_times(by_sec):
                self._dirty.add(key)

    def tidy(self, now: float) -> None:
        """Once an hour remove incidents that have been over for a day; no event is repeated after that.

        Those of a machine that was told to be gone stay while an outage of it lasts: they show a return.
        """
        if now - self._tidied_at < TIDY_EVERY_SEC:
            return
        self._tidied_at = now
        gone = {each.machine for each in self._incidents.values() if each.down and each.machine}
        for key, each in list(self._incidents.items()):
            quiet_since = max(each.last_ts, each.gap_ts, each.limited_until)
            is_open = each.down or each.flapping or each.flap_thread or each.host in gone
            if not is_open and now - quiet_since > FORGOTTEN_SEC:
                del self._incidents[key]
                self._dirty.add(key)
