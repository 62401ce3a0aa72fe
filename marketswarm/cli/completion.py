"""Complete names of services and channels in a shell: from the truth file here, or from a fleet's buses.

A shell waits for the answer with every press of Tab, and shows what is printed in the middle of a line. So a
look at the buses is short, and nothing is ever printed: whatever fails, there are no suggestions.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from marketswarm.cli import event_loop
from marketswarm.cli.fleet_view import open_fleet
from marketswarm.exit import Exit
from marketswarm.truth.parse import MAX_BYTES

_WITHIN_SEC: Final = 1.0
_MAX_SUGGESTIONS: Final = 1_000
_NOTIFIER: Final = "notifier"


def list_services(incomplete: str, data: Path) -> list[str]:
    return _complete(incomplete, data, lambda services: services)


def list_channels(incomplete: str, data: Path) -> list[str]:
    def find_channels(services: Mapping[str, Any]) -> Any:
        return _get(_get(services.get(_NOTIFIER), "settings"), "channels")

    return _complete(incomplete, data, find_channels)


def _complete(incomplete: str, data: Path, choose: Callable[[Mapping[str, Any]], Any]) -> list[str]:
    document = _read_file()
    if document is None:
        document = _read_buses(data)
    services = _get(document, "services")
    names = choose(services) if isinstance(services, dict) else ()
    found = [name for name in names or () if isinstance(name, str) and name.startswith(incomplete)]
    return [name for name in found if name.isprintable()][:_MAX_SUGGESTIONS]


def _read_file() -> Any:
    try:
        raw = Path(os.environ.get("TRUTH_PATH") or "truth.json").read_bytes()
        return orjson.loads(raw) if len(raw) <= MAX_BYTES else None
    except (OSError, orjson.JSONDecodeError):
        return None


def _read_buses(data: Path) -> Any:
    try:
        return event_loop.run(_read_truth(data))
    except (Exit, TimeoutError, OSError):
        return None


async def _read_truth(data: Path) -> Any:
    async with asyncio.timeout(_WITHIN_SEC), open_fleet(data) as fleet:
        return {
            "services": {svc: {"settings": dict(one.settings)} for svc, one in fleet.truth.services.items()}
        }


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None
