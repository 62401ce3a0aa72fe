import sys
from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.beat import Beat, Sender, encode_beat
from marketswarm.detector import Moment, State, WatchedService
from marketswarm.detector.bus import WatchedBus
from marketswarm.detector.clock import HeardAt
from marketswarm.detector.heard import NO_SIZE, store_familiar
from marketswarm.detector.history import DECIDED
from marketswarm.detector.rule import compute_warm_up_sec, find_rule
from marketswarm.detector.service import BOOTS_KEPT
from marketswarm.detector.states import Stage, Step
from marketswarm.detector.stored import find_elapsed_sec, is_news
from marketswarm.detector.trouble import NO_TROUBLE, PLAIN
from marketswarm.detector.verdict import Counts
from marketswarm.truth import MAX_REPLICAS
from support.simulation.manual_detector import Hand, parsed, watch

# I = 10, T = 30, so W = min(30, max(20, 22.5)) = 22.5


def record(*, gap_end: float = 0.0, last: float | None = None, enter: float = 0.0) -> WatchedService:
    bus = WatchedBus("bus", 10.0, Moment(0, 0))
    bus.clock.gap_end = gap_end
    found = WatchedService(watch(interval=10, timeout=30), bus.clock, enter)
    found.last_beat = None if last is None else HeardAt(last, last, last)
    return found


@pytest.mark.parametrize(
    ("interval", "timeout", "want"),
    [
        (10, 30, 22.5),  # three quarters of the timeout
        (14, 30, 28),  # two intervals are more
        (20, 30, 30),  # never more than the timeout
        (1, 3, 2.25),
        (0.3, 1, 0.75),
    ],
)
def test_the_warm_up_is_the_references_formula(interval, timeout, want):
    assert compute_warm_up_sec(interval, timeout) == want


# -- seen at least once: due = min(max(last + T, grace), last + T + W)


def test_without_a_gap_a_service_is_due_a_timeout_after_its_last_beat():
    assert record(last=100).due() == 130


def test_a_gap_that_ended_long_ago_changes_nothing():
    assert record(last=100, gap_end=107.5).due() == 130


def test_after_a_gap_a_service_gets_a_full_warm_up():
    assert record(last=100, gap_end=120).due() == 142.5


def test_one_silence_never_earns_more_than_one_warm_up_in_all():
    assert record(last=100, gap_end=130).due() == 152.5
    assert record(last=100, gap_end=149).due() == 152.5
    assert record(last=100, gap_end=500).due() == 152.5


def test_services_whose_lines_differ_only_in_name_and_channel_share_the_rest():
    lines = [watch("a", 10, 30), watch("b", 10, 30), watch("c", 10, 31)]
    a, b, c = (WatchedService(line, WatchedBus("bus", 10.0, Moment(0, 0)).clock, 0.0) for line in lines)
    assert a.rule is b.rule is not c.rule
    assert [(each.svc, each.channel.decode()) for each in (a, b, c)] == [(w.svc, w.channel) for w in lines]
    assert [a.is_under(line) for line in lines] == [True, False, False]
    assert not a.is_under(replace(lines[0], channel="x"))


def test_the_parts_of_a_service_are_as_small_as_the_page_of_figures_says():
    hand = Hand(watch())
    hand.beat(boot="b")
    service = hand.detector.services["a"]
    sizes = [sys.getsizeof(each) for each in (service, service.instances, service.history)]
    assert sizes <= [256, 64, 80]
    assert service.trouble is NO_TROUBLE
    assert service.silence is PLAIN
    assert service.history.undecided is DECIDED


# -- never seen: due = min(max(enter + W, grace), enter + 2W)


def test_who_was_never_seen_is_due_a_warm_up_after_it_was_watched_first():
    assert record(enter=100).due() == 122.5


def test_who_was_never_seen_gets_a_warm_up_after_a_gap():
    assert record(enter=100, gap_end=110).due() == 132.5


def test_who_was_never_seen_gets_two_warm_ups_at_most():
    assert record(enter=100, gap_end=122.5).due() == 145
    assert record(enter=100, gap_end=500).due() == 145


