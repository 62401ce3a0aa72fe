"""Where the beats of one service go, read from a truth without what agents need for that.

A start from cron or from a shell's loop counts: the models of `marketswarm.truth` alone take 150 ms to load.
So this takes from a document no more than one section, and from the environment no more than the way to a
bus. A test holds it to what `marketswarm.truth` and `marketswarm.bus.find_url` say. The document was checked
when it was seeded; what is odd in it all the same counts as not said. Pure, apart from files that the
environment names.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from marketswarm.bus_url import FORMS, host_and_name, is_one, leads_to
from marketswarm.exit import Code, Exit

SYSTEM: Final = "system-redis"
MARKET: Final = "market-redis"
NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
INTERVAL_SEC: Final = 10.0
TIMEOUT_SEC: Final = 30.0


@dataclass(frozen=True, slots=True)
class Whereto:
    """Bus, channel and rhythm (seconds) of one service's beats.

    `url` is what the truth says of the bus's place, `env:NAME` unresolved; None: no more than its name.
    `named`: the truth knows this service, by its section or as a channel of the healer's.
    """

    bus: str
    url: str | None
    channel: str
    interval_sec: float
    timeout_sec: float
    named: bool


def document(raw: Any) -> dict[str, Any] | None:
    """The truth in these bytes; None when there is none that can be read, or they are no bytes."""
    try:
        found = json.loads(raw if isinstance(raw, bytes) else b"")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("services"), dict) else None


def whereto(truth: Mapping[str, Any] | None, svc: str, default_timeout_sec: float) -> Whereto:
    """Where `svc` beats by `truth`; what that does not say, and None, is as if nothing was said."""
    services, buses = _object(truth, "services"), _object(truth, "buses")
    healer = _object(services, "healer")
    timeout_sec = _seconds(_object(healer, "threshold"), "heartbeat_cadence", default_timeout_sec)
    beats = _object(_object(services, svc), "heartbeat")
    channel = _text(beats, "channel", f"{svc}:heartbeat")
    if svc in services:
        bus, url = _bus_at(_text(beats, "redis_url", f"redis://{SYSTEM}:6379"), buses)
        interval_sec = _seconds(beats, "interval_sec", INTERVAL_SEC)
        timeout_sec = _seconds(beats, "timeout_sec", timeout_sec)
        return Whereto(bus, url, channel, interval_sec, timeout_sec, named=True)
    heard_by = _heard_by(healer, channel)
    bus = heard_by or SYSTEM
    interval_sec = timeout_sec / 3 if heard_by else INTERVAL_SEC
    return Whereto(bus, _said_of(bus, buses), channel, interval_sec, timeout_sec, named=heard_by is not None)


def url_of(
    bus: str, said: str | None, environ: Mapping[str, str], embedded: Mapping[str, str] | None = None
) -> str:
    """The URL of a bus, by the environment, by what the truth `said`, by its name.

    One that is not told of but by its name is that of the `embedded` fleet here, if there is one.

    Raises:
        Exit: code 2, when that is no URL of a Redis or can't be had.
    """
    variable = bus.upper().replace("-", "_").replace(".", "_") + "_URL"
    if told := given(variable, environ):
        return told
    url = said or f"redis://{bus}:6379"
    if url.startswith("env:"):
        name = url.removeprefix("env:")
        if name not in environ:
            raise Exit(Code.CONFIGURATION, f"{bus}: the truth asks for {name}, which is not set")
        return _usable(name, environ[name])
    return (embedded or {}).get(bus, url) if leads_to(url, bus) else url


def given(variable: str, environ: Mapping[str, str]) -> str | None:
    """The URL that a variable holds, or the file that its `_FILE` twin names; None for neither.

    Raises:
        Exit: code 2, naming the variable, when that is no URL of a Redis.
    """
    if url := environ.get(variable):
        return _usable(variable, url)
    twin = f"{variable}_FILE"
    if not (path := environ.get(twin)):
        return None
    try:
        return _usable(twin, Path(path).read_text(encoding="utf-8")[:65_536].strip())
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8 text"
        raise Exit(Code.CONFIGURATION, f"{twin}: the file can't be read ({why})") from None


def _usable(name: str, url: str) -> str:
    if not is_one(url):
        raise Exit(Code.CONFIGURATION, f"{name}: must be {FORMS}")
    return url


def _bus_at(url: str, buses: Mapping[str, Any]) -> tuple[str, str | None]:
    """The bus that a heartbeat's URL means, and what the truth says of its place."""
    if url.startswith("env:"):
        return url, url
    try:
        host, own_name = host_and_name(url)
    except ValueError:
        return SYSTEM, _said_of(SYSTEM, buses)
    for name in (SYSTEM, MARKET, *buses):
        if host == name.lower():
            return name, _said_of(name, buses)
    return own_name, url


def _said_of(bus: str, buses: Mapping[str, Any]) -> str | None:
    """What the truth says of a bus's place."""
    return _text(_object(buses, bus), "url", "") or None


def _heard_by(healer: Mapping[str, Any], channel: str) -> str | None:
    """The bus on which the healer's own section has it listen to that channel."""
    points = _object(healer, "access_points").get("subscribe_to")
    for point in points if isinstance(points, list) else ():
        if isinstance(point, dict) and point.get("key") == channel:
            return _text(point, "bus", SYSTEM)
    return None


def _object(holder: Any, key: str) -> Mapping[str, Any]:
    found = holder.get(key) if isinstance(holder, dict) else None
    return found if isinstance(found, dict) else {}


def _text(holder: Mapping[str, Any], key: str, default: str) -> str:
    found = holder.get(key)
    return found if isinstance(found, str) and found else default


def _seconds(holder: Mapping[str, Any], key: str, default: float) -> float:
    found = holder.get(key)
    usable = isinstance(found, int | float) and not isinstance(found, bool) and 0.001 <= found <= 31_536_000
    return float(found) if usable and found is not None else default
