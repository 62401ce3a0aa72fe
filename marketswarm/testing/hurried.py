"""A truth made for a test: some of its services and the healer, in a hurry, on buses of this machine.

Pure. The document is read as it stands; whether it is right is for those who get it.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

SYSTEM: Final = "system-redis"
MARKET: Final = "market-redis"
HEALER: Final = "healer"


def hurried(
    truth: Mapping[str, Any], services: Collection[str], interval_sec: float, timeout_sec: float
) -> dict[str, Any]:
    """The truth with these services and a healer alone, each beating every `interval_sec`.

    Buses are found by their names only, which the embedded fleet then serves. Raises KeyError, naming it, for
    a service that the truth does not have.
    """
    sections = truth.get("services") or {}
    buses = dict.fromkeys([SYSTEM, MARKET, *(truth.get("buses") or {})])
    beats = {"interval_sec": interval_sec, "timeout_sec": timeout_sec}
    made = {svc: _section(sections[svc], beats, buses, services) for svc in services}
    healer = _section(sections.get(HEALER) or {}, beats, buses, services)
    points = healer.get("access_points") or {}
    # what it is to hear is told by the sections; what it hears of others would be missed
    healer["access_points"] = {"publish_to": points.get("publish_to") or []}
    healer["threshold"] = {"heartbeat_cadence": timeout_sec}
    return {
        "buses": {name: {"url": f"redis://{name}:6379"} for name in buses},
        "services": {**made, HEALER: healer},
    }


def _section(
    section: Mapping[str, Any], beats: Mapping[str, float], buses: Collection[str], kept: Collection[str]
) -> dict[str, Any]:
    heartbeat = {**(section.get("heartbeat") or {}), **beats}
    host = urlsplit(str(heartbeat.get("redis_url", ""))).hostname
    if host not in {name.lower() for name in buses}:  # a place of its own: not for tests
        heartbeat.pop("redis_url", None)
    made = {**section, "heartbeat": heartbeat}
    if "depends_on" in made:
        made["depends_on"] = [svc for svc in made["depends_on"] if svc in kept]
    return made
