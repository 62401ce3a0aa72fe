"""One service that floods its channel: its payloads are dropped, and the others are evaluated as ever."""

import pytest

from marketswarm.beat import Beat, encode_beat
from marketswarm.detector import Detector, Moment, State, Subject, restore_services
from marketswarm.detector import flood as floods
from marketswarm.detector.flood import OVER_AFTER_SEC
from marketswarm.truth import Watch

BUS, WALL, TIMEOUT_SEC = "bus", 1_762_433_458.0, 6.0
PARSED_PER_SEC = 400
"""Fewer than the product parses of a service, which is too many for a test that is to be quick."""
FLOOD = PARSED_PER_SEC // 2
"""Payloads at each of four evaluations a second: twice as many as are parsed."""


@pytest.fixture(autouse=True)
def _few_are_parsed(monkeypatch):
    assert PARSED_PER_SEC < floods.MAX_PARSED_PER_SEC
    monkeypatch.setattr(floods, "MAX_PARSED_PER_SEC", PARSED_PER_SEC)


class Hand:
    """A detector of two services, whose clock and canaries a test moves."""

    def __init__(self) -> None:
        self.at, self.number, self.i = 1000.0, 0, 0
        self.detector = Detector(self.now)
        watches = [Watch(svc, BUS, f"{svc}:heartbeat", 2.0, TIMEOUT_SEC) for svc in ("alpha", "bravo")]
        self.detector.set_roster(watches, {BUS: 10.0}, self.now)
        self.detector.buses[BUS].clock.note_session_opened()
        list(restore_services(self.detector, {}, {}, self.now))

    @property
    def now(self) -> Moment:
        return Moment(self.at, WALL + self.at)

    def send(self, svc, *payloads):
        channel = f"{svc}:heartbeat".encode()
        messages = [(b"message", channel, payload) for payload in payloads]
        return self.detector.take_messages(BUS, messages, self.now).verdicts

    def beat(self, svc):
        self.i += 1
        return self.send(svc, encode_beat(Beat(svc, self.i, self.now.wall, boot=svc, rev=1, every=2.0)))

    def wait(self, sec, *, flood=0):
        """Let time pass, with so many payloads of alpha each quarter of a second; return all verdicts."""
        found = []
        for _ in range(round(4 * sec)):
            self.at += 0.25
            found += self.send("alpha", *[b"noise"] * flood)
            self.number += 1
            clock = self.detector.buses[BUS].clock
            clock.note_canary_sent(self.number, self.at)
            clock.note_canary_accepted(self.now)
            found += self.detector.take_canary(BUS, self.number, self.now)
            tick = self.detector.tick(self.now)
            found += tick.verdicts
            for suspect in tick.suspects:
                found.append(self.detector.evaluate_suspect(suspect.svc, None, self.now))
        return [(each.svc, each.subject, each.state, each.reason) for each in found if each is not None]


def test_a_flooding_service_is_unwatchable_and_never_missed_and_the_other_one_is_missed_on_time():
    hand = Hand()
    hand.wait(1)
    hand.beat("alpha"), hand.beat("bravo")
    found = hand.wait(TIMEOUT_SEC + 1, flood=FLOOD)
    assert found == [
        ("alpha", Subject.WATCH, State.DOWN, "flood"),
        ("bravo", Subject.SERVICE, State.DOWN, "silent"),
    ]
    parsed = hand.detector.counts.malformed
    assert parsed <= (TIMEOUT_SEC + 2) * PARSED_PER_SEC
    assert parsed + hand.detector.counts.dropped == (TIMEOUT_SEC + 1) * 4 * FLOOD


def test_a_flood_that_is_over_ends_with_a_warm_up_after_which_silence_counts_again():
    hand = Hand()
    hand.wait(1)
    hand.beat("alpha"), hand.beat("bravo")
    hand.wait(TIMEOUT_SEC + 1, flood=FLOOD)
    assert hand.wait(OVER_AFTER_SEC - 0.5) == []
    assert hand.wait(1) == [("alpha", Subject.WATCH, State.UP, None)]
    assert hand.wait(3) == []
    assert hand.wait(TIMEOUT_SEC) == [("alpha", Subject.SERVICE, State.DOWN, "silent")]


def test_a_subscription_that_is_answered_ends_no_flood():
    hand = Hand()
    hand.wait(1)
    hand.wait(1, flood=FLOOD)
    assert hand.detector.set_refused_channels(BUS, [], hand.now) == []
    refused = ["alpha:heartbeat"]
    assert hand.detector.set_refused_channels(BUS, refused, hand.now) == []
    found = hand.wait(OVER_AFTER_SEC + 1)
    assert [each for each in found if each[0] == "alpha"] == []  # it is refused now
    (verdict,) = hand.detector.set_refused_channels(BUS, [], hand.now)
    assert (verdict.svc, verdict.state) == ("alpha", State.UP)


def test_what_a_service_of_many_instances_beats_is_all_parsed():
    hand = Hand()
    hand.wait(1)
    beats = [
        encode_beat(Beat("alpha", 1, hand.now.wall, boot=f"b{n}", rev=1, every=2.0))
        for n in range(PARSED_PER_SEC)
    ]
    hand.send("alpha", *beats)
    assert hand.detector.counts.dropped == 0
    assert hand.detector.counts.heard == PARSED_PER_SEC


def test_a_service_that_leaves_the_truth_in_a_flood_is_closed():
    hand = Hand()
    hand.wait(1)
    hand.wait(1, flood=FLOOD)
    verdicts = hand.detector.set_roster([], {BUS: 10.0}, hand.now)
    assert ("alpha", Subject.WATCH, State.UNWATCHED) in [(v.svc, v.subject, v.state) for v in verdicts]
    assert hand.detector.floods.flooding == {}
