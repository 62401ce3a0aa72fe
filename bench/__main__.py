"""`python -m bench`: all of them, or those named: heard, delay, footprint, lease, start, scrape."""

import sys
from collections.abc import Callable

from bench import delay, footprint, heard, lease, scrape, start

ALL: dict[str, Callable[[], None]] = {
    "heard": heard.main,
    "delay": delay.main,
    "footprint": footprint.main,
    "lease": lease.main,
    "start": start.main,
    "scrape": scrape.main,
}

for name in sys.argv[1:] or ALL:
    ALL[name]()
