"""Find the services that a request wants to see of the fleet, in its order and groups. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, Literal
from urllib.parse import urlencode

from services.board.fleet.snapshot import URGENCY, FleetSnapshot, ServiceSnapshot, ServiceState, Window
from services.board.rendering import Frame

Sort = Literal["state", "name", "silence", "uptime", "restarts"]
SORTS: Final[tuple[Sort, ...]] = ("state", "name", "silence", "uptime", "restarts")
Group = Literal["", "tag", "bus", "state"]
GROUPS: Final[tuple[Group, ...]] = ("", "tag", "bus", "state")
ROWS: Final = 200  # the rows of a page of the fleet unless the request asks for another number
MAX_ROWS: Final = 1000


@dataclass(frozen=True, slots=True)
class FleetQuery:
    """What a request wants to see of the fleet: all services that match every part that is not empty.

    `text` is a part of the name, the description or a tag; `group` makes groups of rows; `start` is the
    number of rows to leave out. `wall` is the mode for a screen on a wall.
    """

    text: str = ""
    states: tuple[ServiceState, ...] = ()
    tag: str = ""
    bus: str = ""
    sort: Sort = "state"
    group: Group = ""
    window: Window = "24h"
    start: int = 0
    rows: int = ROWS
    wall: bool = False

    def url(self, **changes: Any) -> str:
        """Return the path of the page with this query, in which `changes` replace values."""
        values = {each.name: changes.get(each.name, getattr(self, each.name)) for each in fields(self)}
        wanted = {name: value for name, value in values.items() if value != getattr(_NO_QUERY, name)}
        if "states" in wanted:
            wanted["states"] = ",".join(wanted["states"])
        if "wall" in wanted:
            wanted["wall"] = "1"
        return "/?" + urlencode(wanted) if wanted else "/"


_NO_QUERY: Final = FleetQuery()


@dataclass(frozen=True, slots=True)
class ServiceGroup:
    """Some services under a heading; the heading is empty if the services are not in groups."""

    name: str
    services: tuple[ServiceSnapshot, ...]


@dataclass(frozen=True, slots=True)
class FleetPage:
    """The fleet: the rows that a query found, in groups.

    `found` counts all services that match the query, `tags` are all that services have.
    """

    template: ClassVar = "fleet.html"
    frame: Frame
    query: FleetQuery
    groups: tuple[ServiceGroup, ...]
    found: int
    tags: tuple[str, ...] = ()

    @property
    def previous(self) -> str | None:
        start = max(0, self.query.start - self.query.rows)
        return self.query.url(start=start) if self.query.start else None

    @property
    def following(self) -> str | None:
        start = self.query.start + self.query.rows
        return self.query.url(start=start) if start < self.found else None


def select_services(snapshot: FleetSnapshot, query: FleetQuery, frame: Frame) -> FleetPage:
    found = sort_services([one for one in snapshot.services if _matches(one, query)], query)
    shown = found[query.start : query.start + query.rows]
    tags = sorted({tag for one in snapshot.services for tag in one.tags})
    return FleetPage(frame, query, group_services(shown, query.group), len(found), tuple(tags))


def _matches(service: ServiceSnapshot, query: FleetQuery) -> bool:
    words = (service.svc, service.description, *service.tags)
    return (
        (not query.text or any(query.text.casefold() in word.casefold() for word in words))
        and (not query.states or service.state in query.states)
        and (not query.tag or query.tag in service.tags)
        and (not query.bus or query.bus == service.bus)
    )


def sort_services(services: Sequence[ServiceSnapshot], query: FleetQuery) -> list[ServiceSnapshot]:
    match query.sort:
        case "name":
            return sorted(services, key=lambda one: one.svc)
        case "silence":
            return sorted(services, key=lambda one: one.last_beat_at or 0.0)
        case "restarts":
            return sorted(services, key=lambda one: -(one.restarts or 0))
        case "uptime":
            return sorted(services, key=lambda one: _uptime_key(one, query.window))
        case _:
            return sorted(services, key=lambda one: URGENCY[one.state])


def _uptime_key(service: ServiceSnapshot, window: Window) -> float:
    """Return the share of a window in which a service was up; an unknown one comes last."""
    uptime = service.uptime.get(window)
    return 2.0 if uptime is None or uptime.share is None else uptime.share


def group_services(services: Sequence[ServiceSnapshot], group: Group) -> tuple[ServiceGroup, ...]:
    """Return the services in groups, each group at the place of its first service.

    By tag, a service is in the group of its first tag.
    """
    if not group:
        return (ServiceGroup("", tuple(services)),)
    found: dict[str, list[ServiceSnapshot]] = {}
    for one in services:
        names = {"tag": one.tags[0] if one.tags else "", "bus": one.bus, "state": str(one.state)}
        found.setdefault(names[group] or "without a tag", []).append(one)
    return tuple(ServiceGroup(name, tuple(some)) for name, some in found.items())
