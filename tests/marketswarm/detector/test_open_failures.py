"""Failures that others report of a service that beats: open until the same side says that they are over."""

from dataclasses import replace
from itertools import pairwise

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketswarm.beat import Beat, encode_beat
from marketswarm.detector import EndedRun, SavedService, State, Verdict
from marketswarm.detector.trouble import MAX_OPEN_FAILURES
from marketswarm.monitor.encoder import VerdictEncoder
from marketswarm.monitor.roster_entry import parse_entry
from marketswarm.monitor.store import combine_service, encode_saved_beat, parse_saved_beat
from support.examples import examples
from support.simulation.manual_detector import WALL, Hand, watch
from support.simulation.manual_jobs import minutely

ENCODER = VerdictEncoder(family="heartbeat", by="healer", channel="healer:alerts")


def beating(hand: Hand, sec: float = 60.0) -> None:
    hand.beating(sec, 10, boot="web")


def report(hand: Hand, run: str, via: str | None = "alertmanager", **more) -> None:
    hand.beat(boot=more.pop("boot", "board"), run=run, via=via, **more)


def states(hand: Hand) -> list[str]:
    return [str(verdict.state) for verdict in hand.verdicts if verdict.svc == "a"]


def last(hand: Hand) -> Verdict:
    return next(verdict for verdict in reversed(hand.verdicts) if verdict.svc == "a")


def publish(hand: Hand) -> SavedService:
    """What a later healer reads in the roster of the last verdict."""
    encoded = ENCODER.encode(last(hand))
    entry = parse_entry("bus", "healer:roster", "a", encoded.value)
    noted = hand.detector.observer.take_unsaved(hand.now.mono).get("a")
    noted = noted and parse_saved_beat(encode_saved_beat(noted))
    return combine_service(entry, None, (hand.clock().proven, hand.now.wall), "bus", noted)


def alerted(via: str | None = "alertmanager", **more) -> Hand:
    hand = Hand(watch())
    beating(hand)
    report(hand, "failed", via, **more)
    hand.run(1)
    assert states(hand) == ["up", "down"]
    assert last(hand).reason == "failed"
    return hand


@pytest.mark.parametrize("via", ["alertmanager", "kuma", "gatus", "healthchecks"])
def test_an_alert_about_a_service_that_beats_stays_until_it_is_resolved(via):
    hand = alerted(via)
    began = hand.now.wall - 1
    for _ in range(5):  # the sender repeats what still fires
        beating(hand, 600)
        report(hand, "failed", via)
    assert states(hand) == ["up", "down"]

    report(hand, "ended", via)
    assert states(hand) == ["up", "down", "up"]
    assert last(hand).down_sec == pytest.approx(hand.now.wall - began, abs=1.5)
    beating(hand)
    hand.run(31)
    assert states(hand) == ["up", "down", "up", "down"], "it is monitored as before"
    assert last(hand).reason == "silent"


def test_each_way_ends_its_own_failure_alone_and_the_service_is_up_once_none_is_open():
    hand = alerted("alertmanager")
    report(hand, "failed", "kuma")
    beating(hand)
    report(hand, "ended", "healthchecks")
    report(hand, "ended", "alertmanager")
    beating(hand)
    assert states(hand) == ["up", "down"]
    report(hand, "ended", "kuma")
    assert states(hand) == ["up", "down", "up"]


def test_a_service_that_beats_by_pings_stays_down_while_an_alert_about_it_fires():
    hand = Hand(watch())
    report(hand, "ended", "kuma")
    report(hand, "failed", "alertmanager")
    hand.run(1)
    for _ in range(5):
        report(hand, "ended", "kuma")
        hand.run(10)
    assert states(hand) == ["up", "down"]
    report(hand, "failed", "kuma")
    report(hand, "ended", "alertmanager")
    assert states(hand) == ["up", "down"]
    report(hand, "ended", "kuma")
    assert states(hand) == ["up", "down", "up"]


def test_an_end_that_names_no_way_ends_all_of_them():
    hand = alerted()
    report(hand, "failed", "kuma")
    hand.beat(boot=None, run="ended")
    assert states(hand) == ["up", "down", "up"]


