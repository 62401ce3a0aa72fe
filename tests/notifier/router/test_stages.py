"""A notice passes named stages in one order; the first that stops it counts, with a named reason."""

from notifier.router.incident import Decision, Incident, Notice, NoticeKind
from notifier.router.stages import (
    MUTABLE,
    HoldStage,
    QueueStage,
    StageName,
    find_hold,
)
from support.simulation.router import Town

NOW = 1_762_433_458.0


def notice(key, say=NoticeKind.DOWN):
    return Notice(f"{say}.{key}", key, key, say, NOW, NOW)


def hold(name, reason, *keys, says=(NoticeKind.DOWN,)):
    return HoldStage(name, says, lambda incident, _: reason if incident.key in keys else None)


def test_the_stages_are_listed_in_this_order():
    router = Town().router
    assert [each.name for each in router.holds] == ["silence", "flapping", "cause", "rate", "hold"]
    assert [each.name for each in router.queue_stages] == ["silence", "route"]


def test_the_first_stage_that_stops_a_notice_counts_and_the_others_never_see_it():
    seen = []
    stages = [
        hold(StageName.SILENCE, Decision.SILENCED, "a"),
        hold(StageName.CAUSE, Decision.DEPENDS, "a", "b"),
        HoldStage(StageName.RATE, (NoticeKind.DOWN,), lambda incident, _: seen.append(incident.key)),
    ]
    found = [find_hold(stages, NoticeKind.DOWN, Incident(key, key), NOW) for key in "abc"]
    assert found == [Decision.SILENCED, Decision.DEPENDS, None]
    assert seen == ["c"]


def test_a_stage_lets_pass_what_is_of_another_kind():
    stages = [hold(StageName.SILENCE, Decision.SILENCED, "a", says=MUTABLE)]
    says = NoticeKind.UP, NoticeKind.REMINDER
    found = [find_hold(stages, say, Incident("a", "a"), NOW) for say in says]
    assert found == [None, Decision.SILENCED]


def test_a_stage_of_the_queue_returns_the_notices_that_go_on():
    routed = notice("a").in_thread("", ("one",))
    stage = QueueStage(StageName.ROUTE, lambda each, _: routed if each.key == "a" else None)
    assert stage.sort([notice("a"), notice("b")], NOW) == [routed]


def test_notices_wait_for_their_group_all_or_none_and_for_a_channel():
    town = Town({"a": {}, "b": {}})
    for svc in ("a", "b"):
        town.down(svc)
    assert town.router.take_due(town.now) == []
    town.router.set_channels([])
    assert town.router.take_due(town.now + 60) == []
    town.router.set_channels(["one"])
    assert [sorted(due.message.about) for due in town.router.take_due(town.now + 60)] == [["a", "b"]]


def test_a_silence_counts_before_a_cause_a_cause_before_the_rate_and_each_is_the_decision():
    town = Town({"a": {}, "b": {"depends_on": ["a"]}, "c": {}}, rate_limit_sec=300.0)
    town.down("a")
    town.run(3)
    assert town.down("b") == Decision.DEPENDS
    town.run(3)
    town.up("b")
    town.be_silent("b", sec=50)
    assert town.down("b") == Decision.SILENCED
    town.up("a")
    town.run(3)
    assert town.down("a") == Decision.RATE_LIMIT
