"""Run `python -m bench`: all benches of ALL, or those that are named, which may be of LONG too."""

import sys
from collections.abc import Callable

from bench import (
    archive,
    bars,
    delay,
    detector,
    feeds,
    footprint,
    garbage,
    gate,
    heard,
    indicators,
    lease,
    market,
    memory,
    notes,
    notify,
    pings,
    scrape,
    start,
    takeover,
)

ALL: dict[str, Callable[[], None]] = {
    "archive": archive.main,
    "bars": bars.main,
    "feeds": feeds.main,
    "heard": heard.main,
    "indicators": indicators.main,
    "delay": delay.main,
    "detector": detector.main,
    "footprint": footprint.main,
    "gate": gate.main,
    "lease": lease.main,
    "market": market.main,
    "notes": notes.main,
    "notify": notify.main,
    "pings": pings.main,
    "start": start.main,
    "scrape": scrape.main,
    "takeover": takeover.main,
}
LONG: dict[str, Callable[[], None]] = {"garbage": garbage.main, "memory": memory.main}

if unknown := [name for name in sys.argv[1:] if name not in ALL | LONG]:
    sys.exit(f"bench: no {', '.join(unknown)}; there are {', '.join(ALL)}, and long ones: {', '.join(LONG)}")
for name in sys.argv[1:] or ALL:
    (ALL | LONG)[name]()
