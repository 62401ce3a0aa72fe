"""The oracle finds what is wrong, and nothing else: it is held to accounts made by hand."""

from typing import Any

import pytest

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

    def judge(self) -> Account:
        return judge(self.ledger, self.told, END)

    def kinds(self) -> list[str]:
        return [finding.kind for finding in self.judge().findings]


def test_an_outage_that_was_told_once_and_closed_balances():
    story = Story((50, 60))
    story.outage(52.1, 60.1)
    account = story.judge()
    assert account.findings == []
    assert (account.counts["outages made"], account.counts["outages owed"]) == (1, 1)
    assert account.counts["outages told"] == account.counts["misses told"] == 1


def test_an_outage_of_which_nothing_is_told_is_found():
    account = Story((50, 60)).judge()
    assert [finding.kind for finding in account.findings] == ["missed"]
    assert account.findings[0].at == pytest.approx(52, abs=0.1)
    assert account.counts["outages told"] == 0


def test_one_that_never_came_back_is_owed_a_miss_too_and_no_ok():
    assert Story((150, END)).kinds() == ["missed"]
    story = Story((150, END))
    story.outage(152.1, None)
    assert story.kinds() == []


def test_a_miss_of_one_that_beat_is_found():
    story = Story()
    story.outage(52.1, 52.6)
    assert story.kinds() == ["false"]


def test_a_miss_after_a_silence_below_the_timeout_is_found():
    story = Story((50, 52.2))
    story.outage(51.6, 52.6)
    assert story.kinds() == ["false"]


def test_a_miss_of_one_that_is_not_watched_is_found():
    story = Story()
    story.outage(52.1, None, svc="stranger")
    assert story.kinds() == ["false"]


def test_a_second_miss_without_an_ok_between_is_found():
    story = Story((50, 60))
    story.outage(52.1, None)
    story.outage(55.0, 60.1)
    assert story.kinds() == ["twice"]


def test_the_same_id_twice_on_one_bus_is_found_and_on_two_buses_is_not():
    story = Story((50, 60))
    story.outage(52.1, 60.1)
    story.told.append(story.told[-1]._replace(bus=MARKET))
    assert "twice" not in story.kinds()
    story.told.append(story.told[1])
    assert "twice" in story.kinds()


def test_an_ok_before_its_miss_is_found():
    story = Story((50, 60))
    story.tell("heartbeat_ok", 52.1, down_sec=1.0)
    story.tell("heartbeat_miss", 60.1, timeout_sec=T)
    assert "out of order" in story.kinds()


def test_the_first_ok_of_all_is_in_order_and_a_second_one_is_not():
    story = Story()
    story.tell("heartbeat_ok", 0.5)
    assert story.kinds() == []
    story.tell("heartbeat_ok", 1.5)
    assert story.kinds() == ["out of order"]


def test_a_miss_that_nothing_closes_is_found():
    story = Story((50, 60))
    story.outage(52.1, None)
    assert story.kinds() == ["no ok"]


def test_an_ok_of_one_that_did_not_beat_is_found():
    story = Story((50, 70))
    story.outage(52.1, 55.0)
    story.outage(57.0, 70.1)
    assert "false" in story.kinds()


def test_a_miss_that_comes_late_is_found_and_its_delay_is_told():
    story = Story((50, 70))
    story.outage(60, 70.1)
    account = story.judge()
    assert [finding.kind for finding in account.findings] == ["late"]
    assert account.worst_delay[0] == pytest.approx(8, abs=0.1)


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("kill", "healer:1"),
        ("freeze", f"bus:{HOME}"),
        ("swallow", f"wire:1:{HOME}"),
        ("stall", "machine"),
        ("stolen", "machine"),
    ],
)
def test_nothing_is_owed_of_an_outage_that_nobody_could_hear(kind, target):
    story = Story((50, 60))
    story.broke(kind, target, 49, 59)
    if target.startswith(("bus:", "wire:")):
        story.tell("bus_miss", 52, HOME, MARKET)
        story.tell("bus_ok", 60, HOME, MARKET)
    account = story.judge()
    assert account.findings == []
    assert (account.counts["outages made"], account.counts["outages owed"]) == (1, 0)


def test_one_healer_adds_up_what_it_heard_before_and_after_its_restarts():
    kinds = []
    for end in (70, 90):  # no stretch is long enough; only by 90 is it more than T + W in all
        story = Story((50, end))
        for start in (52, 62, 72.5, 83):
            story.broke("kill", "healer:1", start, start + 1)
        kinds.append(story.kinds())
    assert kinds == [[], ["missed"]]


