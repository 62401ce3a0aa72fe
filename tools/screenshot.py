"""Make the pictures of the board in docs/ from a fleet that really runs: `tools/screenshot.py`.

Start the fleet of truth.json on free ports, with beats every second, and stop one of its services. The days
before are made up: they are written into the history of the board, because a picture can't wait for a year.

The pictures have a palette, so that they are small: board-light.png, board-dark.png.
"""

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import sync_playwright
from png_palette import reduce_colours

from marketswarm.bus import Bus, BusError
from marketswarm.event import Event, Kind, make_event_id
from marketswarm.history.fleet_history import KEPT_HOURS, FleetHistory
from marketswarm.history.listening import Listening
from marketswarm.history.rollup import HOUR_SEC
from marketswarm.history.spans import KnownState
from marketswarm.history.store import StoredHistory, read_history, write_history
from marketswarm.truth import SYSTEM, parse_truth

ROOT: Final = Path(__file__).parent.parent
DOCS: Final = ROOT / "docs"
PROGRAM: Final = Path(sys.executable).with_name("marketswarm")
SIZE: Final = (1280, 520)
MAX_BYTES: Final = 60_000
INTERVAL_SEC: Final = 1.0
DOWN: Final = "rss_agg"
"""The service that is stopped."""
OUTAGES: Final[Mapping[str, tuple[tuple[float, float], ...]]] = {
    "rss_agg": ((3, 900), (700, 5400)),
    "massive": ((0.6, 150), (140, 1800)),
    "vexy_ai": ((0.3, 40), (9, 1500), (2200, 9000)),
    "mesh": ((410, 720),),
    "notifier": ((5300, 3000),),
}
"""When each service was down: how many hours ago that ended, and how many seconds it took."""
UNHEARD: Final = ((300, 9 * HOUR_SEC),)
"""When no healer listened, in the same way."""
WITHIN_SEC: Final = 120.0


def main() -> int:
    """Return 1 if a picture is too large."""
    with tempfile.TemporaryDirectory() as folder, run_fleet(Path(folder)) as (port, url):
        wait_until(lambda: all(one["state"] == "up" for one in read_services(url)), "all to be up")
        asyncio.run(make_up_history(f"redis://127.0.0.1:{port}"))
        subprocess.run([PROGRAM, "stop", DOWN, "--data", Path(folder) / "data"], check=True)
        wait_until(lambda: is_ready(read_services(url)), "the history and the outage to be shown")
        pictures = {scheme: reduce_colours(take_picture(url, scheme)) for scheme in ("light", "dark")}
    for scheme, picture in pictures.items():
        (DOCS / f"board-{scheme}.png").write_bytes(picture)
        print(f"docs/board-{scheme}.png: {len(picture)} bytes")
    return int(any(len(picture) > MAX_BYTES for picture in pictures.values()))


@contextlib.contextmanager
def run_fleet(folder: Path) -> Iterator[tuple[int, str]]:
    """Run the fleet until the context ends; yield the port of system-redis and the board's URL."""
    port, board_port = find_ports()
    document = json.loads((ROOT / "truth.json").read_text(encoding="utf-8"))
    document["fleet"] = "example"
    for service in document["services"].values():
        service["heartbeat"]["interval_sec"] = INTERVAL_SEC
    (folder / "truth.json").write_text(json.dumps(document), encoding="utf-8")
    options = ["--truth", str(folder / "truth.json"), "--data", str(folder / "data")]
    command = [str(PROGRAM), "up", *options, "--port", str(port), "--board-port", str(board_port)]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as fleet:
        try:
            yield port, f"http://127.0.0.1:{board_port}"
        finally:
            fleet.terminate()


def find_ports() -> tuple[int, int]:
    """Return a free port whose successor is free too, and another free port."""
    while True:
        with contextlib.ExitStack() as stack:
            first, second, other = (stack.enter_context(socket.socket()) for _ in range(3))
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                other.bind(("127.0.0.1", 0))
                return port, other.getsockname()[1]


def wait_until(is_true: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds. Raise TimeoutError after WITHIN_SEC."""
    deadline = time.monotonic() + WITHIN_SEC
    while True:
        with contextlib.suppress(OSError):
            if is_true():
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {WITHIN_SEC:g} s for {what}")
        time.sleep(0.2)


def read_services(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{url}/api/v1/services", timeout=5) as answer:  # noqa: S310 - our own board
        found: list[dict[str, Any]] = json.load(answer)
        return found


def is_ready(services: list[dict[str, Any]]) -> bool:
    """Return True if the board shows the outage, and the year that was made up."""
    return all(
        one["state"] == ("down" if one["svc"] == DOWN else "up")
        and (one["uptime"].get("1y") or {}).get("unknown_sec") == sum(sec for _, sec in UNHEARD)
        for one in services
        if one["svc"] != "healer"
    )


async def make_up_history(url: str) -> None:
    """Write a history of a year as a second board would: the board reads it when it writes next."""
    bus = Bus(SYSTEM, url)
    try:
        truth = parse_truth((ROOT / "truth.json").read_bytes()).truth
        bus_of = {svc: truth.bus_of(svc) for svc in truth.services}
        deadline = time.monotonic() + WITHIN_SEC
        while time.monotonic() < deadline:
            stored = await read_history(bus, int(time.time()))
            if stored is not None:
                history = make_history(bus_of, int(time.time()))
                if await write_history(bus, StoredHistory(history, b"", stored.version), stored.position):
                    return
        raise TimeoutError(f"the board has written no history within {WITHIN_SEC:g} s")
    finally:
        with contextlib.suppress(BusError):
            await bus.aclose()


def make_history(bus_of: Mapping[str, str], now: int) -> FleetHistory:
    """Return the history of the longest time that is kept, up to now."""
    first = now // HOUR_SEC - KEPT_HOURS + 1
    history = FleetHistory(first, Listening(now))
    for svc in history.follow(bus_of, 30.0, first * HOUR_SEC):
        history.adopt(svc, KnownState.UP, first * HOUR_SEC - 1)
    for svc, outages in OUTAGES.items():
        for hours_ago, sec in outages:
            history.apply_event(make_recovery(svc, now - hours_ago * HOUR_SEC, sec))
    for hours_ago, sec in UNHEARD:
        end = now - hours_ago * HOUR_SEC
        history.mark_unheard(end - sec, end)
    target = history.due_hour(now)
    list(history.finish_in_steps(target))
    history.changes.services |= history.services.keys()
    return history


def make_recovery(svc: str, ts: float, down_sec: float) -> Event:
    kind = Kind.HEARTBEAT_OK
    ident = make_event_id(kind, svc, ts)
    return Event(kind, svc, ts, ident, "healer", down_sec=down_sec, since=ts - down_sec)


def take_picture(url: str, scheme: str) -> bytes:
    """Return the page of the fleet as a PNG, in the theme `light` or `dark`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium-headless-shell") or shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu"],
        )
        width, height = SIZE
        page = browser.new_page(
            color_scheme="dark" if scheme == "dark" else "light",
            viewport={"width": width, "height": height},
            timezone_id="UTC",
        )
        page.goto(url)
        page.wait_for_selector("body.live")
        return page.screenshot()


if __name__ == "__main__":
    sys.exit(main())