@pytest.mark.parametrize("boot", ["script", None])
def test_a_failure_of_a_script_beside_the_process_that_beats_is_not_ended_by_that_process(boot):
    hand = alerted(None, boot=boot)
    beating(hand)
    assert states(hand) == ["up", "down"]
    hand.beat(boot=boot)  # that script itself
    assert states(hand) == ["up", "down", "up"]


def test_a_new_process_of_the_service_ends_the_failure_of_a_script_but_no_alert():
    hand = alerted(None, boot="script")
    hand.beat(boot="web2")
    assert states(hand) == ["up", "down", "up"]

    hand = alerted("alertmanager")
    hand.beat(boot="web2")
    assert states(hand) == ["up", "down"]


def test_a_failure_of_its_own_is_ended_by_its_next_beat_as_ever():
    for boot in ("web", None):
        hand = Hand(watch())
        hand.beating(60, 10, boot=boot)
        hand.beat(boot=boot, run="failed", exit_code=3)
        hand.run(1)
        hand.beat(boot=boot)
        assert states(hand) == ["up", "down", "up"], boot
    hand = Hand(watch())  # and of one that nobody beside it beats
    hand.beat(boot="run1")
    hand.run(40)
    hand.beat(boot="run2", run="failed")
    hand.run(1)
    hand.beat(boot="run3")
    assert states(hand) == ["up", "down", "up"]


def test_the_next_run_of_a_job_ends_its_failure_whichever_way_that_came():
    hand = Hand(minutely())
    report(hand, "failed", "healthchecks")
    hand.run(1)
    assert states(hand) == ["down"]
    hand.beat(boot="cron")
    assert states(hand) == ["down", "up"]


def test_an_alert_about_a_service_that_dies_and_comes_back_stays_too_and_the_outage_began_with_its_death():
    hand = Hand(watch())
    beating(hand)
    died_at = hand.now.wall - 10
    hand.run(60)
    assert last(hand).reason == "silent"
    report(hand, "failed")
    beating(hand, 100)
    assert states(hand) == ["up", "down"]
    report(hand, "ended")
    assert last(hand).down_sec == pytest.approx(hand.now.wall - died_at, abs=1)


def test_an_alert_lasts_over_restarts_gaps_and_reseeds():
    first = alerted()
    later = Hand(watch(), known={"a": publish(first)}, wall=first.now.wall)
    beating(later)
    later.cut(20)
    beating(later)
    later.rewatch(watch(timeout=60))
    beating(later)
    assert states(later) == []
    report(later, "ended", i=100)
    assert states(later) == ["up"]
    assert last(later).down_sec == pytest.approx(later.now.wall - first.now.wall + 1, abs=2)


def test_all_open_failures_last_over_a_restart_and_none_that_is_over():
    """Before, a healer that started knew the first one that was published, also if that one was over."""
    first = alerted()
    report(first, "failed", "kuma", i=2)
    report(first, "failed", "gatus", i=3)
    report(first, "ended", i=4)
    first.run(1)
    later = Hand(watch(), known={"a": publish(first)}, wall=first.now.wall)
    beating(later)
    assert [each.via for each in later.detector.services["a"].trouble.open] == ["kuma", "gatus"]
    report(later, "ended", "kuma", i=100)
    beating(later)
    assert states(later) == []
    report(later, "ended", "gatus", i=101)
    assert states(later) == ["up"]


def test_failures_that_were_noted_in_an_earlier_outage_open_nothing():
    first = alerted()
    old = publish(first)
    assert old.last_beat is not None
    noted = old.last_beat._replace(failures={"kuma": first.now.wall - 3600})
    later = Hand(watch(), known={"a": replace(old, last_beat=noted)}, wall=first.now.wall)
    assert [each.via for each in later.detector.services["a"].trouble.open] == ["alertmanager"]


@pytest.mark.parametrize(
    "failures", [1, [], {"a": "b"}, {"": 1.0}, {"x" * 17: 1.0}, {f"w{n}": 1.0 for n in range(9)}]
)
def test_a_note_with_unusable_failures_is_unusable(failures):
    found = {"boot": "x", "i": 1, "ts": 1.0, "wall": WALL, "failures": failures}
    assert parse_saved_beat(orjson.dumps(found)) is None


