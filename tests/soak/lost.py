"""Were buses told lost when they were, and only then; and that none was reached? Pure."""

from collections.abc import Iterable
from itertools import pairwise
from math import inf

from soak.ledger import HOME, Ledger
from soak.listening_times import SETTLE_SEC, Hearing
from soak.oracle import HEALER, SLACK_SEC, Account, Told
from soak.stretches import common, longest, total, touching, without

DEAF = "deaf"
NOTICING_SEC = 1.5
"""Until a healer knows that a bus that froze is away."""
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
            _earned(bus, names, miss, hearing, account)
        _owed(bus, [name for name in names if name != bus], misses, hearing, account)
        for name in names:
            _closed(bus, name, [t for t in own if t.bus == name], hearing, account)


def _earned(bus: str, names: list[str], miss: Told, hearing: Hearing, account: Account) -> None:
    ledger = hearing.ledger
    text = f"no fault kept it away for {ledger.bus_timeout_sec:g} s"
    for healer in range(1, ledger.healers + 1):
        if miss.event.get("reason") == DEAF and _hardly_heard(healer, bus, miss.ts, hearing):
            return
        for start, end in hearing.lost_to(healer, bus, settled=SETTLE_SEC):
            if start - EARLY_SEC <= miss.ts - ledger.bus_timeout_sec and miss.ts <= end:
                if not _in_doubt(healer, names, miss.ts, hearing):
                    return
                text = "no bus was reached, or only just again: it was not for that one to be blamed"
    if common([(miss.ts - ledger.bus_timeout_sec, miss.ts)], hearing.stood_still()):
        # whoever was asked may have been as far from an answer as if it were away
        account.counts["bus losses excused"] += 1
        return
    account.find("false", bus, miss.at, text, miss.event)


def _hardly_heard(healer: int, bus: str, at: float, hearing: Hearing) -> bool:
    """Whether half of two timeouts in a row, wherever they begin, may have been lost to that healer."""
    timeout_sec = hearing.ledger.bus_timeout_sec
    span = [(at - 2 * timeout_sec - 2 * EARLY_SEC, at)]
    return total(common(span, hearing.hampered(healer, bus))) >= timeout_sec - EARLY_SEC


def _in_doubt(healer: int, names: list[str], at: float, hearing: Hearing) -> bool:
    """Whether that healer had to look to itself first, and to give the others their time after."""
    timeout_sec = hearing.ledger.bus_timeout_sec
    for start, end in hearing.reached_none(healer, names):
        awake = longest(common([(start, end)], hearing.ran(healer))) >= end - start
        long_enough = end - start >= timeout_sec and awake
        if long_enough and start + NOTICING_SEC < at < end + timeout_sec - EARLY_SEC:
            return True
    return False


def judge_reach(buses: Iterable[str], told: list[Told], hearing: Hearing, account: Account) -> None:
    """Asks whether it was told, and once, that a healer reached no bus at all, and only then."""
    names = list(buses)
    own = {one.event["id"]: one for one in told if one.event["type"] == "reach_gap"}
    gaps = sorted(own.values(), key=lambda one: one.ts)
    account.counts["reach gaps told"] += len(gaps)
    for gap in gaps:
        if not any(_unreached(healer, names, gap, hearing) for healer in _healers(hearing)):
            account.find("false", gap.event["svc"], gap.at, "some bus was within reach", gap.event)
    for one, other in pairwise(gaps):
        if other.ts - other.event["gap_sec"] < one.ts - EARLY_SEC:
            account.find("twice", other.event["svc"], other.at, "the same time without a bus", other.event)
    _owed_reach(names, gaps, hearing, account)


def _unreached(healer: int, names: list[str], gap: Told, hearing: Hearing) -> bool:
    gap_sec = gap.event["gap_sec"]
    found = [(gap.ts - gap_sec, gap.ts)]
    for bus in names:
        found = common(found, hearing.hampered(healer, bus))
    return gap_sec >= hearing.ledger.bus_timeout_sec - EARLY_SEC and total(found) >= gap_sec - EARLY_SEC


def _owed_reach(names: list[str], gaps: list[Told], hearing: Hearing, account: Account) -> None:
    ledger = hearing.ledger
    bound = SLACK_SEC + ledger.lease_sec + 1  # once it is heard again for sure
    nowhere, calm = [(ledger.began, hearing.until)], hearing.could_speak()
    for healer in _healers(hearing):
        nowhere = common(nowhere, hearing.reached_none(healer, names))
        calm = common(calm, hearing.ran(healer))
    for start, end in nowhere:
        if end - start < ledger.bus_timeout_sec + EARLY_SEC:
            continue
        account.counts["reach gaps made"] += 1
        after = common([(end + SETTLE_SEC, hearing.until)], hearing.listened(HOME))
        due = after[0][0] + bound if after else inf
        if longest(common([(start, due)], calm)) < due - start:
            continue  # one that was not there all the time knows less of it
        if any(begin + bound <= finish for begin, finish in after[:1]):
            account.counts["reach gaps owed"] += 1
            if not any(start <= gap.ts <= due for gap in gaps):
                text = f"no bus was reached from {start:.3f} to {end:.3f}, and no reach_gap"
                account.find("missed", HEALER, start, text)


def _healers(hearing: Hearing) -> range:
    return range(1, hearing.ledger.healers + 1)


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
            if miss.event.get("reason") == DEAF:  # the rest of one window, and a good one
                back += 2 * hearing.ledger.bus_timeout_sec
            if back <= finish:
                if end > back:
                    text = f"it was heard again from {begin:.3f}, and no bus_ok on {on} by {back:.3f}"
                    account.find("no ok", bus, back, text, miss.event)
                break
