"""What a listener that stands by drops, and what it would tell."""

import pytest

from marketswarm.detector import Publication, State, Subject, Verdict
from marketswarm.monitor.verdict_queue import (
    LEADER_HAD_TIME_SEC,
    PendingVerdict,
    VerdictQueue,
    find_unpublished,
    is_local_loss,
)
from support.simulation.manual_detector import stored

NEVER = float("-inf")
DOWN, UP, GONE = State.DOWN, State.UP, State.UNWATCHED


def pending(*states: State, subject: Subject = Subject.SERVICE) -> list[PendingVerdict]:
    """Verdicts a second apart, from 100 s on; they were not told in the same instant elsewhere."""
    return [
        PendingVerdict(Verdict("a", state, Publication.ALERT, 1000.0 + n, subject=subject), 100.0 + n)
        for n, state in enumerate(states)
    ]


def left(found: list[PendingVerdict]) -> list[State]:
    return [one.verdict.state for one in found]


@pytest.mark.parametrize(
    ("states", "shown", "moved", "rest"),
    [
        # one transition: the state alone tells
        ([DOWN], "up", False, [DOWN]),
        ([DOWN], "up", True, [DOWN]),
        ([DOWN], "down", True, []),
        ([DOWN], "down", False, []),
        # there and back: whether the entry was written anew tells
        ([DOWN, UP], "up", False, [DOWN, UP]),
        ([DOWN, UP], "up", True, []),
        ([DOWN, UP], "down", True, [UP]),
        ([UP, DOWN], "up", True, [DOWN]),
        ([DOWN, UP, DOWN], "up", True, [DOWN]),
        # no longer watched: no entry is left
        ([GONE], None, True, []),
        ([GONE], "up", False, [GONE]),
        ([DOWN, GONE], "down", True, [GONE]),
        # never told of at all
        ([UP], None, True, [UP]),
        ([DOWN], None, True, [DOWN]),
    ],
)
def test_what_the_roster_shows_is_told(states, shown, moved, rest):
    entry = None if shown is None else stored(verdict=shown, ts=990.0)
    before = 900.0 if moved else 990.0
    assert left(find_unpublished(pending(*states), entry, compared_ts=before, leader_seen_at=NEVER)) == rest


@pytest.mark.parametrize(("ts", "rest"), [(990.0, [DOWN, UP]), (999.0, []), (1000.9, [])])
def test_an_entry_that_was_never_looked_at_is_as_old_as_it_says(ts, rest):
    entry = stored(verdict="up", ts=ts)
    assert left(find_unpublished(pending(DOWN, UP), entry, compared_ts=None, leader_seen_at=NEVER)) == rest


@pytest.mark.parametrize(
    ("seen", "rest"), [(101.0 + LEADER_HAD_TIME_SEC, [DOWN, UP]), (101.1 + LEADER_HAD_TIME_SEC, [])]
)
def test_what_came_and_went_under_the_eyes_of_the_leader_is_its_to_tell(seen, rest):
    entry = stored(verdict="up", ts=990.0)
    assert left(find_unpublished(pending(DOWN, UP), entry, compared_ts=990.0, leader_seen_at=seen)) == rest


def test_a_state_that_the_leader_does_not_see_yet_is_kept_however_long_it_lives():
    entry = stored(verdict="up", ts=990.0)
    assert left(find_unpublished(pending(DOWN), entry, compared_ts=990.0, leader_seen_at=1e9)) == [DOWN]


@pytest.mark.parametrize(
    ("ended", "ts", "compared", "rest"),
    [
        (1000.0, 1000.2, 990.0, []),
        (1000.3, 1000.4, None, []),  # the clocks of two healers differ
        (1000.0, 1000.2, 1000.2, [DOWN]),  # what was compared before shows nothing new
        (None, 1000.2, 990.0, [DOWN]),
        (990.0, 1000.2, 990.0, [DOWN]),  # of an earlier outage
        (999.0, 999.5, 990.0, [DOWN]),  # the end came before ours began
    ],
)
def test_a_failure_whose_end_the_leader_has_published_is_told_though_only_its_end_shows(
    ended, ts, compared, rest
):
    (one,) = pending(DOWN)
    failed = one._replace(verdict=one.verdict._replace(reason="failed", down_since=1000.0))
    entry = stored(**{"verdict": "up", "ts": ts} | ({} if ended is None else {"down_since": ended}))
    assert left(find_unpublished([failed], entry, compared_ts=compared, leader_seen_at=NEVER)) == rest


