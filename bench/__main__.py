"""`python -m bench`: all of them, or those named: heard, delay, footprint, start."""

import sys
from collections.abc import Callable

from bench import delay, footprint, heard, start

ALL: dict[str, Callable[[], None]] = {
    "heard": heard.main,
    "delay": delay.main,
    "footprint": footprint.main,
    "start": start.main,
}

for name in sys.argv[1:] or ALL:
    ALL[name]()
