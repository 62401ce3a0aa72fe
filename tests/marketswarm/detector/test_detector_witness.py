"""What is asked before any verdict: a beat's key, and what was taken at sight. I = 10, T = 30."""

from dataclasses import replace

import pytest

from marketswarm.beat import Beat, encode_beat, parse_beat
from marketswarm.detector import LastBeat, State, UnheardBeat
from marketswarm.truth import JobRule
from support.simulation.manual_detector import Hand, says, watch


def due(*watches, **beat) -> Hand:
    """A hand whose service `a` beat at 0 and is asked about at 30."""
    hand = Hand(*(watches or (watch(),)))
    hand.beat(**beat)
    hand.run(29.99)
    hand.elapsed = 30.0
    hand.canaries()
    assert [each.svc for each in hand.detector.tick(hand.now).suspects] == ["a"]
    return hand


def test_a_witness_who_knows_nothing_leaves_it_a_miss():
    hand = due()
    assert hand.detector.evaluate_suspect("a", None, hand.now).state is State.DOWN


def test_a_witness_with_a_newer_beat_of_the_boot_acquits_and_the_listener_is_deaf():
    hand = due(boot="b")
    acquitted = hand.detector.evaluate_suspect("a", says(4.0, boot="b", i=2), hand.now)
    assert acquitted == UnheardBeat("a", "bus", 4.0)
    assert hand.detector.counts.unheard == 1
    assert hand.detector.services["a"].last_beat.at == pytest.approx(26)
    hand.run(60)
    assert hand.said == [(0, "a", "up"), (56, "a", "down")]


def test_a_witness_who_acquits_twice_without_a_beat_heard_between_says_so():
    hand = due(boot="b")
    assert not hand.detector.evaluate_suspect("a", says(0.01, boot="b", i=2), hand.now).is_repeated
    for _ in range(60 * 4):
        hand.elapsed += 0.25
        hand.canaries()
        if hand.detector.tick(hand.now).suspects:
            break
    assert hand.detector.evaluate_suspect("a", says(0.01, boot="b", i=5), hand.now).is_repeated
    assert hand.elapsed == pytest.approx(60, abs=0.3)


def test_a_witness_with_the_beat_that_was_heard_last_changes_nothing():
    hand = due(boot="b")
    assert hand.detector.evaluate_suspect("a", says(4.0, boot="b", i=1), hand.now).state is State.DOWN


def test_a_witness_without_a_boot_is_told_from_its_age():
    hand = due()
    assert hand.detector.evaluate_suspect("a", says(29.8), hand.now).state is State.DOWN
    hand = due()
    assert isinstance(hand.detector.evaluate_suspect("a", says(29.0), hand.now), UnheardBeat)


def test_a_witness_whose_age_can_not_be_told_tells_nothing():
    hand = due(boot="b")
    assert hand.detector.evaluate_suspect("a", says(None, boot="c", i=9), hand.now).state is State.DOWN


def test_a_witness_with_a_goodbye_gives_the_miss_its_reason():
    hand = due(boot="b")
    miss = hand.detector.evaluate_suspect("a", says(30.0, boot="b", i=2, status="stopping"), hand.now)
    assert (miss.state, miss.reason) == (State.DOWN, "stopped")


def test_a_witness_whose_last_beat_before_the_goodbye_was_never_heard_gives_it_its_time():
    # found by the machine: a cut session took the beat, and the miss came early
    hand = due(boot="b")
    assert isinstance(
        hand.detector.evaluate_suspect("a", says(4.0, boot="b", i=3, status="stopping"), hand.now),
        UnheardBeat,
    )
    hand.run(30)
    assert hand.said == [(0, "a", "up"), (56, "a", "down")]
    assert hand.verdicts[-1].reason == "stopped"


