"""Show services as checks, in the JSON of Healthchecks' management API. Pure; times are epoch seconds."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from marketswarm.pings import JobPing, PingKind
from services.board.pages import AlertView
from services.board.pings.addresses import PREFIX
from services.board.pings.codes import make_unique_key
from services.board.pings.directory import NOT_PINGED, fold_name
from services.board.snapshot import ServiceSnapshot, ServiceState

_STATUSES: Final[Mapping[ServiceState, str]] = {
    ServiceState.UP: "up",
    ServiceState.DOWN: "down",
    ServiceState.FAILED: "down",
    ServiceState.SILENT: "grace",
}
_FLIPS: Final = ("heartbeat_miss", "heartbeat_ok", "heartbeat_unwatched")


@dataclass(frozen=True, slots=True)
class ApiRoot:
    """The address by which a client asked, the version of the API, and whether it may only read."""

    url: str
    version: int
    is_readonly: bool


def make_check(
    service: ServiceSnapshot, code: uuid.UUID, root: ApiRoot, pings: Sequence[JobPing], *, is_paused: bool
) -> dict[str, Any]:
    """Return a service as a check; `pings` are its last ones, oldest first."""
    started = bool(pings) and _find_last_kind(pings) is PingKind.START
    status = "paused" if is_paused else _STATUSES.get(service.state, "new")
    check: dict[str, Any] = {
        "name": service.svc,
        "slug": fold_name(service.svc),
        "tags": " ".join(service.tags),
        "desc": service.description,
        "grace": 0,
        "n_pings": len(pings),
        "status": "started" if started and root.version == 1 and status == "up" else status,
        "started": started,
        "last_ping": format_time(service.last_beat_at),
        "next_ping": format_time(
            None if service.last_beat_at is None else service.last_beat_at + service.timeout_sec
        ),
        "manual_resume": False,  # the next ping ends a pause
        "methods": "",
        "timeout": round(service.timeout_sec),
        "badge_url": f"{root.url}/badge/{service.svc}.svg",
    }
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
    """Return the changes between up and down in events of the alert log, from `start` up to `end`."""
    return [
        {"timestamp": format_time(event.ts), "up": int(event.type == "heartbeat_ok")}
        for event in events
        if event.type in _FLIPS and start <= event.ts < end
    ]


def make_badges(services: Sequence[ServiceSnapshot], root: ApiRoot) -> dict[str, dict[str, str]]:
    """Return the addresses of the badges of each tag."""
    tags = sorted({tag for service in services for tag in service.tags})
    return {
        tag: {
            **{form: f"{root.url}/badge/tag/{tag}.{ending}" for form, ending in _BADGES.items()},
            **{f"{form}3": f"{root.url}/badge/tag/{tag}.{ending}" for form, ending in _BADGES.items()},
        }
        for tag in tags
    }


_BADGES: Final = {"svg": "svg", "json": "json", "shields": "shields"}


def format_time(ts: float | None) -> str | None:
    """Return a time in ISO 8601, in UTC; None for none."""
    return None if ts is None else datetime.fromtimestamp(ts, UTC).isoformat(timespec="seconds")


def _find_last_kind(pings: Sequence[JobPing]) -> PingKind:
    """Return the kind of the last ping that is no line of a log."""
    return next((ping.kind for ping in reversed(pings) if ping.kind is not PingKind.LOG), PingKind.LOG)