def test_what_the_other_of_two_healers_heard_is_owed_once_it_must_lead():
    story = Story((50, 80), healers=2)
    story.broke("kill", "healer:1", 45, 90)
    assert story.kinds() == ["missed"]
    story = Story((50, 80), healers=2)
    for healer in (1, 2):
        story.broke("kill", f"healer:{healer}", 45, 90)
    assert story.kinds() == []


def test_a_miss_is_earned_by_a_warm_up_where_the_last_beat_fell_into_a_fault_and_not_by_less():
    story = Story((50, 60))
    story.broke("cut", f"wire:1:{HOME}", 49.8, 49.9)
    story.outage(51.6, 60.1)
    assert story.kinds() == []
    story = Story((50, 60))
    story.broke("cut", f"wire:1:{HOME}", 49.8, 49.9)
    story.outage(51.3, 60.1)
    assert story.kinds() == ["false"]


def test_a_beat_that_may_have_arrived_counts_for_neither_side():
    story = Story((50, 60))
    story.ledger.of("alpha").doubts.append(51.0)
    story.outage(52.1, 60.1)
    assert story.kinds() == []  # it had not
    story.told.clear()
    story.ledger.of("alpha").doubts[:] = [51.0 + n for n in range(0, 9, 2)]
    assert story.kinds() == []  # it had


def test_one_that_is_dropped_while_it_is_down_is_closed_by_unwatched_and_only_then():
    story = Story((50, END))
    story.outage(52.1, None)
    story.tell("heartbeat_unwatched", 60.3)
    assert story.kinds() == ["false"]
    story.ledger.dropped("alpha", 60)
    assert story.kinds() == []
    del story.told[-1]
    assert story.kinds() == ["no ok"]


def test_one_that_gets_another_timeout_while_it_is_down_stays_down():
    story = Story((50, END))
    story.ledger.agreed(Terms("alpha", HOME, INTERVAL, 3.0, 60.0))
    story.outage(52.1, None)
    assert story.kinds() == []
    story.tell("heartbeat_unwatched", 60.3)
    assert "false" in story.kinds()


def test_one_that_was_added_and_never_beat_is_owed_a_miss_and_not_before_its_warm_up():
    story = Story()
    story.ledger.agreed(Terms("new", HOME, INTERVAL, T, 50.0))
    assert story.kinds() == ["missed"]
    story.outage(52.5, None, svc="new")
    assert story.kinds() == []
    story.told.clear()
    story.outage(51.0, None, svc="new")
    assert story.kinds() == ["false"]


@pytest.mark.parametrize("kind", ["stop", "mute"])
def test_a_bus_that_was_lost_is_owed_a_miss_and_an_ok(kind):
    story = Story()
    story.broke(kind, f"bus:{MARKET}", 50, 60)
    assert story.kinds() == ["missed"]
    for bus in (HOME, MARKET):
        story.tell("bus_miss", 52.5, MARKET, bus)
    assert story.kinds() == ["no ok", "no ok"]
    for bus in (HOME, MARKET):
        story.tell("bus_ok", 61, MARKET, bus)
    assert story.kinds() == []


def test_a_bus_loss_that_was_too_short_or_did_not_happen_must_not_be_told():
    story = Story()
    story.broke("stop", f"bus:{MARKET}", 50, 51)
    assert story.kinds() == []
    story.tell("bus_miss", 51.2, MARKET)
    story.tell("bus_ok", 51.4, MARKET)
    assert story.kinds() == ["false"]
    story = Story()
    story.tell("bus_miss", 80, MARKET)
    story.tell("bus_ok", 81, MARKET)
    assert story.kinds() == ["false"]


def test_what_a_machine_without_processors_makes_of_a_bus_is_no_mistake():
    story = Story()
    story.broke("stolen", "machine", 80, 83)
    for bus in (HOME, MARKET):
        story.tell("bus_miss", 83, MARKET, bus)
        story.tell("bus_ok", 84, MARKET, bus)
    account = story.judge()
    assert account.findings == []
    assert account.counts["bus losses excused"] == 2  # the story gives each bus an id of its own
    story.tell("bus_miss", 95, MARKET)
    story.tell("bus_ok", 96, MARKET)
    assert story.kinds() == ["false"]


def nowhere(start: float, end: float, healers: int = 1) -> Story:
    story = Story(healers=healers)
    for bus in (HOME, MARKET):
        story.broke("kill", f"bus:{bus}", start, end)
    return story


@pytest.mark.parametrize("healers", [1, 2])
def test_that_no_bus_was_reached_is_owed_once(healers):
    story = nowhere(50, 60, healers)
    assert story.kinds() == ["missed"]
    story.tell("reach_gap", 60.6, "healer", gap_sec=10.7)
    assert story.kinds() == []
    story.told.append(story.told[-1]._replace(bus=MARKET))
    assert story.kinds() == []
    story.tell("reach_gap", 62, "healer", gap_sec=12.0)
    assert story.kinds() == ["twice"]


