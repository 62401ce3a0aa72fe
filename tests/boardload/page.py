"""`python -m boardload.page ORDER`: one page of a board with many services, which the bench `board` runs.

It measures how soon the page is painted, how soon it shows what changes and what its user does, what it takes
of memory, and what the board takes while others follow, too. ORDER is an `Order` as JSON; a line of JSON is
printed.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import redis
from playwright.sync_api import Browser, Page

from bench.programs import Usage, answer, find_tree, pss_mb
from boardload.followers import Followers
from boardload.run import (
    ARE_UP,
    BEATS,
    LAST_FRAME,
    WATCH,
    Load,
    Plan,
    match_events,
    swing_services,
)
from support.rig.beater import Beater
from support.rig.browser import Tab, open_browser
from support.waiting import until

VIEWERS = 20
PAINTS = 5
ACTIONS = 10
"""How often each action is done."""
SILENCES = 8
"""Fewer than a token may set at once."""
CHANGING = [f"changing{n}" for n in range(6)]
"""They go and come in turn. The page is in the order of names, so they are in sight."""
FRAME = f"""async () => {{
  const begun = performance.now();
  await ({LAST_FRAME})();
  return performance.now() - begun;
}}"""
PAINTED = """() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime"""
ACT = f"""async ([name, value]) => {{
  const begun = performance.now();
  const input = document.getElementById("find").elements[name];
  input.value = value;
  input.dispatchEvent(new Event("input", {{ bubbles: true }}));
  while (document.getElementById("main").ariaBusy) await new Promise((done) => setTimeout(done));
  await ({LAST_FRAME})();
  return performance.now() - begun;
}}"""
ACTS = (
    ("text", "svc0001"),
    ("text", ""),
    ("sort", "silence"),
    ("states", "down"),
    ("states", ""),
    ("sort", "name"),
)


@dataclass(frozen=True, slots=True)
class Order:
    """What to look at: the URLs of a page with a word, of the board, and of its bus.

    `pid` is the board's, `token` one that may set silences, and `seconds` how long services go and come.
    """

    bare: str
    board: str
    bus: str
    pid: int
    token: str
    seconds: float


@dataclass(slots=True)
class Measured:
    """What was measured: milliseconds, megabytes, and shares of a core in percent."""

    bare_paint_ms: list[float] = field(default_factory=list)
    bare_frame_ms: list[float] = field(default_factory=list)
    bare_mb: float = 0.0
    paint_ms: list[float] = field(default_factory=list)
    live_ms: list[float] = field(default_factory=list)
    mb: float = 0.0
    heap_mb: float = 0.0
    act_ms: list[float] = field(default_factory=list)
    silence_ms: list[float] = field(default_factory=list)
    change_ms: list[float] = field(default_factory=list)
    unseen: int = 0
    quiet_percent: float = 0.0
    changing_percent: float = 0.0


def measure_page(order: Order) -> Measured:
    found, board, seconds = Measured(), order.board, order.seconds
    beater = Beater({"url": order.bus, "witness": True, **BEATS})
    with contextlib.closing(beater), open_browser() as browser:
        _look_at_bare(found, browser, order.bare)
        beater.restart(*CHANGING)
        _paint(found, browser, board)
        page = Tab(browser).open(f"{board}/?sort=name")
        until(lambda: page.evaluate(ARE_UP, CHANGING), what="all services to be up")
        with Followers(board, VIEWERS) as viewers:
            until(lambda: viewers.are_connected, what="all viewers to follow")
            usage = Usage(order.pid)
            page.wait_for_timeout(1000 * seconds / 2)
            found.quiet_percent = usage.percent()
            usage = Usage(order.pid)
            _change(found, page, beater, order)
            found.changing_percent = usage.percent()
            _act(found, page)
            _silence(found, board, order.token)
        _weigh(found, page)
    return found


def _look_at_bare(found: Measured, browser: Browser, url: str) -> None:
    for _ in range(PAINTS):
        tab = Tab(browser)
        page = tab.open(url, live=False)
        found.bare_paint_ms.append(until(lambda page=page: page.evaluate(PAINTED)))
        found.bare_frame_ms += [page.evaluate(FRAME) for _ in range(ACTIONS)]
        found.bare_mb = _find_renderer_mb()
        tab.close()


def _paint(found: Measured, browser: Browser, url: str) -> None:
    """Open the board as somebody does who has nothing of it in the cache."""
    for _ in range(PAINTS):
        tab = Tab(browser)
        begun = time.monotonic()
        page = tab.open(url)
        page.evaluate(LAST_FRAME)
        found.live_ms.append(1000 * (time.monotonic() - begun))
        found.paint_ms.append(page.evaluate(PAINTED))
        tab.close()


def _change(found: Measured, page: Page, beater: Beater, order: Order) -> None:
    """Let services go and come, and note how long after the event each change was painted."""
    load, seconds = Load(Plan(seconds=order.seconds)), order.seconds
    page.evaluate(WATCH)
    with redis.Redis.from_url(order.bus) as client:
        after = client.xinfo_stream("healer:alerts:log")["last-generated-id"].decode()
        begun = time.monotonic()
        while (now := time.monotonic() - begun) < seconds:
            swing_services(beater, CHANGING, now, seconds)
            page.wait_for_timeout(100)
        beater.resume(*CHANGING)
        until(lambda: page.evaluate(ARE_UP, CHANGING), what="all services to be up again")
        entries = client.xrange("healer:alerts:log", f"({after}")
    page.evaluate(LAST_FRAME)
    events: list[dict[str, Any]] = [orjson.loads(fields[b"event"]) for _, fields in entries]
    match_events(load, page.evaluate("window.turned"), events)
    found.change_ms, found.unseen = [1000 * sec for sec in load.pixel_sec], len(load.unseen)


def _act(found: Measured, page: Page) -> None:
    for _ in range(ACTIONS):
        found.act_ms += [page.evaluate(ACT, list(each)) for each in ACTS]


def _silence(found: Measured, board: str, token: str) -> None:
    body = {"services": [CHANGING[0]], "for_sec": 60, "reason": "bench"}
    with httpx.Client(base_url=board, headers={"Authorization": f"Bearer {token}"}) as client:
        for _ in range(SILENCES):
            begun = time.monotonic()
            client.post("/api/v1/silences", json=body).raise_for_status()
            found.silence_ms.append(1000 * (time.monotonic() - begun))


def _weigh(found: Measured, page: Page) -> None:
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    metrics = session.send("Performance.getMetrics")
    found.heap_mb = (
        next(each["value"] for each in metrics["metrics"] if each["name"] == "JSHeapUsedSize") / 1e6
    )
    found.mb = _find_renderer_mb()


def _find_renderer_mb() -> float:
    """Return the memory (PSS) of the largest process of the browser that shows a page."""
    return max(map(pss_mb, _find_renderers()))


def _find_renderers() -> Iterator[int]:
    for pid in find_tree(os.getpid()):
        with contextlib.suppress(OSError):
            if b"--type=renderer" in Path(f"/proc/{pid}/cmdline").read_bytes():
                yield pid


if __name__ == "__main__":
    answer(asdict(measure_page(Order(**json.loads(sys.argv[1])))))