@pytest.mark.parametrize(
    ("entry", "rest"),
    [
        ({"boot": "b", "i": 6}, [UP]),  # the miss that our ok ends
        ({"boot": "b", "i": 7}, []),
        ({"boot": "b", "i": 9}, []),  # the times don't count
        ({"boot": "b", "i": 9, "ts": 900.0}, []),
        ({"boot": "b", "i": 7, "event": {"reason": "failed"}}, [UP]),  # the beat that ends a failure shows it
        ({"boot": "b", "i": 8, "event": {"reason": "failed"}}, []),
        ({"boot": "b"}, [UP]),
        ({"boot": "c", "i": 9}, [UP]),
        ({"boot": "c", "i": 1, "ts": 1002.0}, [UP]),  # the clocks of two healers differ
        ({"boot": "c", "i": 1, "ts": 1002.1}, []),
        ({"ts": 1002.1}, []),
        ({"verdict": "up", "boot": "b", "i": 9, "ts": 1002.1}, []),
    ],
)
@pytest.mark.parametrize("compared", [None, 990.0])
def test_an_ok_is_dropped_if_the_leader_heard_the_same_beat_and_missed_the_service_after_it(
    entry, rest, compared
):
    (one,) = pending(UP)
    heard = one._replace(verdict=one.verdict._replace(boot="b", i=7))
    event = {"type": "heartbeat_miss", "svc": "a", "ts": 1000.5, "id": "a.1"} | entry.get("event", {})
    held = stored(**({"verdict": "down", "ts": 1000.5} | entry | {"event": event}))
    assert left(find_unpublished([heard], held, compared_ts=compared, leader_seen_at=NEVER)) == rest


def test_the_ok_of_a_bus_is_kept_however_late_its_loss_is_published():
    (one,) = pending(UP, subject=Subject.BUS)
    held = stored(verdict="down", ts=1100.0)
    assert left(find_unpublished([one], held, compared_ts=990.0, leader_seen_at=NEVER)) == [UP]


def test_a_bus_of_which_nothing_is_stored_counts_as_up():
    assert (
        find_unpublished(pending(UP, subject=Subject.BUS), None, compared_ts=None, leader_seen_at=NEVER) == []
    )
    assert left(
        find_unpublished(pending(DOWN, subject=Subject.BUS), None, compared_ts=None, leader_seen_at=NEVER)
    ) == [DOWN]


def test_a_loss_of_which_a_bus_stored_nothing_was_told_to_nobody_there_though_it_is_over():
    both = pending(DOWN, UP, subject=Subject.BUS)
    assert left(find_unpublished(both, None, compared_ts=None, leader_seen_at=NEVER)) == [DOWN, UP]
    assert left(find_unpublished(pending(DOWN, UP), None, compared_ts=None, leader_seen_at=NEVER)) == [
        DOWN,
        UP,
    ]
    assert find_unpublished(pending(DOWN, GONE), None, compared_ts=None, leader_seen_at=NEVER) == []


def own(*states: State) -> list[PendingVerdict]:
    return [
        one._replace(is_local_loss=one.verdict.state is DOWN) for one in pending(*states, subject=Subject.BUS)
    ]


def test_the_loss_of_a_bus_that_the_leader_heard_meanwhile_is_nobodys_once_it_is_over():
    entry = stored(verdict="up", ts=990.0)
    for held in (None, entry):
        before = 990.0 if held else None
        assert find_unpublished(own(DOWN, UP), held, compared_ts=before, leader_seen_at=NEVER) == []
        assert find_unpublished(own(DOWN, UP, DOWN, UP), held, compared_ts=before, leader_seen_at=NEVER) == []
    # while it lasts, whoever is left to lead hears nothing there; and one of two was a loss to all
    assert left(find_unpublished(own(DOWN), entry, compared_ts=990.0, leader_seen_at=NEVER)) == [DOWN]
    both = [*own(DOWN, UP), *(one._replace(at=one.at + 10) for one in pending(DOWN, UP, subject=Subject.BUS))]
    assert left(find_unpublished(both, entry, compared_ts=990.0, leader_seen_at=NEVER)) == [
        DOWN,
        UP,
        DOWN,
        UP,
    ]


