"""A load on the board of a real fleet: browsers that follow, services that go and come, pings, a real page.

What has to hold is in `Load.find_faults`. The board may be killed in between: the browsers come back by
themselves, and whoever misses nothing afterwards has lost nothing.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import psutil
from playwright.sync_api import Page

from boardload.followers import Followers
from boardload.pings import Pings, name_jobs
from support.rig import Fleet, free_port
from support.rig.beater import Beater
from support.rig.browser import Tab, open_browser
from support.waiting import until

BEATS = {"interval_sec": 0.3, "timeout_sec": 1.5}
JOB = {"interval_sec": 30, "timeout_sec": 120}
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MAX_RSS_MB = 120.0
MAX_PIXEL_SEC = 0.5
MIN_PING_SHARE = 0.98
"""Which share of the planned pings a second must be acknowledged, without those that met a killed board."""
FULL_SHARE = 0.95
"""Which share of the machine's processor time has to be taken for it to be at its limit."""
MAX_BOARD_SHARE = 0.9
"""Which share of a core a board takes at most that a full machine, and not its own work, holds back."""
DOWN_SEC = 3.0
"""How long a service is silent, and then beats."""
LAST_FRAME = "() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))"
WATCH = """() => {
  const shown = new Map();
  window.turned = [];
  const look = () => {
    for (const row of document.querySelectorAll("#rows tr[data-svc]")) {
      const state = row.className.split(" ")[0];
      if (shown.get(row.dataset.svc) === state) continue;
      const isFirst = !shown.has(row.dataset.svc);
      shown.set(row.dataset.svc, state);
      // after the next frame was painted
      if (!isFirst) requestAnimationFrame(() => setTimeout(() =>
        window.turned.push([row.dataset.svc, state, Date.now() / 1000])));
    }
  };
  look();
  new MutationObserver(look).observe(
    document.getElementById("rows"), { subtree: true, childList: true, attributes: true });
  window.links = [];
  new MutationObserver(() => window.links.push([document.body.dataset.link, Date.now() / 1000])).observe(
    document.body, { attributeFilter: ["data-link"] });
}"""
BACK_AT = """killed => {
  const lost = window.links.findIndex(([link, at]) => link === "stale" && at > killed);
  return window.links.slice(lost + 1).find(([link]) => lost >= 0 && link === "live")?.[1];
}"""
"""When the page was live again after the board was killed at that time, both in epoch seconds."""
ARE_UP = """names => names.every(name =>
  document.querySelector(`#rows tr[data-svc="${name}"]`)?.classList.contains("up"))"""
