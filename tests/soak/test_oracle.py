"""The oracle finds each planted mistake, and excuses what no healer could have known."""

from collections.abc import Callable
from typing import Any

from soak.account import judge
from soak.ledger import HOME, Ledger, Terms
from soak.oracle import Account, Told

MARKET = "market-redis"
T, W, INTERVAL = 2.0, 1.5, 0.5
END = 200.0


class Story:
    """A ledger and a history: `alpha` beats from 0 to 200 but where it is silent."""

    def __init__(self, *silences: tuple[float, float], healers: int = 1, svc: str = "alpha") -> None:
        self.ledger = Ledger(healers=healers)
        self.ledger.agreed(Terms(svc, HOME, INTERVAL, T, 0.0))
        self.told: list[Told] = []
        self.count = 0
        at = 0.0
        while at < END:
            if not any(start < at < end for start, end in silences):
                self.ledger.of(svc).add(at, at + 0.01)
            at += INTERVAL

    def tell(self, kind: str, at: float, svc: str = "alpha", bus: str = HOME, **more: Any) -> None:
        self.count += 1
        event = {"type": kind, "svc": svc, "ts": at - 0.01, "id": f"id{self.count}", **more}
        self.told.append(Told(bus, at, event))

    def outage(self, miss: float, ok: float | None, svc: str = "alpha") -> None:
        self.tell("heartbeat_miss", miss, svc, timeout_sec=T)
        if ok is not None:
            self.tell("heartbeat_ok", ok, svc, down_sec=1.0)

    def broke(self, kind: str, target: str, start: float, end: float) -> None:
        self.ledger.broke(kind, target, start).end = end

    def bus_loss(self, miss: float, ok: float, bus: str = MARKET, **more: Any) -> None:
        self.tell("bus_miss", miss, MARKET, bus, **more)
        self.tell("bus_ok", ok, MARKET, bus)

    def judge(self) -> Account:
        return judge(self.ledger, self.told, END)

    def kinds(self) -> list[str]:
        return [finding.kind for finding in self.judge().findings]


Tell = Callable[[Story], None]


def outage(miss: float, ok: float | None, svc: str = "alpha") -> Tell:
    return lambda story: story.outage(miss, ok, svc)


def told(kind: str, at: float, svc: str = "alpha", **more: Any) -> Tell:
    return lambda story: story.tell(kind, at, svc, **more)


def broke(kind: str, target: str, start: float, end: float) -> Tell:
    return lambda story: story.broke(kind, target, start, end)


def no_bus(start: float, end: float) -> list[Tell]:
    return [broke("kill", f"bus:{bus}", start, end) for bus in (HOME, MARKET)]


def watch(svc: str, timeout_sec: float, since: float, seeded: float = 0.0) -> Tell:
    return lambda story: story.ledger.agreed(Terms(svc, HOME, INTERVAL, timeout_sec, since, seeded=seeded))


def lost(miss: float, ok: float, **more: Any) -> Tell:
    return lambda story: story.bus_loss(miss, ok, **more)


def lost_on_both(miss: float, ok: float) -> list[Tell]:
    return [lost(miss, ok, bus=bus) for bus in (HOME, MARKET)]


def dropped(at: float) -> Tell:
    return lambda story: story.ledger.dropped("alpha", at)


def doubt(*at: float) -> Tell:
    return lambda story: story.ledger.of("alpha").doubts.extend(at)


def repeated() -> Tell:
    return lambda story: story.told.append(story.told[-1])


def seeded(at: float) -> Tell:
    return lambda story: story.ledger.seedings.append(at)


def added_again(miss: float, **more: Any) -> list[Tell]:
    """A service that beat last while a truth was seeded that has it again."""
    return [dropped(40), watch("alpha", T, 50, 50.6), told("heartbeat_miss", miss, timeout_sec=T, **more)]


