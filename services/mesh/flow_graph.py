"""The flow as it is now: what the truth says, what was seen, how fast it moves. Pure.

Which group of a stream is which reader's: the one that its settings name, else the one that is called as it
is, else the only one that is left for the only reader that is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from marketswarm.truth import Truth
from marketswarm.truth.flows import Flows, Key
from services.mesh.flow_look import Group, Seen
from services.mesh.flow_rates import Rates


@dataclass(frozen=True, slots=True)
class Presence:
    """Who is there: since how many seconds who is up, and who is known to be down. Of others nobody knows."""

    up_sec: Mapping[str, float] = field(default_factory=dict)
    down: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Moving:
    """A key as it is now. Rates are in entries a second; `groups` are those of its readers, by service."""

    key: Key
    seen: Seen
    rate: float | None
    groups: Mapping[str, Group]
    others: tuple[Group, ...]  # groups that are no reader's
    read_rates: Mapping[str, float | None]  # by group


@dataclass(frozen=True, slots=True)
class Graph:
    """All of it. `away` are buses that did not answer, with the reason; `unmeasured` counts keys too many."""

    flows: Flows
    moving: Mapping[Key, Moving]
    away: Mapping[str, str] = field(default_factory=dict)
    unmeasured: int = 0


def named_groups(truth: Truth) -> dict[str, str]:
    """The groups that services' settings name."""
    found = {svc: one.settings.get("group") for svc, one in truth.services.items()}
    return {svc: group for svc, group in found.items() if isinstance(group, str)}


def graph_of(
    flows: Flows,
    named: Mapping[str, str],
    seen: Mapping[Key, Seen],
    rates: Rates,
    now: float,
    *,
    window_sec: float,
) -> Graph:
    """Put together what was seen of the keys in `flows`; takes the readings into `rates`.

    `named` are the groups that services' settings name.
    """
    moving: dict[Key, Moving] = {}
    known: set[tuple[Key, str]] = set()
    for key, one in seen.items():
        groups = one.groups or ()
        known |= {(key, ""), *((key, group.name) for group in groups)}
        whose = assigned(flows.readers(key), named, groups)
        moving[key] = Moving(
            key,
            one,
            # what is not there yet has been counted, too: its first entries are its first rate
            rates.note((key, ""), 0 if one.kind == "none" else one.added, now, window_sec),
            whose,
            tuple(group for group in groups if group not in whose.values()),
            {group.name: rates.note((key, group.name), group.read, now, window_sec) for group in groups},
        )
    rates.keep(known)
    return Graph(flows, moving)


def assigned(
    readers: tuple[str, ...], named: Mapping[str, str], groups: tuple[Group, ...]
) -> dict[str, Group]:
    """Whose group is which."""
    by_name = {group.name: group for group in groups}
    found = {svc: by_name[named.get(svc, svc)] for svc in readers if named.get(svc, svc) in by_name}
    rest = [group for group in groups if group not in found.values()]
    alone = [svc for svc in readers if svc not in found and svc not in named]
    return found | ({alone[0]: rest[0]} if len(rest) == len(alone) == 1 else {})
