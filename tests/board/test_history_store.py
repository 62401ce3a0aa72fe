"""What a history costs on a real server, as docs/history.md says."""

import time

from marketswarm.beat import Beat
from marketswarm.history.fleet_history import PERIOD_HOURS
from marketswarm.history.rollup import HOUR_SEC, Run
from marketswarm.history.spans import KnownState
from marketswarm.history.store import begin_history, read_history, write_history
from support.pages import table

MANY = 600  # more than a hash of Redis holds in its short form
YEAR_HOURS = 365 * 24
CASES = (
    ("is always up", [], MANY),
    ("is down ten minutes a day", [(9, 600)], 100),
    ("is down for a part of every hour", [(hour, 60 + hour) for hour in range(24)], 10),
)
"""Which hours of each day a service is down, as (hour, seconds), and how many services there are."""
NOW_HOUR = int(time.time()) // HOUR_SEC


def name_services(count):
    return [f"service_{n:05}" for n in range(count)]


def make_history(hours_of_a_day, count):
    """Return a year of some services: each day has these hours, as (hour, seconds down)."""
    begin = NOW_HOUR - YEAR_HOURS
    stored = begin_history(begin * HOUR_SEC)
    history = stored.history
    history.follow(dict.fromkeys(name_services(count), "system-redis"), 30.0, begin * HOUR_SEC)
    for n, name in enumerate(name_services(count)):
        history.adopt(name, KnownState.UP, begin * HOUR_SEC - 3600.0)
        runs = [
            Run(begin + day * 24 + hour, 1, down + (day + n) % 50, 0)
            for day in range(365)
            for hour, down in hours_of_a_day
        ]
        if runs:
            history.hours[name] = runs
            history.changes.hours |= {(name, run.hour // PERIOD_HOURS) for run in runs}
    history.hear_healer(Beat("healer", 1, 0.0, boot="one", every=float(2**40)), NOW_HOUR * HOUR_SEC)
    list(history.finish_in_steps(NOW_HOUR))
    return stored


async def measure(server, bus, hours_of_a_day, count):
    """Return the bytes of a service and a year."""
    assert await write_history(bus, make_history(hours_of_a_day, count), b"1-1")
    keys = server.cmd("KEYS", "board:*")
    used = sum(server.cmd("MEMORY", "USAGE", key, "SAMPLES", 0) for key in keys)
    return used / count


async def test_a_service_costs_as_many_bytes_in_a_year_as_the_page_says_and_they_expire(server, bus):
    rows = {line[0]: line[1] for line in table("docs/history.md", "What it costs")}
    for row, hours_of_a_day, count in CASES:
        server.cmd("FLUSHALL")
        number, unit = rows[row].split()
        most = float(number) * {"bytes": 1, "kB": 1000}[unit]
        found = await measure(server, bus, hours_of_a_day, count)
        assert most / 2 < found <= most, f"{row}: {found:.0f} bytes"
        stored = await read_history(bus, int(time.time()))
        assert len(stored.history.hours) == (count if hours_of_a_day else 0)
        for key in server.cmd("KEYS", "board:history:hours:*"):
            period = int(key.rpartition(":")[2])
            assert server.cmd("EXPIRETIME", key) == period * PERIOD_HOURS * HOUR_SEC + 400 * 86_400
