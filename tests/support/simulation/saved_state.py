"""What a healer restores of services, from hashes that are in memory."""

from collections.abc import Mapping

from marketswarm.detector import SavedBeat, SavedService
from marketswarm.monitor.roster_entry import RosterEntry
from marketswarm.monitor.store import Clocks, SavedSilence, combine_service


def combine_saved_state(
    roster: Mapping[str, RosterEntry],
    silences: Mapping[str, SavedSilence],
    clocks: Clocks,
    current_buses: Mapping[str, str],
    saved_beats: Mapping[str, SavedBeat | None],
) -> dict[str, SavedService]:
    """Return the saved state of each service; `current_buses` has the present bus of each watched one."""
    found: dict[str, SavedService] = {}
    for svc in (roster.keys() | silences.keys()) - {field for field in roster if ":" in field}:
        bus = current_buses.get(svc, "")
        found[svc] = combine_service(
            roster.get(svc), silences.get(svc), clocks.get(bus), bus, saved_beats.get(svc)
        )
    return found