def test_a_change_grants_a_time_before_which_nothing_is_due():
    changed = record(last=100)
    changed.not_due_before = 140
    assert changed.due() == 140
    changed.last_beat = HeardAt(200, 200, 200)
    assert changed.due() == 230


# -- the wheel


def test_a_silence_is_worth_remembering_from_three_quarters_of_the_timeout_and_for_the_never_seen_at_once():
    assert record(last=100).silence_save_at() == 122.5
    assert record(enter=100).silence_save_at() == 100


def test_the_wheel_brings_it_up_for_the_mark_then_for_the_due():
    seen = record(last=100)
    assert seen.next_evaluation() == 122.5
    seen.mark_silence_saved()
    # a beat that ends it begins the next one, which is to be saved in time, too
    assert seen.next_evaluation() == seen.clock.proven + 22.5 < 130


@pytest.mark.parametrize("why", ["dropped", "suspected", "down"])
def test_nothing_falls_due_of_who_is_gone_asked_about_or_down(why):
    found = record(last=100)
    if why == "down":
        found.state = State.DOWN
    else:
        found.stage = Stage(why)
    assert found.next_evaluation() == inf


@pytest.mark.parametrize(
    ("steps", "stage"),
    [
        ([], Stage.RESTORING),
        ([Step.DUE], Stage.RESTORING),  # no silence counts before the saved one is known
        ([Step.RESTORED], Stage.EVALUATED),
        ([Step.RESTORED, Step.ANSWERED], Stage.EVALUATED),
        ([Step.RESTORED, Step.DUE], Stage.SUSPECTED),
        ([Step.RESTORED, Step.DUE, Step.ANSWERED], Stage.EVALUATED),
        ([Step.DROPPED], Stage.DROPPED),
        ([Step.RESTORED, Step.DROPPED], Stage.DROPPED),
        ([Step.RESTORED, Step.DUE, Step.DROPPED], Stage.DROPPED),
        ([Step.DROPPED, Step.RESTORED, Step.DUE, Step.ANSWERED], Stage.DROPPED),
    ],
)
def test_a_service_is_restored_then_evaluated_then_suspected_and_once_dropped_it_stays_that(steps, stage):
    found = WatchedService(watch(), WatchedBus("bus", 10.0, Moment(0, 0)).clock, 0.0, Stage.RESTORING)
    for step in steps:
        found.move_stage(step)
    assert found.stage is stage


def test_silence_counts_from_the_last_beat_or_from_when_the_watching_began():
    assert record(last=100).silence_sec(131.2) == pytest.approx(31.2)
    assert record(enter=7).silence_sec(30) == 23


# -- incarnations and replays


def test_a_beat_whose_i_is_not_above_the_highest_of_its_boot_is_a_replay():
    found = record()
    assert [found.check_replay("b", i) for i in (5, 5, 4, 6, 1)] == [False, True, True, False, True]


def test_another_boot_counts_from_the_beginning():
    found = record()
    assert not found.check_replay("b", 500)
    assert not found.check_replay("c", 1)
    assert found.check_replay("b", 500)
    assert found.instances.find_newest()[0] == "c"


def test_without_a_boot_there_is_no_telling_a_replay():
    found = record()
    assert not found.check_replay(None, 1)
    assert not found.check_replay(None, 1)
    assert found.instances.find_newest()[0] is None


def test_so_many_boots_are_remembered_and_no_more():
    found = record()
    for n in range(BOOTS_KEPT):
        found.check_replay(f"b{n}", 9)
    assert found.check_replay("b0", 9)
    found.check_replay("one more", 1)
    assert len(found.instances) == BOOTS_KEPT
    assert not found.check_replay("b0", 9), "the one that was silent longest is the first forgotten"


def test_no_more_instances_are_forgotten_than_the_truth_allows():
    assert BOOTS_KEPT >= 2 * MAX_REPLICAS  # all of them, and all that they replaced


