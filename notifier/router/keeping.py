"""What the router has to keep over restarts, as fields: what changed, and what is long past. Pure."""

from collections.abc import Mapping
from typing import Final

from notifier.router.incident import Incident, parse_incident, parse_line
from notifier.router.waiting import Waiting

INCIDENT: Final = "r:i:"
LINE: Final = "r:l:"
FORGOTTEN_SEC: Final = 86_400.0
TIDY_EVERY_SEC: Final = 3600.0


class Keeping:
    """The incidents and the lines that wait, and which of them changed."""

    def __init__(self, incidents: dict[str, Incident], waiting: Waiting) -> None:
        self._incidents = incidents
        self._waiting = waiting
        self._lines: set[str] = set()  # the fields of lines that are kept
        self._dirty: set[str] = set()  # keys of incidents
        self._tidied_at = float("-inf")

    def restore(self, fields: Mapping[str, bytes]) -> list[str]:
        """Takes up what `changes` gave an earlier run; the fields that nobody can read."""
        unusable: list[str] = []
        for name, raw in fields.items():
            if name.startswith(INCIDENT) and (incident := parse_incident(raw)) is not None:
                self._incidents[incident.key] = incident
            elif name.startswith(LINE) and (line := parse_line(raw)) is not None:
                self._waiting.put(line)
                self._lines.add(name)
            elif name.startswith((INCIDENT, LINE)):
                unusable.append(name)
        return unusable

    def changed(self, *keys: str) -> None:
        """These incidents changed."""
        self._dirty.update(keys)

    def line_changed(self, line_id: str) -> None:
        """This line changed; without this, a line is kept as it was when it was put."""
        self._lines.discard(LINE + line_id)

    def changes(self) -> dict[str, bytes | None]:
        """The fields that changed since this was last asked; None for one that is gone."""
        found: dict[str, bytes | None] = {}
        for key in self._dirty:
            incident = self._incidents.get(key)
            found[INCIDENT + key] = incident.encode() if incident is not None else None
        self._dirty.clear()
        lines = {LINE + ident: line for ident, line in self._waiting.lines.items()}
        found |= {name: lines[name].encode() for name in lines.keys() - self._lines}
        found |= dict.fromkeys(self._lines - lines.keys())
        self._lines = set(lines)
        return found

    def tidy(self, now: float) -> None:
        """Forgets what has been well for a day; by then nobody repeats its last event."""
        if now - self._tidied_at < TIDY_EVERY_SEC:
            return
        self._tidied_at = now
        for key, each in list(self._incidents.items()):
            quiet_since = max(each.last_ts, each.gap_ts, each.limited_until)
            if not (each.down or each.flapping) and now - quiet_since > FORGOTTEN_SEC:
                del self._incidents[key]
                self._dirty.add(key)