def test_an_alert_that_is_resolved_before_the_restore_is_over_and_one_that_fires_then_is_told():
    first = alerted()
    for ways, want in ((["ended"], ["up"]), (["failed"], []), (["ended", "failed"], ["up", "down"])):
        later = Hand(watch(), wall=first.now.wall, held=True)
        for run in ways:
            report(later, run)
        later.beat(boot="web", i=100)
        later.recall({"a": publish(first)})
        later.run(1)
        assert states(later) in (want, [] if want == ["up", "down"] else want), ways
        beating(later)
        assert later.detector.services["a"].state is (State.UP if ways == ["ended"] else State.DOWN)


def test_an_alert_that_is_resolved_in_a_gap_is_known_by_the_run_that_is_stored():
    hand = alerted()
    before, after = EndedRun(hand.now.wall - 5, "alertmanager"), EndedRun(hand.now.wall + 5, "alertmanager")
    for ended in (before, EndedRun(hand.now.wall + 5, "kuma")):
        hand.detector.end_open_failure("a", ended)
        beating(hand)
    assert states(hand) == ["up", "down"]
    assert hand.detector.find_open_failures("bus") == ["a"]
    hand.detector.end_open_failure("a", after)
    assert hand.detector.find_open_failures("bus") == []
    beating(hand)
    assert states(hand) == ["up", "down", "up"]


def test_a_beat_that_was_stored_in_a_gap_does_not_end_an_alert():
    hand = alerted()
    hand.lose()
    hand.run(5)
    hand.attest("a", 1.0, i=50, boot="web")
    hand.find()
    hand.run(1)
    assert states(hand) == ["up", "down"]
    hand.lose()
    hand.run(5)
    hand.attest("a", 1.0, i=50, boot="board", run="ended", via="alertmanager")
    hand.find()
    assert states(hand) == ["up", "down", "up"]


def test_a_flood_of_ways_opens_a_few_failures_alone():
    hand = alerted()
    for n in range(1000):
        report(hand, "failed", f"way{n}")
    assert len(hand.detector.services["a"].trouble.open) == MAX_OPEN_FAILURES
    raw = encode_beat(Beat("a", 5000, WALL, boot="board", run="failed")).replace(b'"run"', b'"via":[1],"run"')
    hand.beat(raw=raw)
    hand.beat(boot="x", run="ended")
    assert states(hand)[-1] == "up"


WAYS = ("alertmanager", "kuma", "gatus", "healthchecks")
STEPS = st.one_of(
    st.tuples(st.sampled_from(["failed", "ended"]), st.sampled_from(WAYS)),
    st.tuples(st.just("ended"), st.none()),
    st.tuples(st.sampled_from(["beat", "new process", "gap", "reseed", "restart", "goodbye"]), st.none()),
)


@settings(max_examples=examples(200))
@given(st.lists(STEPS, max_size=30))
def test_a_service_that_beats_is_down_exactly_while_somebody_says_that_it_fails(story):
    """Whatever else happens; no miss and no ok is told twice in a row."""
    hand, i, boot = Hand(watch()), 0, 1
    is_open: list[str] = []
    told: list[str] = []

    def hear(**more) -> None:
        nonlocal i
        i += 1
        hand.beat(i=i, **more)

    hear(boot="web1")
    for step, via in story:
        if step in ("failed", "ended"):
            hear(boot="board", run=step, via=via)
            is_open = [each for each in is_open if step == "failed" or via not in (None, each)]
            is_open += [via] if step == "failed" and via not in is_open else []
        elif step == "gap":
            hand.cut(3)
        elif step == "reseed":
            timeout = 90.0 - hand.detector.services["a"].rule.timeout_sec
            hand.rewatch(watch(timeout=timeout))
        elif step == "restart":
            hand.run(1)  # so that what is open is published
            told += states(hand)
            known = {"a": publish(hand)} if states(hand) else {"a": SavedService(State(told[-1]))}
            if not states(hand) and is_open:
                continue  # this run has published nothing: the roster is the one of before
            timeout = hand.detector.services["a"].rule.timeout_sec
            hand = Hand(watch(timeout=timeout), known=known, wall=hand.now.wall)
        elif step == "goodbye":
            hear(boot=f"web{boot}", status="stopping")
        boot += step in ("new process", "goodbye")
        hear(boot=f"web{boot}")
        hand.run(5)
        hear(boot=f"web{boot}")
        assert hand.detector.services["a"].state is (State.DOWN if is_open else State.UP)
    told += states(hand)
    assert all(one != other for one, other in pairwise(told)), told
