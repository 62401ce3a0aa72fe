"""A notice passes named stages in one order; each returns what passes, and a named reason for the others."""

import pytest

from notifier.router.incident import Decision, Incident, Notice, NoticeKind
from notifier.router.stages import (
    MUTABLE,
    GroupStage,
    HoldStage,
    QueueStage,
    StageName,
    Stopped,
    WaitReason,
    find_hold,
    run_stages,
)
from support.simulation.router import Town

NOW = 1_762_433_458.0


def notice(key, say=NoticeKind.DOWN):
    return Notice(f"{say}.{key}", key, key, say, NOW, NOW)


def hold(name, reason, *keys, says=(NoticeKind.DOWN,)):
    incidents = {key: Incident(key, key) for key in "abc"}
    return HoldStage(name, says, lambda incident, _: reason if incident.key in keys else None, incidents)


def test_the_stages_are_one_list_in_this_order():
    assert [each.name for each in Town().router.stages] == [
        *("silence", "flapping", "cause", "rate", "hold"),
        *("group", "silence", "route"),
    ]


def test_the_first_stage_that_stops_a_notice_counts_and_the_others_never_see_it():
    stages = [
        hold(StageName.SILENCE, Decision.SILENCED, "a"),
        hold(StageName.CAUSE, Decision.DEPENDS, "a", "b"),
        hold(StageName.RATE, Decision.RATE_LIMIT, "a", "b"),
    ]
    passed, stopped = run_stages(stages, [notice("a"), notice("b"), notice("c")], NOW)
    assert passed == [notice("c")]
    assert stopped == [
        Stopped(notice("a"), StageName.SILENCE, Decision.SILENCED),
        Stopped(notice("b"), StageName.CAUSE, Decision.DEPENDS),
    ]
    found = [find_hold(stages, NoticeKind.DOWN, Incident(key, key), NOW) for key in "abc"]
    assert found == [Decision.SILENCED, Decision.DEPENDS, None]


def test_a_stage_lets_pass_what_is_of_another_kind_or_about_nothing_that_is_known():
    stage = hold(StageName.SILENCE, Decision.SILENCED, "a", "z", says=MUTABLE)
    notices = [notice("a", NoticeKind.UP), notice("a", NoticeKind.REMINDER), notice("z")]
    passed, stopped = stage.sort(notices, NOW)
    assert passed == [notices[0], notices[2]]
    assert [each.notice for each in stopped] == [notices[1]]


@pytest.mark.parametrize(
    ("due_at", "reason"), [(NOW, None), (NOW + 0.1, WaitReason.GROUP), (None, Decision.NO_CHANNEL)]
)
def test_notices_wait_for_their_group_all_or_none(due_at, reason):
    notices = [notice("a"), notice("b")]
    passed, stopped = GroupStage(StageName.GROUP, lambda: due_at).sort(notices, NOW)
    assert passed == (notices if reason is None else [])
    assert [(each.notice, each.reason) for each in stopped] == (
        [] if reason is None else [(each, reason) for each in notices]
    )


def test_a_stage_of_the_queue_returns_the_notice_that_goes_on_or_the_reason_that_it_does_not():
    routed = notice("a").in_thread("", ("one",))
    stage = QueueStage(StageName.ROUTE, lambda each, _: routed if each.key == "a" else WaitReason.CLOSED)
    passed, stopped = stage.sort([notice("a"), notice("b")], NOW)
    assert passed == [routed]
    assert stopped == [Stopped(notice("b"), StageName.ROUTE, WaitReason.CLOSED)]


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