LONG, SHORT, FOREVER = [(50, 60)], [(50, 52.2)], [(50, END)]
AFTER_SEEDING = [(50.1, END)]
AT_MARKET = f"bus:{MARKET}"
MISTAKES: dict[str, tuple[list[tuple[float, float]], list[Tell], list[str]]] = {
    "nothing is told of an outage": (LONG, [], ["missed"]),
    "nothing is told of one that never came back": ([(150, END)], [], ["missed"]),
    "a service that beat": ([], [outage(52.1, 52.6)], ["false"]),
    "a silence below the timeout": (SHORT, [outage(51.6, 52.6)], ["false"]),
    "a service that is not watched": ([], [outage(52.1, None, "stranger")], ["false"]),
    "added again, and heard since": (AFTER_SEEDING, added_again(51.8, reason="silent"), ["false"]),
    "added again, in the warm-up": (AFTER_SEEDING, added_again(51.2, reason="never_seen"), ["false"]),
    "two misses without an ok": (LONG, [outage(52.1, None), outage(55.0, 60.1)], ["twice"]),
    "an id that is there twice": (LONG, [outage(52.1, 60.1), repeated()], ["twice", "out of order"]),
    "an ok before its miss": (
        LONG,
        [told("heartbeat_ok", 52.1, down_sec=1.0), told("heartbeat_miss", 60.1, timeout_sec=T)],
        ["late", "out of order", "no ok"],
    ),
    "a second ok": ([], [told("heartbeat_ok", 0.5), told("heartbeat_ok", 1.5)], ["out of order"]),
    "a miss that nothing closes": (LONG, [outage(52.1, None)], ["no ok"]),
    "an ok of a silent service": ([(50, 70)], [outage(52.1, 55.0), outage(57.0, 70.1)], ["false"]),
    "a late miss": ([(50, 70)], [outage(60, 70.1)], ["late"]),
    "unwatched, and was not dropped": (
        FOREVER,
        [outage(52.1, None), told("heartbeat_unwatched", 60.3)],
        ["false"],
    ),
    "dropped, and not told": (FOREVER, [outage(52.1, None), dropped(60)], ["no ok"]),
    "added, and never beat": ([], [watch("new", T, 50.0)], ["missed"]),
    "a miss in the warm-up": ([], [watch("new", T, 50.0), outage(51.0, None, "new")], ["false"]),
    "a lost bus is not told": ([], [broke("stop", AT_MARKET, 50, 60)], ["missed"]),
    "a lost bus is not told back": (
        [],
        [broke("stop", AT_MARKET, 50, 60), told("bus_miss", 52.5, MARKET)],
        ["no ok"],
    ),
    "a bus that was not lost": ([], [lost(80, 81)], ["false"]),
    "a bus that was lost for too short": (
        [],
        [broke("stop", AT_MARKET, 50, 51), lost(51.2, 51.4)],
        ["false"],
    ),
    "no bus was reached": ([], no_bus(50, 60), ["missed"]),
    "no bus was reached for long enough before one read its data": (
        [],
        [*no_bus(50, 60), broke("loading", f"bus:{HOME}", 53, 60)],
        ["missed"],
    ),
    "no bus was reached, told twice": (
        [],
        [
            *no_bus(50, 60),
            told("reach_gap", 60.6, "healer", gap_sec=10.7),
            told("reach_gap", 62, "healer", gap_sec=12.0),
        ],
        ["twice"],
    ),
    "a bus was reached": ([], [told("reach_gap", 60.6, "healer", gap_sec=10.7)], ["false"]),
    "a bus is not deaf": ([], [lost(80, 84, reason="deaf")], ["false"]),
    "a channel is not refused": (
        [],
        [told("watch_miss", 60, reason="auth"), told("watch_ok", 62)],
        ["false", "false"],
    ),
    "a gap while somebody listened": ([], [told("heartbeat_gap", 90, gap_sec=30.0)], ["false"]),
    "a truth that did not drift": ([], [told("truth_drift", 50, MARKET)], ["false"]),
}
EXCUSES: dict[str, tuple[list[tuple[float, float]], list[Tell]]] = {
    "told once and closed": (LONG, [outage(52.1, 60.1)]),
    "never came back": ([(150, END)], [outage(152.1, None)]),
    "the first ok of all": ([], [told("heartbeat_ok", 0.5)]),
    "the healer was dead": (LONG, [broke("kill", "healer:1", 49, 59)]),
    "the bus was frozen": (
        LONG,
        [
            broke("freeze", f"bus:{HOME}", 49, 59),
            lambda story: (story.tell("bus_miss", 52, HOME, MARKET), story.tell("bus_ok", 60, HOME, MARKET)),
        ],
    ),
    "the machine stood still": (LONG, [broke("stall", "machine", 49, 59)]),
    "the last beat fell into a fault": (
        LONG,
        [broke("cut", f"wire:1:{HOME}", 49.8, 49.9), outage(51.6, 60.1)],
    ),
    "a beat that may have arrived": (LONG, [doubt(51.0), outage(52.1, 60.1)]),
    "beats that may have arrived": (LONG, [doubt(51, 53, 55, 57, 59)]),
    "dropped while it is down": (
        FOREVER,
        [outage(52.1, None), told("heartbeat_unwatched", 60.3), dropped(60)],
    ),
    "another timeout while it is down": (FOREVER, [watch("alpha", 3.0, 60.0), outage(52.1, None)]),
    "added again while it beat last": (AFTER_SEEDING, added_again(51.8, reason="never_seen")),
    "a bus that was lost": ([], [broke("stop", AT_MARKET, 50, 60), *lost_on_both(52.5, 61)]),
    "a bus that was deaf": (
        [],
        [
            *(broke("overflow", f"wire:1:{MARKET}", at, at + 0.8) for at in (50, 51, 52, 53)),
            lost(54, 58, reason="deaf"),
        ],
    ),
    "a machine without processors": ([], [broke("stolen", "machine", 80, 83), *lost_on_both(83, 84)]),
    "no bus was reached": ([], [*no_bus(50, 60), told("reach_gap", 60.6, "healer", gap_sec=10.7)]),
    "a bus that read its data was reached, and the other one away": (
        [],
        [*no_bus(50, 60), broke("loading", f"bus:{HOME}", 50.4, 60), *lost_on_both(52.5, 61)],
    ),
    "no bus was reached by a dead healer": ([], [*no_bus(50, 60), broke("kill", "healer:1", 52, 53)]),
    "a gap while nobody listened": (
        [(50, 53)],
        [broke("kill", "healer:1", 49, 54), told("heartbeat_gap", 59, gap_sec=3.0)],
    ),
    "a truth that was just seeded": ([], [seeded(49), told("truth_drift", 50, MARKET)]),
}


def tell(silences: list[tuple[float, float]], said: list[Tell]) -> Story:
    story = Story(*silences)
    for each in said:
        each(story)
    return story


def test_each_planted_mistake_is_found_and_nothing_else():
    found = {name: tell(silences, said).kinds() for name, (silences, said, _) in MISTAKES.items()}
    assert {name: sorted(kinds) for name, kinds in found.items()} == {
        name: sorted(kinds) for name, (_, _, kinds) in MISTAKES.items()
    }


def test_what_was_told_rightly_or_could_not_be_known_is_no_mistake():
    found = {name: tell(silences, said).kinds() for name, (silences, said) in EXCUSES.items()}
    assert {name: kinds for name, kinds in found.items() if kinds} == {}


def test_what_the_other_of_two_healers_heard_is_owed_and_counted():
    story = Story((50, 80), healers=2)
    story.broke("kill", "healer:1", 45, 90)
    assert story.kinds() == ["missed"]
    story.broke("kill", "healer:2", 45, 90)
    account = story.judge()
    assert account.findings == []
    assert (account.counts["outages made"], account.counts["outages owed"]) == (1, 0)
