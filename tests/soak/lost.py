"""Were buses told lost when they were, and only then? Pure."""

from collections.abc import Iterable
from math import inf

from soak.hearing import SETTLE_SEC, Hearing
from soak.ledger import HOME, Ledger
from soak.oracle import SLACK_SEC, Account, Told
from soak.stretches import common, longest, touching, without

EARLY_SEC = 0.5
"""A fault is written down once it is made: its effect may be a little older."""


def judge_buses(buses: Iterable[str], told: list[Told], hearing: Hearing, account: Account) -> None:
    """Asks each bus; what was told of it counts whichever bus took it."""
    names = list(buses)
    for bus in names:
        own = [t for t in told if t.event["svc"] == bus and t.event["type"].startswith("bus_")]
        events = sorted({t.event["id"]: t for t in own}.values(), key=lambda one: one.ts)
        misses = [one for one in events if one.what == "miss"]
        account.counts["bus losses told"] += len(misses)
        for miss in misses:
            _earned(bus, miss, hearing, account)
        _owed(bus, [name for name in names if name != bus], misses, hearing, account)
        for name in names:
            _closed(bus, name, [t for t in own if t.bus == name], hearing, account)


def _earned(bus: str, miss: Told, hearing: Hearing, account: Account) -> None:
    ledger = hearing.ledger
    for healer in range(1, ledger.healers + 1):
        for start, end in hearing.lost_to(healer, bus, settled=SETTLE_SEC):
            if start - EARLY_SEC <= miss.ts - ledger.bus_timeout_sec and miss.ts <= end:
                return
    text = f"no fault kept it away for {ledger.bus_timeout_sec:g} s"
    account.find("false", bus, miss.at, text, miss.event)


def _owed(bus: str, others: list[str], misses: list[Told], hearing: Hearing, account: Account) -> None:
    ledger = hearing.ledger
    bound = ledger.bus_timeout_sec + SLACK_SEC
    if bus == HOME:  # the other bus decides by itself who leads, once that one is known to be away
        bound += ledger.lease_sec + 1
    speaking = hearing.could_speak()
    for start, end in hearing.lost(bus):
        account.counts["bus losses made"] += 1
        told = any(start <= miss.ts <= end + SETTLE_SEC for miss in misses)
        heard = common([(start, end)], speaking)
        for other in others:
            heard = common(heard, hearing.takes(other))
            for healer in range(1, ledger.healers + 1):
                heard = common(heard, _reached(hearing, ledger, healer, other))
        if longest(heard) >= bound:
            account.counts["bus losses owed"] += 1
            if not told and not _down_before(misses, start):
                account.find("missed", bus, start, f"away from {start:.3f} to {end:.3f}, and no bus_miss")


def _reached(hearing: Hearing, ledger: Ledger, healer: int, bus: str) -> list[tuple[float, float]]:
    return without([(ledger.began, hearing.until)], hearing.lost_to(healer, bus, settled=SETTLE_SEC))


def _down_before(misses: list[Told], start: float) -> bool:
    """A loss that began before it was over with the one before: it was told as one."""
    return any(start - 2 * SETTLE_SEC <= miss.ts <= start for miss in misses)


def _closed(bus: str, on: str, events: list[Told], hearing: Hearing, account: Account) -> None:
    for index, miss in enumerate(events):
        if miss.what != "miss":
            continue
        end = events[index + 1].at if index + 1 < len(events) else inf
        both = common(hearing.listened(bus), hearing.listened(on))
        for begin, finish in touching(both, miss.at, hearing.until):
            back = max(begin, miss.at) + SLACK_SEC
            if back <= finish:
                if end > back:
                    text = f"it was heard again from {begin:.3f}, and no bus_ok on {on} by {back:.3f}"
                    account.find("no ok", bus, back, text, miss.event)
                break