@pytest.mark.parametrize("age_sec", [0.0, 4.0, 29.0, 29.8, 30.0, None])
@pytest.mark.parametrize("boot", ["b", None])
@pytest.mark.parametrize("sent_ago_sec", [0.0, 0.2, 0.3, 3600.0])
def test_a_witness_with_the_payload_that_was_heard_last_needs_no_parsing(age_sec, boot, sent_ago_sec):
    """The shortcut is taken only where the whole way ends the same."""
    payload = encode_beat(Beat("a", 1, Hand().now.wall - sent_ago_sec, boot=boot))
    hands = [due(raw=payload), due(raw=payload)]
    short, whole = (hand.detector for hand in hands)
    is_short = short.is_last_payload("a", payload)
    assert is_short is (sent_ago_sec <= 0.25)
    said = LastBeat(parse_beat(payload, "a"), age_sec)
    verdict = whole.evaluate_suspect("a", said, hands[1].now)
    if is_short:
        assert verdict == short.evaluate_suspect("a", None, hands[0].now)
        assert verdict.state is State.DOWN
        assert whole.counts == short.counts


def test_what_is_not_the_last_payload_is_parsed():
    hand = Hand(watch(), replace(watch("job"), job=JobRule(max_run_sec=30.0)))
    detector, wall = hand.detector, hand.now.wall
    first, second = (encode_beat(Beat("a", i, wall, boot="b")) for i in (1, 2))
    assert not detector.is_last_payload("a", first), "nothing was heard"
    hand.beat(raw=first)
    assert detector.is_last_payload("a", first)
    assert not detector.is_last_payload("a", second)
    assert not detector.is_last_payload("gone", first)
    hand.beat(raw=second)  # at first not parsed
    assert not detector.is_last_payload("a", second)
    forged = second.replace(b'"i":2', b'"i":x')
    assert len(forged) == len(second)
    hand.beat(raw=forged)
    hand.run(29)  # which finds that it is none
    assert not detector.is_last_payload("a", forged)
    hand.beat("job", boot="b")
    job = encode_beat(Beat("job", 1, hand.now.wall, boot="b"))
    assert detector.services["job"].payload == job
    assert not detector.is_last_payload("job", job), "how old it is counts"


@pytest.mark.parametrize("is_heard", [True, False])
def test_a_goodbye_right_after_a_gap_does_not_hide_the_beats_of_the_gap(is_heard):
    hand = Hand(watch())
    hand.beating(40, 10, boot="b")
    hand.lose()
    hand.run(32)
    hand.attest("a", 0.0, i=8, boot="b")  # three beats of the gap, the last one a second before its end
    hand.run(1)
    hand.find()
    hand.run(1)
    hand.attest("a", 2.0, i=9, boot="b", status="stopping")  # its key goes on with the age of that beat
    if is_heard:
        hand.beat(boot="b", i=9, status="stopping")
    hand.run(26)
    hand.beat(boot="c", i=1)
    hand.run(29)
    of_it = [state for _, svc, state in hand.said if svc == "a"]
    assert of_it == ["up", "unheard"], "never 30 s without a beat"

    hand.run(10)  # and silent it is missed as ever
    assert [state for _, svc, state in hand.said if svc == "a"] == ["up", "unheard", "down"]


@pytest.mark.parametrize("boot", ["b", None])
@pytest.mark.parametrize("i", [2, 7])
def test_a_goodbye_that_was_heard_is_never_news_whatever_life_its_key_was_given(boot, i):
    hand = Hand(watch())
    hand.beat(boot=boot)
    hand.run(9)
    hand.beat(boot=boot, i=i, status="stopping")
    hand.attest("a", 0.0, boot=boot, i=i, status="stopping")  # set with a fresh life
    hand.run(60)
    assert hand.said == [(0, "a", "up"), (30, "a", "down")]
    assert hand.verdicts[-1].reason == "stopped"
    assert hand.detector.counts.unheard == 0


@pytest.mark.parametrize("boot", ["b", None])
def test_a_goodbye_that_alone_was_not_heard_is_no_sign_of_life_whatever_life_its_key_was_given(boot):
    hand = due(boot=boot)
    miss = hand.detector.evaluate_suspect("a", says(21.0, boot=boot, i=2, status="stopping"), hand.now)
    assert (miss.state, miss.reason) == (State.DOWN, "stopped")


def test_a_witness_with_a_beat_never_heard_but_too_old_does_not_keep_it_up():
    hand = due(boot="b")
    assert hand.detector.evaluate_suspect("a", says(30.5, boot="b", i=2), hand.now).state is State.DOWN


def test_a_beat_that_comes_while_the_witness_is_asked_closes_the_case():
    hand = due()
    hand.beat()
    assert hand.detector.evaluate_suspect("a", None, hand.now) is None
    hand.run(29)
    assert hand.said == [(0, "a", "up")]
    hand.run(2)
    assert hand.said[-1] == (60, "a", "down")


