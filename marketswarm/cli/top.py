"""Implement `marketswarm top`: the live status of a fleet, sorted and filtered by keys while it runs."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn

from rich.text import Text

from marketswarm.cli import event_loop, tables
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.keyboard import NamedKey, open_keyboard
from marketswarm.cli.options import Data
from marketswarm.cli.status import (
    StatusDrawing,
    StatusReport,
    find_silence,
    read_status_or_why_not,
)
from marketswarm.exit import Mistake
from marketswarm.status.service_rows import URGENCY, ServiceRow
from marketswarm.tasks import run_until_first
from marketswarm.text import escape_text

_STEPS: Final[Mapping[str, int]] = {
    NamedKey.UP: -1,
    NamedKey.DOWN: 1,
    NamedKey.PAGE_UP: -10,
    NamedKey.PAGE_DOWN: 10,
}
"""By key: how many rows it scrolls down."""
_MAX_FILTER_CHARS: Final = 60


def _rank_silence(row: ServiceRow, now: float) -> float:
    silence_sec = find_silence(row, now)
    return 1.0 if silence_sec is None else -silence_sec


ORDERS: Final[Mapping[str, tuple[str, Callable[[ServiceRow, float], Any]]]] = {
    "w": ("worst", lambda row, _now: URGENCY[row.verdict]),
    "n": ("name", lambda row, _now: row.svc),
    "s": ("silence", _rank_silence),
    "r": ("restarts", lambda row, _now: 1 if row.restarts is None else -row.restarts),
}
"""By the key that chooses it: the name of an order of the rows, and the sort key of a row at a time."""


@dataclass(frozen=True, slots=True)
class View:
    """Hold what the keys have chosen; `is_reversed` is the order upside down, `first` the first row shown."""

    order: str = "w"
    is_reversed: bool = False
    pattern: str = ""
    is_typing: bool = False
    first: int = 0


Shown = tuple[StatusReport, View]


def top(data: Data = DATA) -> None:
    """Show every service live, sorted by keys: w worst first, n name, s silence, r restarts; q ends it.

    The same key again turns the order around. / filters by name or verdict, arrows and pages scroll. Needs a
    terminal: over ssh, `ssh -t HOST marketswarm top`.
    """
    has_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if not has_terminal or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        raise Mistake(
            "top needs a terminal, for its keys. Over ssh: `ssh -t HOST marketswarm top`.\n"
            "Without one: `marketswarm status`, and `marketswarm status --watch`",
        )
    event_loop.run(_run_top(data))


async def _run_top(data: Path) -> None:
    news: asyncio.Queue[StatusReport | str] = asyncio.Queue()
    news.put_nowait(await read_status_or_why_not(data))
    with tables.open_screen(draw_top, lambda _: None, as_json=False) as show, open_keyboard(news):
        await run_until_first(_show_news(news, show), _read_again(data, news))


async def _show_news(news: asyncio.Queue[StatusReport | str], show: Callable[[Shown], None]) -> None:
    """Show each report and what each key makes of the view, until a key ends that."""
    report, view = StatusReport([], None), View()
    while True:
        arrived = await news.get()
        if isinstance(arrived, StatusReport):
            report = arrived
        elif (pressed := press_key(view, arrived, len(choose_rows(report, view)))) is not None:
            view = pressed
        else:
            return
        show((report, view))


async def _read_again(data: Path, news: asyncio.Queue[StatusReport | str]) -> NoReturn:
    while True:
        await asyncio.sleep(tables.REFRESH_SEC)
        news.put_nowait(await read_status_or_why_not(data))


def press_key(view: View, key: str, row_count: int) -> View | None:
    """Return the view after a key; None if the key ends the program. `row_count` rows match the filter."""
    if key == NamedKey.END:
        return None
    if view.is_typing:
        return _type_filter(view, key)
    if key == "q":
        return None
    if key in ORDERS:
        return replace(view, order=key, is_reversed=key == view.order and not view.is_reversed, first=0)
    if key == "/":
        return replace(view, is_typing=True)
    if key == NamedKey.ESCAPE:
        return replace(view, pattern="", first=0)
    first = 0 if key == NamedKey.HOME else view.first + _STEPS.get(key, 0)
    return replace(view, first=max(0, min(first, row_count - 1)))


def _type_filter(view: View, key: str) -> View:
    if key == NamedKey.ENTER:
        return replace(view, is_typing=False)
    if key == NamedKey.ESCAPE:
        return replace(view, is_typing=False, pattern="", first=0)
    pattern = view.pattern
    if key == NamedKey.BACKSPACE:
        pattern = pattern[:-1]
    elif len(key) == 1:
        pattern = (pattern + key)[:_MAX_FILTER_CHARS]
    return view if pattern == view.pattern else replace(view, pattern=pattern, first=0)


def choose_rows(report: StatusReport, view: View) -> list[ServiceRow]:
    pattern = view.pattern.casefold()
    found = [row for row in report.rows if pattern in row.svc.casefold() or pattern in row.word]
    _, rank = ORDERS[view.order]
    rows = sorted(found, key=lambda row: rank(row, report.notifications.at))
    return rows[::-1] if view.is_reversed else rows


def draw_top(shown: Shown) -> StatusDrawing:
    report, view = shown
    rows = choose_rows(report, view)
    first = min(view.first, max(0, len(rows) - 1))
    return StatusDrawing(report, fit_height=True, rows=rows[first:], footer=_describe_keys(view, first))


def _describe_keys(view: View, above: int) -> Text:
    if view.is_typing:
        typed = f"{escape_text(view.pattern)}_"
        return Text.assemble(("filter: ", "bold"), typed, ("  Enter keeps it, Esc drops it", "dim"))
    line = Text(no_wrap=True, overflow="ellipsis")
    for key, (name, _) in ORDERS.items():
        arrow = " ↑" if view.is_reversed and key == view.order else ""
        line.append(f"{key} {name}{arrow}", "bold" if key == view.order else "dim")
        line.append("  ")
    line.append(f"/ {escape_text(view.pattern) or 'filter'}", "bold" if view.pattern else "dim")
    line.append("  q quit", "dim")
    if above:
        line.append(f"  {above} above", "dim")
    return line
