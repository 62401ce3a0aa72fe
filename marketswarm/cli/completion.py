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
import typer

from marketswarm.cli.data_folder import DATA
from marketswarm.exit import Exit

_WITHIN_SEC: Final = 1.0
_MAX_SUGGESTIONS: Final = 1_000


def complete_service(context: typer.Context, incomplete: str) -> list[str]:
    return _select(_read_services(context), incomplete)


def complete_channel(context: typer.Context, incomplete: str) -> list[str]:
    settings = _get(_get(_read_services(context), "notifier"), "settings")
    return _select(_get(settings, "channels"), incomplete)


def _read_services(context: typer.Context) -> Any:
    document = _read_file()
    if document is None:
        document = _read_buses(context.params.get("data") or DATA)
    return _get(document, "services")


def _select(names: Any, incomplete: str) -> list[str]:
    found = names if isinstance(names, Mapping) else ()
    texts = (name for name in found if isinstance(name, str) and name.startswith(incomplete))
    return [name for name in texts if name.isprintable()][:_MAX_SUGGESTIONS]


def _read_file() -> Any:
    from marketswarm.truth.parse import MAX_BYTES  # noqa: PLC0415 - for a shell that completes alone

    try:
        raw = Path(os.environ.get("TRUTH_PATH") or "truth.json").read_bytes()
        return orjson.loads(raw) if len(raw) <= MAX_BYTES else None
    except (OSError, orjson.JSONDecodeError):
        return None


def _read_buses(data: Path) -> Any:
    from marketswarm.cli import event_loop, fleet_view  # noqa: PLC0415 - as above

    async def read_settings() -> Any:
        async with asyncio.timeout(_WITHIN_SEC), fleet_view.open_fleet(data) as fleet:
            services = fleet.truth.services
            return {"services": {svc: {"settings": dict(one.settings)} for svc, one in services.items()}}

    try:
        return event_loop.run(read_settings())
    except (Exit, TimeoutError, OSError):
        return None


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None
