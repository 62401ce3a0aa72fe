"""Show services as checks, in the JSON of Healthchecks' management API.

The pings of a service are read from its bus, with the numbers that Healthchecks gives them: 1, 2, 3. Times
are epoch seconds.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from marketswarm.bus import Bus
from marketswarm.bus.scripts import Script
from marketswarm.keys import pings_key
from marketswarm.pages import split_pages
from marketswarm.pings import PINGS_KEPT, JobPing, PingForm, PingKind, parse_ping
from marketswarm.status.service_rows import ServiceState
from services.board.fleet.alerts import AlertView
from services.board.fleet.snapshot import ServiceSnapshot
from services.board.fleet.visibility import ALL_SERVICES, TAG_BADGE_PATH
from services.board.pings.directory import NOT_PINGED, fold_name
from services.board.pings.key_ring import make_unique_key
from services.board.pings.requests import PREFIX

LAST: Final = 10  # how many pings of each service are read for a list of services, without their bodies
SERVICES_AT_ONCE: Final = 100
_READ: Final = Script.beside("services.board.pings", "read.lua")
_STATUSES: Final[Mapping[ServiceState, str]] = {
    ServiceState.UP: "up",
    ServiceState.DOWN: "down",
    ServiceState.FAILED: "down",
    ServiceState.SILENT: "grace",
}
_FILTERS: Final[Mapping[str, Any]] = {
    "manual_resume": False,  # the next ping ends a pause
    **dict.fromkeys(("methods", "subject", "subject_fail", "start_kw", "success_kw", "failure_kw"), ""),
    **dict.fromkeys(("filter_subject", "filter_body", "filter_http_body", "filter_default_fail"), False),
}
"""What Healthchecks can be told to do with a ping, and the board does not."""
_FLIPS: Final = ("heartbeat_miss", "heartbeat_ok", "heartbeat_unwatched")
_BADGES: Final = ("svg", "json", "shields")


@dataclass(frozen=True, slots=True)
class StoredPings:
    """The last pings of a service, the oldest first, and how many there were since the first one of all.

    The stream of a service ends 35 days after its last ping; the next one is the first again.
    """

    pings: Sequence[JobPing] = ()
    count: int = 0


async def read_pings(bus: Bus, svc: str) -> StoredPings:
    """Return all pings of a service that are kept, with their bodies. Raises BusError."""
    (found,) = await _read(bus, [svc], 2 * PINGS_KEPT, "bodies")
    return found


async def read_last_pings(bus: Bus, services: Sequence[str]) -> dict[str, StoredPings]:
    """Return the last few pings of services on one bus, by service, without bodies. Raises BusError."""
    found: dict[str, StoredPings] = {}
    for some in split_pages(services, SERVICES_AT_ONCE):
        found.update(zip(some, await _read(bus, some, LAST, ""), strict=True))
    return found


async def _read(bus: Bus, services: Sequence[str], count: int, bodies: str) -> list[StoredPings]:
    keys = [pings_key(svc) for svc in services]
    return [_make_stored(*each) for each in await bus.script(_READ, keys, [count, bodies])]


def _make_stored(count: int, entries: Sequence[tuple[bytes, Sequence[bytes]]]) -> StoredPings:
    """Return what a stream holds of a service's pings: `entries` (the newest first) of `count` ever added.

    Runs under `marketswarm exec` are left out: their beats and `run:<svc>` say as much.
    """
    found: list[JobPing] = []
    for number, (entry_id, fields) in zip(range(count, 0, -1), entries, strict=False):
        ping = parse_ping(entry_id, dict(zip(fields[::2], fields[1::2], strict=True)))
        if ping is not None and ping.form is not PingForm.EXEC:
            found.append(replace(ping, n=number))
    return StoredPings(found[::-1], count if found else 0)


@dataclass(frozen=True, slots=True)
class ApiRoot:
    """The address by which a client asked, the version of the API, and whether it may only read."""

    url: str
    version: int
    is_readonly: bool


@dataclass(frozen=True, slots=True)
class _Progress:
    """What the pings of a service say of its last run; None is unknown. Times are epoch seconds."""

    started_at: float | None = None
    ended_at: float | None = None
    took_sec: float | None = None


def _follow_pings(pings: Iterable[JobPing]) -> _Progress:
    """Return what pings (oldest first) say of the last run, by the rules of Healthchecks.

    A success with another `rid` than the start ends no run. A failure, or a success without a `rid`, does.
    """
    found, started_rid = _Progress(), None
    for ping in pings:
        if ping.kind is PingKind.START:
            found, started_rid = replace(found, started_at=ping.ts), ping.rid
        elif ping.kind is not PingKind.LOG:
            is_same = found.started_at is not None and ping.rid == started_rid
            is_over = is_same or ping.kind is PingKind.FAIL or ping.rid is None
            took_sec = max(0.0, ping.ts - (found.started_at or 0.0)) if is_same else None
            found = _Progress(None if is_over else found.started_at, ping.ts, took_sec)
    return found


def _find_progress(service: ServiceSnapshot, pings: Sequence[JobPing]) -> _Progress:
    """Return what is known of a service's last run: by its pings, or by its beats and `run:<svc>`."""
    found, run = _follow_pings(pings), service.last_run
    run_ended_at = None if run is None else run.ended_at
    ends = [ts for ts in (found.ended_at, run_ended_at, service.last_beat_at) if ts is not None]
    is_same = run_ended_at is not None and run_ended_at == round(found.ended_at or run_ended_at, 3)
    took_sec = run.took_sec if run is not None and is_same and found.took_sec is None else found.took_sec
    started_at = found.started_at if pings else service.running_since
    return _Progress(started_at, max(ends, default=None), took_sec)


