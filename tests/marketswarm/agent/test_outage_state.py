"""How results of probes change the state of a target, and the queue of results that wait for a bus."""

import re

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import given, settings

from marketswarm.agent.outage_state import (
    MAX_RUNS,
    PROBES,
    SOURCES,
    UNKNOWN_STATE,
    OutageState,
    OutcomeQueue,
    TargetOutcome,
    Thresholds,
    apply_outcome,
    close_outage,
    parse_state,
)
from marketswarm.event import Kind, encode_event, parse_event
from marketswarm.event_text import describe_event
from support.examples import examples

THRESHOLDS = Thresholds(down_after=3, up_after=2)


class Watch:
    """Feeds results into what is known, as JSON in between, as if each came from another process."""

    def __init__(self, thresholds=THRESHOLDS):
        self.thresholds, self.known, self.now, self.n, self.events = thresholds, UNKNOWN_STATE, 1000.0, 0, []

    def see(self, *errors, step_sec=10.0):
        for error in errors:
            self.n, self.now = self.n + 1, self.now + step_sec
            outcome = TargetOutcome("boot", self.n, self.now, error)
            known = parse_state(self.known.encode())
            self.known, event = apply_outcome(PROBES, "shop", known, outcome, self.thresholds)
            self.events += [] if event is None else [event]
        return self

    @property
    def told(self):
        return [event.type.value for event in self.events]


def test_a_target_that_is_well_from_the_beginning_is_no_news():
    watch = Watch().see(None, None, None)
    assert (watch.known.verdict, watch.told) == ("up", [])


def test_what_stays_well_needs_no_writing():
    known = Watch().see(None).known
    assert apply_outcome(PROBES, "shop", known, TargetOutcome("boot", 2, 2000.0, None), THRESHOLDS) == (
        known,
        None,
    )


def test_a_failure_or_two_are_no_loss():
    watch = Watch().see(None, "refused", "refused", None, "timeout", "timeout", None)
    assert (watch.known.verdict, watch.told) == ("up", [])


def test_failures_in_a_row_are_a_loss_that_is_told_once():
    watch = Watch().see(None, "timeout", "refused", "refused", "refused", "refused")
    assert watch.told == ["probe_miss"]
    event = watch.events[0]
    assert (event.svc, event.by, event.reason) == ("massive/shop", "massive", "refused")
    assert (event.since, event.late_sec, event.ts) == (1020.0, 20.0, 1040.0)
    assert event.id == "probe_miss.massive:shop.1040000"
    assert parse_event(encode_event(event)) == event


def test_one_that_never_answered_is_lost_too():
    watch = Watch().see("refused", "refused", "refused")
    assert (watch.told, watch.events[0].since) == (["probe_miss"], 1010.0)


def test_it_is_back_when_it_has_answered_twice_and_was_down_until_the_first_of_these():
    watch = Watch().see(None, *["refused"] * 5, None, None)
    assert watch.told == ["probe_miss", "probe_ok"]
    ok = watch.events[1]
    assert (ok.since, ok.down_sec, ok.ts) == (1020.0, 50.0, 1080.0)
    assert watch.known == OutageState("up", ts=1080.0, seen={"boot": 8})


def test_one_answer_between_failures_does_not_bring_it_back():
    watch = Watch().see(None, *["refused"] * 3, None, "refused", None, "refused", None, None)
    assert watch.told == ["probe_miss", "probe_ok"]
    assert watch.events[1].down_sec == 70.0


def test_what_was_taken_before_counts_once():
    watch = Watch(Thresholds(2, 2)).see(None, "refused")
    again = TargetOutcome("boot", watch.n, watch.now, "refused")
    assert apply_outcome(PROBES, "shop", watch.known, again, watch.thresholds) == (watch.known, None)


def test_two_instances_count_together():
    known, told = UNKNOWN_STATE, []
    for n, boot in enumerate(["a", "b", "a", "b", "a", "b"], 1):
        known, event = apply_outcome(
            PROBES, "shop", known, TargetOutcome(boot, n, 1000.0 + n, "refused"), THRESHOLDS
        )
        told += [] if event is None else [event]
    assert [event.type for event in told] == [Kind.PROBE_MISS]