WORDS = {"heartbeat_miss": "down", "heartbeat_ok": "up"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done: for how long, how many browsers, services and pings a second; is the board killed?"""

    seconds: float = 300.0
    browsers: int = 100
    services: int = 8
    pings: float = 0.0
    kill: bool = False


@dataclass(slots=True)
class Load:
    """What was seen."""

    plan: Plan
    rss_mb: list[float] = field(default_factory=list)
    pixel_sec: list[float] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    events: int = 0
    followers: Followers | None = None
    pings: Pings | None = None
    cpu_sec: float = 0.0
    machine_share: float = 0.0
    """Which share of the machine's processor time was taken, by all that ran on it."""
    killed_at: float | None = None
    back_at: float | None = None

    def is_away(self, moment: float) -> bool:
        """Return True if the page could not show what happened then, in epoch seconds, at once."""
        # what happened shortly before may have died with the board
        return self.killed_at is not None and self.killed_at - 3 <= moment <= (self.back_at or moment)

    @property
    def is_held_back(self) -> bool:
        """True if the machine had no processor time left, and the board was not what took it.

        How many pings are acknowledged a second then tells what this machine can send, and nothing about the
        board: what a ping costs it is measured by `bench/pings.py`, beside a bare server.
        """
        return self.machine_share >= FULL_SHARE and self.cpu_sec < MAX_BOARD_SHARE * self.plan.seconds

    def delays(self) -> list[float]:
        """Seconds from an event until a follower had it; without those that came after the board was away."""
        seen = self.followers.seen if self.followers else []
        return sorted(delay for each in seen for delay in each.delays)

    def find_faults(
        self, max_pixel_sec: float = MAX_PIXEL_SEC, min_ping_share: float = MIN_PING_SHARE
    ) -> Iterator[str]:
        """Yield what should not be so, a line each."""
        seen = self.followers.seen if self.followers else []
        if lost := sum(each.lost for each in seen):
            yield f"{lost} events of the stream did not reach a browser"
        lives = 2 if self.plan.kill else 1
        if again := sum(each.connections > 10 * lives for each in seen):
            yield f"{again} browsers lost their stream again and again"
        if not self.plan.kill and len({frozenset(each.alerts) for each in seen}) != 1:
            yield "not all browsers got the same alerts"
        if self.plan.kill and self.back_at is None:
            yield "the page did not come back after the board was killed"
        if any(each.resets != lives for each in seen):
            yield "a browser did not begin once with each board"
        if self.unseen:
            which = ", ".join(self.unseen[:5])
            yield f"{len(self.unseen)} events of {self.events} never reached the page: {which}"
        if self.pings is not None:
            yield from self._find_ping_faults(self.pings, min_ping_share * self.plan.pings)
        if max(self.rss_mb) > MAX_RSS_MB:
            yield f"the board took {max(self.rss_mb):.0f} MB, more than {MAX_RSS_MB:.0f}"
        if find_quantile(self.pixel_sec, 0.95) > max_pixel_sec:
            p95 = find_quantile(self.pixel_sec, 0.95)
            yield f"event to pixel: p95 {p95:.3f} s, more than {max_pixel_sec}"

    def _find_ping_faults(self, pings: Pings, min_per_sec: float) -> Iterator[str]:
        """Yield what should not be so with the pings."""
        if pings.lost:
            yield f"{len(pings.lost)} acknowledged pings are not on the bus"
        if not pings.acknowledged:
            yield "no ping was acknowledged"
        if refused := sum(count for status, count in pings.answers.items() if status not in (0, 200, 503)):
            yield f"{refused} pings were refused"
        if self.plan.kill and pings.seconds:
            # those that met no board, or one that has not read its keys yet
            min_per_sec -= (pings.answers[0] + pings.answers[503]) / pings.seconds
        if pings.per_sec < min_per_sec and not self.is_held_back:
            yield f"pings: {pings.per_sec:.0f} a second were acknowledged, fewer than {min_per_sec:.0f}"

    def describe(self) -> Iterator[str]:
        """Yield the figures, a line each."""
        seen, delays = self.followers.seen if self.followers else [], self.delays()
        yield f"events         {self.events} of the healer, {self.events / self.plan.seconds:.1f} a second"
        yield (
            f"browsers       {len(seen)}: {sum(each.events for each in seen)} events of the stream, "
            f"{sum(each.lost for each in seen)} lost, {sum(each.connections for each in seen)} connections, "
            f"{sum(each.pages for each in seen)} pages"
        )
        yield (
            f"event to page  median {find_quantile(self.pixel_sec, 0.5):.3f} s, "
            f"p95 {find_quantile(self.pixel_sec, 0.95):.3f} s, "
            f"at worst {find_quantile(self.pixel_sec, 1):.3f} s, "
            f"of {len(self.pixel_sec)}"
        )
        yield (
            f"to a browser   median {find_quantile(delays, 0.5):.3f} s, "
            f"p95 {find_quantile(delays, 0.95):.3f} s"
        )
        if self.killed_at is not None and self.back_at is not None:
            yield f"killed         the page was live again after {self.back_at - self.killed_at:.1f} s"
        if self.pings is not None:
            count = len(self.pings.acknowledged)
            yield (
                f"pings          {count} acknowledged, {self.pings.per_sec:.0f} a second, "
                f"{len(self.pings.lost)} of them lost; answers by status {dict(self.pings.answers)}"
            )
        yield f"memory         {self.rss_mb[0]:.1f} MB at first, {max(self.rss_mb):.1f} MB at most"
        yield (
            f"processor      {100 * self.cpu_sec / self.plan.seconds:.0f} % of a core; "
            f"of the machine {100 * self.machine_share:.0f} % were taken"
        )
        if self.plan.pings and self.is_held_back:
            yield "held back      by the machine: how many pings a second were acknowledged is not judged"


def find_quantile(values: list[float], share: float) -> float:
    """Return the value below which this share of the values is; infinity without any."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("inf")


def run_load(plan: Plan, folder: Path, say: Callable[[str], None]) -> Load:
    """Run a fleet under load, and return what was seen."""
    names = [f"svc{n}" for n in range(plan.services)]
    sections = {name: {"heartbeat": BEATS} for name in ["healer", "board", *names]}
    sections |= {name: {"heartbeat": JOB} for name in (name_jobs(plan.pings) if plan.pings else ())}
    port, load = free_port(), Load(plan)
    with contextlib.ExitStack() as ends:
        env = {"BOARD_PORT": str(port)}
        fleet = ends.enter_context(Fleet(folder, {"services": sections}, ["healer", "board"], env))
        beater = Beater({"url": fleet.system.url, "witness": True, **BEATS})
        ends.callback(beater.close)
        beater.restart(*names)
        tab = Tab(ends.enter_context(open_browser()))
        url = f"http://127.0.0.1:{port}"
        until(lambda: _is_ready(url), what=lambda: str(fleet["board"]))
        page = tab.open(url)
        until(lambda: page.evaluate(ARE_UP, names), what="all services to be up")
        load.followers = ends.enter_context(Followers(url, plan.browsers))
        until(lambda: load.followers and load.followers.are_connected, what="all browsers to follow")
        for each in load.followers.seen:
            each.alerts.clear()  # of the time before all followed
        page.evaluate(WATCH)
        say(f"{plan.browsers} browsers follow {plan.services} services for {plan.seconds:.0f} s")
        before = len(fleet.alerts.of())
        with contextlib.ExitStack() as pinging:
            if plan.pings:
                load.pings = pinging.enter_context(Pings(url, fleet.system.url, plan.pings))
            _make_events(load, fleet, beater, names, page)
            if load.killed_at:
                with contextlib.suppress(AssertionError):  # `find_faults` says so
                    load.back_at = until(lambda: page.evaluate(BACK_AT, load.killed_at))
        until(lambda: page.evaluate(ARE_UP, names), what="all services to be up again")
        events = fleet.alerts.of()[before:]
        page.evaluate(LAST_FRAME)
        match_events(load, page.evaluate("window.turned"), events)
    return load


def _make_events(load: Load, fleet: Fleet, beater: Beater, names: list[str], page: Page) -> None:
    """Stop and resume services in turn until the time is over; all of them beat at the end."""
    plan, begun, cpu = load.plan, time.monotonic(), _read_cpu(fleet["board"].pid)
    psutil.cpu_percent()  # the next call is about the time since this one
    while (now := time.monotonic() - begun) < plan.seconds:
        swing_services(beater, names, now, plan.seconds)
        load.rss_mb.append(_read_rss(fleet["board"].pid))
        if plan.kill and load.killed_at is None and now > plan.seconds / 2:
            load.killed_at = time.time()
            load.cpu_sec += _read_cpu(fleet["board"].pid) - cpu
            fleet["board"].kill()
            fleet.start("board")
            cpu = 0.0
        page.wait_for_timeout(100)  # the browser needs this thread
    load.machine_share = psutil.cpu_percent() / 100
    beater.resume(*names)
    load.cpu_sec += _read_cpu(fleet["board"].pid) - cpu


def swing_services(beater: Beater, names: list[str], now: float, seconds: float) -> None:
    """Stop and resume services in turn: call this again and again, `now` seconds after the begin.

    All beat in the end of the `seconds`.
    """
    for n, name in enumerate(names):
        is_down = (now + 2 * DOWN_SEC * n / len(names)) % (2 * DOWN_SEC) < DOWN_SEC
        (beater.stop if is_down and now < seconds - DOWN_SEC else beater.resume)(name)


def match_events(load: Load, turned: list[tuple[str, str, float]], events: list[dict[str, Any]]) -> None:
    """Set how long each event took to the page, and how many never came.

    What happens while the page is away is not owed to it. The next event of that service is seen only if the
    page came back before its board knew of that one, too. Neither is a state owed that was over before the
    page had to show it. What the page shows after the service's next event of the same kind belongs to that
    one.
    """
    left = list(turned)
    changed_unseen: set[str] = set()
    for index, event in enumerate(events):
        svc, state = event["svc"], WORDS.get(event["type"])
        if state is None:
            continue
        if load.is_away(event["ts"]):
            changed_unseen.add(svc)
            continue
        later = [each for each in events[index + 1 :] if each["svc"] == svc and each["type"] in WORDS]
        over_at = next((each["ts"] for each in later if each["type"] != event["type"]), float("inf"))
        again = next((each["ts"] for each in later if each["type"] == event["type"]), float("inf"))
        found = next(
            (each for each in left if (each[0], each[1]) == (svc, state) and event["ts"] <= each[2] < again),
            None,
        )
        if found is not None:
            load.events += 1
            left.remove(found)
            load.pixel_sec.append(found[2] - event["ts"])
        elif over_at - event["ts"] < MAX_PIXEL_SEC:
            changed_unseen.add(svc)
            continue
        elif svc not in changed_unseen:
            load.events += 1
            away_sec = event["ts"] - (load.back_at or event["ts"])
            load.unseen.append(f"{svc} {state}, {away_sec:+.2f} s from when it was live again")
        changed_unseen.discard(svc)


def _is_ready(url: str) -> bool:
    """Return True if the board answers, and has read the fleet."""
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/readyz", timeout=5).status_code == HTTPStatus.OK
    return False


def _read_rss(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * PAGE_BYTES / 1e6


def _read_cpu(pid: int) -> float:
    """Return the seconds of processor time that a process took."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
