"""Complete names of services and channels in a shell: from the truth file here, or from a fleet's buses.

A shell waits for the answer with every press of Tab, and shows what is printed in the middle of a line. So a
look at the buses is short, and nothing is ever printed: whatever fails, there are no suggestions.
"""

import asyncio
import os
from collections.abc import Mapping
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
    return _select(_read_services(data), incomplete)


def list_channels(incomplete: str, data: Path) -> list[str]:
    settings = _get(_get(_read_services(data), _NOTIFIER), "settings")
    return _select(_get(settings, "channels"), incomplete)


def _read_services(data: Path) -> Any:
    document = _read_file()
    return _get(_read_buses(data) if document is None else document, "services")


def _select(names: Any, incomplete: str) -> list[str]:
    found = names if isinstance(names, Mapping) else ()
    texts = (name for name in found if isinstance(name, str) and name.startswith(incomplete))
    return [name for name in texts if name.isprintable()][:_MAX_SUGGESTIONS]


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