def _find_next_ping(service: ServiceSnapshot, status: str, started_at: float | None) -> float | None:
    """Return from when on a service is late (epoch seconds); None if no ping is expected."""
    if status == "down":
        return None
    due_at = service.next_due_at
    if due_at is None and service.last_beat_at is not None:
        due_at = service.last_beat_at + service.timeout_sec
    ends = [due_at if status in ("up", "grace") else None, started_at]
    return min((ts for ts in ends if ts is not None), default=None)


def make_check(
    service: ServiceSnapshot, code: uuid.UUID, root: ApiRoot, stored: StoredPings, *, is_paused: bool
) -> dict[str, Any]:
    progress = _find_progress(service, stored.pings)
    status = "paused" if is_paused else _STATUSES.get(service.state, "new")
    started = progress.started_at is not None
    check: dict[str, Any] = {
        "name": service.svc,
        "slug": service.svc.lower(),
        "tags": " ".join(service.tags),
        "desc": service.description,
        "grace": 0,
        "n_pings": stored.count,
        "status": "started" if started and root.version == 1 and status != "down" else status,
        "started": started,
        "last_ping": format_time(progress.ended_at),
        "next_ping": format_time(_find_next_ping(service, status, progress.started_at)),
        **_FILTERS,
        "badge_url": f"{root.url}/badge/{service.svc}.svg",
    }
    if progress.took_sec is not None:
        check["last_duration"] = int(progress.took_sec)
    if service.schedule is None:
        check["timeout"] = round(service.timeout_sec)
    else:
        check |= {"schedule": service.schedule, "tz": service.time_zone or "UTC"}
    if root.is_readonly:
        return check | {"unique_key": make_unique_key(code)}
    update_url = f"{root.url}/api/v{root.version}/checks/{code}"
    if service.svc not in NOT_PINGED:
        check["ping_url"] = f"{root.url}{PREFIX}{code}"
    return check | {
        "uuid": str(code),
        "update_url": update_url,
        "pause_url": f"{update_url}/pause",
        "resume_url": f"{update_url}/resume",
        "channels": "",
    }


def find_by_slug(services: Sequence[ServiceSnapshot], slug: str) -> list[ServiceSnapshot]:
    """Return the services that a slug may name in the address of a ping.

    Those with this very name in lower case come first: then `shop_api` is not `shop.api`.
    """
    exact = [each for each in services if each.svc.lower() == slug]
    return exact or [each for each in services if fold_name(each.svc) == fold_name(slug)]


def make_pings(pings: Sequence[JobPing], code: uuid.UUID, root: ApiRoot) -> list[dict[str, Any]]:
    """Return pings (oldest first) as the API lists them: the newest first, ends with their duration."""
    found: list[dict[str, Any]] = []
    started: dict[str | None, float] = {}
    for ping in pings:
        url = f"{root.url}/api/v{root.version}/checks/{code}/pings/{ping.n}/body"
        one: dict[str, Any] = {
            "type": str(ping.kind),
            "date": format_time(ping.ts),
            "n": ping.n,
            "scheme": "http",
            "remote_addr": ping.client,
            "method": ping.method,
            "ua": ping.user_agent,
            "rid": ping.rid,
            "body_url": url if ping.body else None,
        }
        if ping.kind is PingKind.START:
            started[ping.rid] = ping.ts
        elif ping.kind is not PingKind.LOG and ping.rid in started:
            one["duration"] = round(max(0.0, ping.ts - started.pop(ping.rid)), 2)
        found.append(one)
    return found[::-1]


def make_flips(events: Iterable[AlertView], start: float, end: float) -> list[dict[str, Any]]:
    return [
        {"timestamp": format_time(event.ts), "up": int(event.type == "heartbeat_ok")}
        for event in events
        if event.type in _FLIPS and start <= event.ts < end
    ]


def make_badges(services: Sequence[ServiceSnapshot], root: ApiRoot) -> dict[str, dict[str, str]]:
    tags = [ALL_SERVICES, *sorted({tag for service in services for tag in service.tags})]
    places = {tag: f"{root.url}{TAG_BADGE_PATH}{quote(tag, safe='')}" for tag in tags}
    return {
        tag: {f"{form}{states}": f"{place}.{form}" for states in ("", "3") for form in _BADGES}
        for tag, place in places.items()
    }


def format_time(ts: float | None) -> str | None:
    return None if ts is None else datetime.fromtimestamp(ts, UTC).isoformat(timespec="seconds")