def test_a_gap_that_ended_while_the_witness_was_asked_grants_its_warm_up():
    hand = due()
    hand.lose()
    hand.find()
    hand.canaries()
    assert hand.detector.evaluate_suspect("a", None, hand.now) is None
    hand.run(23)
    assert hand.said[-1] == (52.5, "a", "down")


def test_a_witness_who_could_not_be_asked_is_asked_again():
    hand = due()
    hand.detector.retry_suspect("a")
    hand.run(1)
    assert hand.said == [(0, "a", "up"), (30, "a", "down")]


def test_nobody_asked_means_nothing_concluded():
    hand = due()
    assert hand.detector.evaluate_suspect("b", None, hand.now) is None
    assert hand.detector.evaluate_suspect("a", None, hand.now) is not None
    assert hand.detector.evaluate_suspect("a", None, hand.now) is None
    hand.detector.retry_suspect("a")
    hand.run(100)
    assert len(hand.said) == 1


# -- at sight


def test_what_is_known_by_heart_counts_as_heard_and_costs_no_parse():
    hand = Hand(watch())
    hand.beating(100, 10, boot="b")
    assert hand.detector.counts.heard == 10
    assert hand.detector.services["a"].last_beat.at == pytest.approx(90)
    hand.run(60)
    assert hand.said == [(0, "a", "up"), (120, "a", "down")]


def test_what_only_looks_like_a_beat_is_taken_back_before_any_verdict_rests_on_it():
    hand = Hand(watch())
    hand.beat(boot="b", i=10)
    hand.run(10)
    hand.beat(boot="b", i=11)
    good = encode_beat(Beat("a", 12, hand.now.wall, boot="b"))
    hand.run(10)
    hand.beat(raw=good.replace(b'"i":12', b'"i":1x'))
    assert hand.detector.services["a"].is_unparsed
    hand.run(40)
    assert hand.said == [(0, "a", "up"), (47.5, "a", "down")]  # at 32.5 it is looked at
    assert hand.detector.counts.malformed == 1
    assert hand.detector.counts.heard == 2


def forge(hand: Hand, text: str = "x") -> None:
    """A payload that is taken at sight, and is not a beat."""
    record = hand.detector.services["a"]
    hand.beat(raw=record.payload.replace(b'"ts":1', b'"ts":%b' % text.encode()))
    assert record.is_unparsed, "not taken at sight"


def test_what_is_taken_back_costs_a_service_that_beats_no_more_than_three_quarters_of_a_timeout():
    hand = Hand(watch())
    for n in range(6):  # what comes up on the wheel meanwhile differs from turn to turn
        hand.beating(100 + 3 * n, 10, boot="b")
        forge(hand)
        hand.beat(raw=b"no beat at all")
        assert hand.detector.services["a"].last_beat.at >= hand.elapsed - 10 - 22.5 - 0.25
        hand.run(9)
    assert hand.said == [(0, "a", "up")]


@pytest.mark.parametrize("at", [20.5, 22.4])
def test_a_service_that_beats_is_not_missed_for_a_payload_that_was_forged_just_before_the_look(at):
    hand = Hand(watch())
    hand = Hand(watch())
    hand.beating(100 + at, 10, boot="b")
    assert hand.detector.services["a"].parsed_at.at == pytest.approx(100)  # so it is looked at at 122.5
    forge(hand)
    hand.run(36 - at)  # the beat of 130 comes six seconds late
    hand.beating(60, 10, boot="b")
    assert hand.detector.counts.malformed == 1
    assert hand.said == [(0, "a", "up")]


def test_whoever_forges_puts_off_the_miss_of_a_dead_service_once_and_for_an_interval_and_a_half():
    hand = Hand(watch())
    hand.beating(60, 10, boot="b")
    last = hand.detector.services["a"].payload
    for n in range(200):
        hand.beat(raw=last.replace(b'"ts":1', b'"ts":%c' % (ord("A") + n % 26)))
        hand.run(0.5)
    ((at, _, _),) = hand.said[1:]
    assert at == pytest.approx(62.5 + 15, abs=0.5)  # 40 is when a beat was confirmed last
    assert hand.detector.counts.malformed > 30