@pytest.mark.parametrize(
    ("state", "of", "hears", "expected"),
    [
        (DOWN, Subject.BUS, 95.1, True),
        (DOWN, Subject.BUS, 94.9, False),  # it may have gone right after that
        (DOWN, Subject.BUS, NEVER, False),
        (UP, Subject.BUS, 99.0, False),
        (DOWN, Subject.SERVICE, 99.0, False),
    ],
)
def test_it_is_the_way_that_is_lost_if_the_leader_heard_the_bus_within_half_the_timeout(
    state, of, hears, expected
):
    verdict = Verdict("a", state, Publication.ALERT, 1000.0, subject=of, timeout_sec=10.0)
    assert is_local_loss(verdict, hears, 100.0) is expected


def gap(since: float | None = 995.0) -> PendingVerdict:
    verdict = Verdict(
        "a", UP, Publication.ALERT, 1000.0, gap_sec=60.0, restarted=True, event_id="gap.a.1", since=since
    )
    return PendingVerdict(verdict, 100.0)


@pytest.mark.parametrize(
    ("entry", "seen", "kept"),
    [
        (stored(verdict="up", ts=990.0), NEVER, True),
        (stored(verdict="up", ts=990.0, mark="gap.a.0"), NEVER, True),
        (stored(verdict="up", ts=990.0, mark="gap.a.1"), NEVER, False),
        (stored(verdict="up", ts=996.0), NEVER, False),  # somebody listened, and told an outage
        (stored(verdict="up", ts=990.0), 100.0 + LEADER_HAD_TIME_SEC, True),
        (stored(verdict="up", ts=990.0), 100.1 + LEADER_HAD_TIME_SEC, False),
        (None, NEVER, True),
    ],
)
def test_a_gap_is_told_only_if_nobody_else_listened(entry, seen, kept):
    assert bool(find_unpublished([gap()], entry, compared_ts=990.0, leader_seen_at=seen)) is kept


def test_a_gap_and_what_follows_it_stay_in_order():
    later = PendingVerdict(Verdict("a", DOWN, Publication.ALERT, 1030.0), 130.0)
    entry = stored(verdict="up", ts=990.0)
    found = find_unpublished([gap(), later], entry, compared_ts=990.0, leader_seen_at=NEVER)
    assert [one.at for one in found] == [100.0, 130.0]


def reach_gap(since: float, ts: float, mark: str) -> Verdict:
    return Verdict(
        "healer",
        UP,
        Publication.ALERT,
        ts,
        subject=Subject.REACH,
        since=since,
        gap_sec=ts - since,
        event_id=mark,
    )


@pytest.mark.parametrize(
    ("entry", "is_same"),
    [
        (stored(verdict="up", since=990.5, ts=999.5, mark="theirs"), True),
        (stored(verdict="up", since=970.0, ts=980.0, mark="theirs"), False),  # an earlier one
        (stored(verdict="up", since=999.8, ts=999.5, mark="theirs"), False),
        (stored(verdict="up", ts=999.5, mark="theirs"), False),
        (stored(verdict="up", since=990.5, ts=999.5), False),
    ],
)
def test_a_gap_of_reach_that_another_bus_holds_has_one_id_and_no_other_gap_changes(entry, is_same):
    queue, own = VerdictQueue(), reach_gap(990.0, 1000.0, "ours")
    for one in (gap(), PendingVerdict(own, 100.0), *pending(DOWN)):
        queue.add(one)
    queue.adopt_reach_gap(entry)
    expected = reach_gap(990.5, 999.5, "theirs") if is_same else own
    assert list(queue) == [gap(), PendingVerdict(expected, 100.0), *pending(DOWN)]