def test_a_source_is_named_and_numbered_as_the_contract_says():
    outcome = TargetOutcome("a", 1, 1000.0, "500")
    _, event = apply_outcome(SOURCES, "kraken", UNKNOWN_STATE, outcome, Thresholds(1, 1))
    assert event is not None
    assert (event.type, event.svc, event.by) == (Kind.SOURCE_MISS, "source:kraken", "sources")
    assert event.id == "source_miss.source:kraken.1000000"
    assert event.detail is None


def test_a_miss_has_the_detail_of_the_outcome_that_made_it_one():
    state, event = UNKNOWN_STATE, None
    for n, detail in enumerate(("meanwhile a serves it", None, "meanwhile b serves it"), 1):
        outcome = TargetOutcome("boot", n, 1000.0 + n, "500", detail)
        state, event = apply_outcome(SOURCES, "kraken", state, outcome, Thresholds(3, 1))
    assert (event.reason, event.detail) == ("500", "meanwhile b serves it")
    assert describe_event(event)[1].endswith("(500); meanwhile b serves it")


def test_what_nobody_wants_to_hear_of_is_known_all_the_same():
    watch = Watch(Thresholds(1, 1, alerts=False)).see("refused", "refused")
    assert (watch.known.verdict, watch.told) == ("down", [])
    watch.see(None)
    assert (watch.known.verdict, watch.told) == ("up", [])


def test_who_wants_to_hear_of_it_later_hears_of_what_is_down():
    watch = Watch(Thresholds(1, 1, alerts=False)).see("refused", "refused")
    watch.thresholds = Thresholds(1, 1)
    watch.see("refused", "refused", None)
    assert watch.told == ["probe_miss", "probe_ok"]
    assert watch.events[0].since == 1010.0


def test_what_is_no_longer_probed_is_closed_if_it_was_told():
    down = Watch().see(*["refused"] * 3).known
    event = close_outage(PROBES, "shop", down, 2000.0)
    assert event is not None
    assert (event.type, event.since, event.ts) == (Kind.PROBE_UNWATCHED, 1010.0, 2000.0)
    assert close_outage(PROBES, "shop", Watch().see(None).known, 2000.0) is None


def test_a_clock_that_is_set_back_makes_no_end_older_than_its_beginning():
    watch = Watch().see(*["refused"] * 3)
    watch.now -= 500
    watch.see(None, None)
    miss, ok = watch.events
    assert ok.ts > miss.ts
    assert ok.down_sec == 0.0


def test_an_id_holds_nothing_that_a_header_could_not_carry():
    known, event = UNKNOWN_STATE, None
    for n in (1, 2, 3):
        known, event = apply_outcome(
            PROBES, "a b\n<é>/c", known, TargetOutcome("b", n, float(n), "x"), THRESHOLDS
        )
    assert event is not None
    assert re.fullmatch(r"probe_miss\.massive:a_b_____c-[0-9a-f]{8}\.3000", event.id)
    assert event.svc == "massive/a b\n<é>/c"


TOO_LARGE = [
    b'{"since":NaN}',
    b'{"ts":1e300}',
    b'{"back":-Infinity}',
    b'{"fails":%d}' % 10**30,
    b'{"seen":{"a":%d}}' % 10**30,
]


@pytest.mark.parametrize(
    "raw", [None, b"", b"{", b"[]", b'{"verdict":"ill"}', b'{"seen":5}', b"\xff", *TOO_LARGE]
)
def test_what_nobody_can_read_is_as_good_as_nothing(raw):
    assert parse_state(raw) == UNKNOWN_STATE


def test_what_a_later_version_adds_is_passed_over():
    raw = orjson.dumps(orjson.loads(OutageState("up").encode()) | {"more": 1})
    assert parse_state(raw).verdict == "up"