@pytest.mark.parametrize(
    ("boot", "i", "age", "news"),
    [
        ("b", 8, 1, True),
        ("b", 7, 1, False),
        ("c", 1, 1, True),
        (None, 1, 29.7, True),
        (None, 1, 29.76, False),  # a quarter of a second is left to the network
        (None, 1, 40, False),
    ],
)
def test_another_witness_has_news_if_its_beat_was_never_heard_here(boot, i, age, news):
    found = record(last=100)
    found.check_replay("b", 7)
    beat = Beat("a", i, 130.0 - age, boot=boot)
    assert is_news(found, beat, i, age, found.silence_sec(130)) is news


def test_the_last_beat_is_no_news_though_its_age_looks_younger_under_a_shorter_timeout():
    found = record(last=100)
    last, other = Beat("a", 1, 100.0), Beat("a", 1, 125.0)
    silence_sec = found.silence_sec(130)
    assert [is_news(found, beat, 1, 5.0, silence_sec) for beat in (last, other)] == [False, True]


@pytest.mark.parametrize("behind_sec", [0.0, 10.0, 86_400.0])  # by which the clock of its sender is wrong
def test_the_last_beat_is_no_news_after_a_shorter_timeout_whatever_its_clock_says(behind_sec):
    hand = Hand(watch(timeout=300))
    payloads = [encode_beat(Beat("a", i, hand.now.wall + 10 * i - behind_sec)) for i in (1, 2)]
    hand.beat(raw=payloads[0])
    hand.run(100)
    hand.rewatch(watch(timeout=30))
    found, (last, later) = hand.detector.services["a"], (parsed(each, "a") for each in payloads)
    silence_sec = find_elapsed_sec(found, hand.now)
    assert [is_news(found, beat, beat.i, 5.0, silence_sec) for beat in (last, later)] == [False, True]


def test_a_sender_that_always_says_the_same_is_heard_by_its_key_while_its_timeout_stays():
    hand = Hand(watch(timeout=300))
    hand.beat(raw=encode_beat(Beat("a", 1, 0.0)))
    hand.run(100)
    found = hand.detector.services["a"]
    assert is_news(found, Beat("a", 1, 0.0), 1, 5.0, find_elapsed_sec(found, hand.now))


# -- known by heart


def is_familiar(found: WatchedService, payload: bytes) -> bool:
    return not list(store_familiar({b"a": found}, [[b"message", b"a", payload]], HeardAt(2, 2, 2), Counts()))


def know(payload: bytes) -> WatchedService:
    found = record()
    found.store_parsed(payload, parsed(payload, "a"), HeardAt(1, 1, 1))
    return found


WHO = Sender("web1", "0.3.0", 1762430000.125)


@pytest.mark.parametrize(
    ("more", "sender"),
    [
        ({}, None),
        ({"boot": "b"}, None),
        ({"boot": "b", "rev": 3, "every": 10.0}, None),
        ({"boot": "b", "rev": 3, "every": 10.0}, WHO),
    ],
)
def test_a_canonical_beat_is_known_by_heart(more, sender):
    payload = encode_beat(Beat("a", 42, 1762433458.125, **more), sender)
    found = know(payload)
    assert is_familiar(found, encode_beat(Beat("a", 43, 1762433468.127, **more), sender))


@pytest.mark.parametrize(
    "payload",
    [
        b'{"svc":"a","i":1,"ts":1762433458}',  # no decimals: another length may be as good a beat
        b'{"svc": "a", "i": 1, "ts": 1762433458.125}',
        b'{"i":1,"svc":"a","ts":1762433458.125}',
        b'{"svc":"a","i":1,"ts":1762433458.125,"i":2}',
        b'{"svc":"a","i":1,"ts":1762433458.125,"\\u0069":2}',
        b'{"svc":"a","i":1,"ts":1762433458.125,"ts":1}',
        b'{"svc":"a","i":1,"ts":1762433458.125,"svc":"a"}',
        b'{"svc":"a","i":1,"ts":1762433458.125 ,"x":1}',
        b'{"svc":"a","i":1,"ts":1762433458.1251}',
    ],
)
def test_what_might_mean_something_else_next_time_is_parsed_every_time(payload):
    assert know(payload).expected_size == NO_SIZE


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 2**41), st.integers(0, 2**41))
def test_two_beats_that_look_alike_differ_in_i_and_ts_alone(i, j, ts, then):
    first, second = (
        encode_beat(Beat("a", i, ts / 1000, boot="b")),
        encode_beat(Beat("a", j, then / 1000, boot="b")),
    )
    found = know(first)
    if is_familiar(found, second):
        assert parsed(second, "a").boot == "b"


