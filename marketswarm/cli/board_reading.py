"""Ask a board how the market is: its health, and one chart. Each answer is bounded in time and size."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from marketswarm.cli.findings import BoardPart, BoardReading
from marketswarm.cli.open import find_board
from marketswarm.fleet import data_folder
from marketswarm.net.http import HttpClient, HttpError, HttpResponse
from marketswarm.settings import is_variable_set
from marketswarm.text import escape_text

ANSWER_SEC: Final = 5.0
"""How long the board may take for one answer."""
MAX_BYTES: Final = 1 << 20
_CHARTED: Final = "newest_bar"
"""The part whose name is the symbol of which a chart is asked for: the one that has the newest minute."""


@dataclass(frozen=True, slots=True)
class _Health:
    parts: Annotated[dict[str, BoardPart], Field(max_length=100)] | None


_HEALTH: Final = TypeAdapter(_Health)


async def read_board(data: Path) -> BoardReading:
    """Return what the board of the fleet in folder `data` answers, or the one that the environment names."""
    fleet = data_folder.find_fleet(data)
    is_named = bool(fleet and fleet.board) or any(
        is_variable_set(each, os.environ) for each in ("BOARD_HOST", "BOARD_PORT")
    )
    url = find_board(data)
    async with HttpClient("doctor", by_proxy=False) as client:
        try:
            parts = parse_parts(await _fetch(client, f"{url}/health"))
        except HttpError as error:
            return BoardReading(url, is_named, error.reason)
        except ValueError as error:
            return BoardReading(url, is_named, str(error))
        symbol = parts[_CHARTED].name if parts and _CHARTED in parts else None
        if symbol is None:
            return BoardReading(url, is_named, parts=parts)
        begun = time.monotonic()
        chart = f"{url}/api/v1/bars/{quote(symbol, safe='')}?timeframe=1m&limit=10"
        try:
            answer = await _fetch(client, chart)
            why = None if answer.status == 200 else f"status {answer.status}"
        except HttpError as error:
            why = error.reason
        return BoardReading(
            url, is_named, None, parts, escape_text(symbol), why, round(time.monotonic() - begun, 3)
        )


async def _fetch(client: HttpClient, url: str) -> HttpResponse:
    return await client.fetch("GET", url, within_sec=ANSWER_SEC, max_bytes=MAX_BYTES)


def parse_parts(answer: HttpResponse) -> Mapping[str, BoardPart] | None:
    """Return the parts of `GET /health`; None if the board shows them to others alone. Raises ValueError."""
    if answer.status not in (200, 503):
        raise ValueError(f"status {answer.status}")
    try:
        return _HEALTH.validate_json(answer.body).parts
    except ValidationError:
        raise ValueError("what answers there is no board") from None