def test_that_no_bus_was_reached_must_not_be_told_where_one_was():
    story = Story()
    story.tell("reach_gap", 60.6, "healer", gap_sec=10.7)
    assert story.kinds() == ["false"]
    story = Story()
    story.broke("kill", f"bus:{MARKET}", 50, 51)
    story.tell("reach_gap", 51.5, "healer", gap_sec=1.6)
    assert story.kinds() == ["false"]


def test_of_a_healer_that_was_not_there_all_the_time_nothing_is_owed_of_its_reach():
    story = nowhere(50, 60)
    story.broke("kill", "healer:1", 52, 53)
    assert story.kinds() == []


def test_buses_that_refuse_are_reached():
    story = Story()
    for bus in (HOME, MARKET):
        story.broke("readonly", f"bus:{bus}", 50, 60)
    account = story.judge()
    assert account.findings == []
    assert account.counts["reach gaps made"] == 0
    story.tell("bus_miss", 60.2, MARKET)
    story.told[-1].event["ts"] = 52.2
    story.tell("bus_ok", 60.5, MARKET)
    assert story.kinds() == []


@pytest.mark.parametrize(("at", "found"), [(52.1, ["false"]), (54, ["false"]), (61, ["false"]), (62.2, [])])
def test_a_bus_is_blamed_only_a_timeout_after_another_was_reached_again(at, found):
    story = Story()
    story.broke("kill", f"bus:{HOME}", 50, 60)
    story.broke("kill", f"bus:{MARKET}", 50, 70)
    story.tell("reach_gap", 60.5, "healer", gap_sec=10.6)
    story.tell("bus_miss", at, MARKET)
    story.tell("bus_ok", 71, MARKET)
    assert story.kinds() == found


def test_a_bus_is_deaf_when_it_was_hardly_heard_for_two_timeouts_and_not_for_less():
    story = Story()
    for at in (50, 51, 52, 53):
        story.broke("overflow", f"wire:1:{MARKET}", at, at + 0.8)
    story.tell("bus_miss", 54, MARKET, reason="deaf")
    story.tell("bus_ok", 58, MARKET)
    assert story.kinds() == []
    story.tell("bus_miss", 80, MARKET, reason="deaf")
    story.tell("bus_ok", 84, MARKET)
    assert story.kinds() == ["false"]


@pytest.mark.parametrize(
    ("reason", "at", "found"), [("deaf", 65, []), ("deaf", 68, ["no ok"]), ("refused", 65.6, ["no ok"])]
)
def test_a_deaf_bus_may_take_two_timeouts_more_to_be_told_back(reason, at, found):
    story = Story()
    story.broke("freeze", f"bus:{MARKET}", 50, 57)
    story.tell("bus_miss", 54, MARKET, reason=reason)
    story.tell("bus_ok", at, MARKET)
    assert story.kinds() == found


def test_that_one_can_not_be_watched_is_found_where_no_channel_is_refused():
    story = Story()
    story.tell("watch_miss", 60, reason="auth")
    story.tell("watch_ok", 62, down_sec=2.0)
    assert story.kinds() == ["false", "false"]


def test_a_healer_that_could_not_beat_is_owed_a_miss_and_one_that_did_must_have_none():
    story = Story((50, 60), svc="healer")
    story.ledger.agents.add("healer")
    story.broke("kill", "healer:1", 50, 60)
    assert story.kinds() == ["missed"]
    story.tell("healer_miss", 52.1, "healer", timeout_sec=T)
    story.tell("healer_ok", 60.1, "healer", down_sec=10.0)
    assert story.kinds() == []
    story.tell("healer_miss", 80, "healer", timeout_sec=T)
    story.tell("healer_ok", 80.5, "healer", down_sec=1.0)
    assert story.kinds() == ["false"]


def test_a_gap_must_have_been_while_nobody_listened():
    story = Story((50, 53))
    story.broke("kill", "healer:1", 49, 54)
    story.tell("heartbeat_gap", 59, gap_sec=3.0, restarted=False)
    assert story.kinds() == []
    story.tell("heartbeat_gap", 90, gap_sec=30.0, restarted=False)
    assert story.kinds() == ["false"]


def test_a_drift_of_the_truth_is_believed_only_around_a_seeding_or_a_lost_bus():
    story = Story()
    story.tell("truth_drift", 50, MARKET)
    assert story.kinds() == ["false"]
    story.ledger.seedings.append(49)
    assert story.kinds() == []