FIRST = encode_beat(Beat("a", 11, 5.0, boot="b"))


def hear_at_sight(*payloads: bytes) -> WatchedService:
    """The first beat was parsed at 1, and the payloads came at 9; each must be a familiar one."""
    found = record()
    found.take_beat(FIRST, parsed(FIRST, "a"), HeardAt(1, 1, 1))
    found.check_replay("b", 11)
    for payload in payloads:
        messages = [[b"message", b"a", payload]]
        assert not list(store_familiar({b"a": found}, messages, HeardAt(9, 9, 9), Counts()))
    return found


@pytest.mark.parametrize(
    "payload",
    [
        encode_beat(Beat("a", 12, 6.0, boot="b")),
        encode_beat(Beat("a", 12, 6.0, boot="b")).replace(
            b"6.000", b"6e+00"
        ),  # written as no agent of ours does
        encode_beat(Beat("a", 222, 6.0, boot="b")).replace(b"6.000", b"6.00"),
    ],
)
def test_what_was_taken_at_sight_is_believed_when_its_parse_says_so(payload):
    found = hear_at_sight(payload)
    assert found.is_unparsed
    assert found.confirm(9.0)
    assert not found.is_unparsed
    assert found.last_beat == found.parsed_at == HeardAt(9, 9, 9)
    assert (found.parsed_i, found.parsed_ts) == (parsed(payload, "a").i, 6.0)
    assert found.check_replay("b", found.parsed_i)


NO_BEATS = [
    FIRST.replace(b'"i":11', b'"i":1x'),
    FIRST.replace(b'"ts":5', b'"ts":x'),
    FIRST.replace(b"5.000", b"5.00x"),
    FIRST.replace(b'1,"ts":', b'1,"tt":'),
    FIRST.replace(b'1,"ts":5.000', b'1x"ts":5.000'),
    FIRST.replace(b'"i":11', b'"i":1:'),
    encode_beat(Beat("a", 11, 7.0, boot="b")),  # the same count again
]


@pytest.mark.parametrize("payload", NO_BEATS)
def test_what_was_taken_at_sight_and_was_no_new_beat_is_taken_back(payload):
    found = hear_at_sight(payload)
    assert not found.confirm(9.0)
    assert found.last_beat == HeardAt(1, 1, 1)
    assert (found.parsed_i, found.parsed_ts) == (11, 5.0)
    assert not is_familiar(found, encode_beat(Beat("a", 12, 9.0, boot="b"))), "the next one is parsed"
    assert found.confirm(9.0), "said once"


@pytest.mark.parametrize(("interval", "timeout", "want"), [(10, 30, 40), (2, 30, 31), (10, 12, 37)])
def test_who_is_undone_has_an_interval_and_a_half_to_be_heard_and_a_timeout_at_most(interval, timeout, want):
    found = hear_at_sight(NO_BEATS[0])
    found.rule = find_rule(watch(interval=interval, timeout=timeout))
    found.confirm(25.0)
    assert found.due() == want


def test_the_wheel_confirms_who_beats_and_asks_for_nobody_else_to_be_confirmed():
    found = hear_at_sight(encode_beat(Beat("a", 12, 6.0, boot="b")))
    found.state = State.UP
    assert found.wheel_time() == 9 + 22.5
    assert not found.is_unparsed
    forged = hear_at_sight(NO_BEATS[0])
    forged.state = State.UP
    assert forged.wheel_time() == 1 + 22.5
    assert forged.is_unparsed
