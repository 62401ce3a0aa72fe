"""`python -m bench`: all of ALL, or those that are named, of LONG too."""

import sys
from collections.abc import Callable

from bench import delay, footprint, garbage, heard, lease, memory, notify, scrape, start

ALL: dict[str, Callable[[], None]] = {
    "heard": heard.main,
    "delay": delay.main,
    "footprint": footprint.main,
    "lease": lease.main,
    "notify": notify.main,
    "start": start.main,
    "scrape": scrape.main,
}
LONG: dict[str, Callable[[], None]] = {"garbage": garbage.main, "memory": memory.main}

for name in sys.argv[1:] or ALL:
    (ALL | LONG)[name]()