@settings(max_examples=examples(150))
@given(st.lists(st.sampled_from([None, "refused"]), max_size=60), st.integers(1, 4), st.integers(1, 4))
def test_misses_and_oks_take_turns_and_say_what_the_rows_say(errors, down_after, up_after):
    watch = Watch(Thresholds(down_after, up_after)).see(*errors)
    assert watch.told == ["probe_miss", "probe_ok"] * (len(watch.told) // 2) + ["probe_miss"] * (
        len(watch.told) % 2
    )
    assert (watch.known.verdict == "down") == bool(len(watch.told) % 2)
    assert bool(watch.known.told) == (watch.known.verdict == "down")
    row = [error is None for error in errors[::-1]]
    if row[:down_after] == [False] * down_after:
        assert watch.known.verdict == "down"
    if row[:up_after] == [True] * up_after:
        assert watch.known.verdict == "up"
    ids = [event.id for event in watch.events]
    assert len(ids) == len(set(ids))


def outcome(n, error=None):
    return TargetOutcome("b", n, float(n), error)


def test_they_come_out_in_the_order_in_which_they_came():
    queue = OutcomeQueue(max_run=3)
    for n, name in enumerate("abcab"):
        queue.add(name, outcome(n))
    assert [(name, each.n) for name, each in queue.oldest(4)] == [("a", 0), ("b", 1), ("c", 2), ("a", 3)]


def test_a_clock_that_is_set_back_does_not_change_the_order():
    queue = OutcomeQueue(max_run=3)
    queue.add("a", TargetOutcome("b", 1, 5000.0, None))
    queue.add("a", TargetOutcome("b", 2, 1000.0, "refused"))
    assert [each.n for _, each in queue.oldest(9)] == [1, 2]


def test_what_is_done_is_gone():
    queue = OutcomeQueue(max_run=3)
    for n in range(4):
        queue.add("a", outcome(n, "refused" if n % 2 else None))
    queue.remove(queue.oldest(3))
    assert ([each.n for _, each in queue.oldest(9)], len(queue)) == ([3], 1)
    queue.remove(queue.oldest(3))
    assert (queue.oldest(9), len(queue)) == ([], 0)


def test_a_long_row_of_the_same_takes_no_more_room_than_what_can_matter():
    queue = OutcomeQueue(max_run=3)
    for n in range(10_000):
        queue.add("a", outcome(n, "refused"))
    assert [each.n for _, each in queue.oldest(99)] == [0, 1, 2, 9999]
    assert len(queue) == 4


def test_of_what_flaps_for_ever_the_oldest_goes():
    queue = OutcomeQueue(max_run=3)
    for n in range(10_000):
        queue.add("a", outcome(n, "refused" if n % 2 else None))
    assert len(queue) == MAX_RUNS == len(queue.oldest(10_000))
    assert queue.oldest(1)[0][1].n == 10_000 - MAX_RUNS


def test_what_is_forgotten_takes_no_room():
    queue = OutcomeQueue(max_run=3)
    queue.add("a", outcome(1))
    queue.add("b", outcome(2))
    queue.remove_target("a")
    queue.remove_target("c")
    assert ([name for name, _ in queue.oldest(9)], len(queue)) == (["b"], 1)


@settings(max_examples=examples(150))
@given(st.lists(st.booleans(), max_size=80), st.integers(1, 4), st.integers(1, 4))
def test_what_is_kept_leads_to_the_same_events_as_all_of_it(well, down_after, up_after):
    thresholds = Thresholds(down_after, up_after)
    every = [outcome(n, None if ok else "refused") for n, ok in enumerate(well, 1)]
    queue = OutcomeQueue(max_run=max(down_after, up_after))
    for each in every:
        queue.add("a", each)
    kept = [each for _, each in queue.oldest(1000)]
    assert told(every, thresholds) == told(kept, thresholds)


def told(sights, thresholds):
    known, events = UNKNOWN_STATE, []
    for each in sights:
        known, event = apply_outcome(PROBES, "a", known, each, thresholds)
        events += [] if event is None else [(event.type, event.ts, event.since, event.down_sec)]
    return events
