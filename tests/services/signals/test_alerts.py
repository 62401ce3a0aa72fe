"""Which checks of the signals fail, and what is published of that, over a restart and a change of leaders."""

import asyncio
import contextlib
import time
from dataclasses import replace
from types import SimpleNamespace

import orjson
import pytest

from healer.service_alert import parse_service_alert
from marketswarm.agent.outage_alerts import OutageAlerts
from marketswarm.agent.outage_state import SIGNALS
from marketswarm.event import Event, Kind
from marketswarm.keys import SIGNALS_ALERTS
from marketswarm.testing import MemoryBus
from marketswarm.text import format_duration
from services.signals.alerts import (
    NO_QUORUM_SEC,
    LogHealth,
    QuorumClock,
    SignalAlerts,
    SignalCheck,
    WitnessRefusal,
    evaluate_checks,
    read_health,
)
from services.signals.proofs.signer import SignerStatus, SigningProblem
from services.signals.proofs.witness_client import REFUSALS, WitnessReason
from services.tables.signal_witness import UNSIGNED_SEC
from support.waiting import auntil

NOW = 1_793_000_000.0
COSIGNATURE, WITNESS, QUORUM = SignalCheck


def test_all_checks_hold_where_nothing_is_wrong():
    assert evaluate_checks(LogHealth(), NOW) == dict.fromkeys(SignalCheck)


@pytest.mark.parametrize(
    ("check", "limit", "field"),
    [(COSIGNATURE, UNSIGNED_SEC, "awaiting_since"), (QUORUM, NO_QUORUM_SEC, "no_quorum_since")],
)
def test_what_is_missing_fails_at_its_limit_and_is_neither_before(check, limit, field):
    begun = LogHealth(**{field: NOW})
    assert check not in evaluate_checks(begun, NOW + limit - 0.1)
    failure = evaluate_checks(begun, NOW + limit)[check]
    assert failure.since == NOW
    assert failure.reason.endswith(f"for {format_duration(limit)}")
    assert check not in evaluate_checks(begun, NOW - 86_400), "the clock was set back"


def test_the_limits_are_those_of_the_operating_page():
    assert (UNSIGNED_SEC, NO_QUORUM_SEC) == (300.0, 3600.0)


def test_a_refusal_fails_at_once_with_what_the_witness_said():
    health = LogHealth(refusal=WitnessRefusal(NOW - 1, "409 it knows size 12", "fork!\x1b[2J\nmore"))
    failure = evaluate_checks(health, NOW)[WITNESS]
    assert failure.reason == "the witness refuses: 409 it knows size 12"
    assert failure.detail == "the witness said: fork!"
    assert failure.since == NOW - 1


def test_foreign_words_fit_into_a_reason_that_the_healer_takes():
    long = "\x00" + "x" * 100_000
    health = LogHealth(NOW - 400, long, WitnessRefusal(NOW, long, long), NOW - 7200)
    for failure in evaluate_checks(health, NOW).values():
        assert len(failure.reason) <= 200
        assert failure.reason.isprintable()


def test_what_is_not_known_yet_neither_fails_nor_holds():
    health = LogHealth(NOW - 400, refusal=WitnessRefusal(NOW, "403"), unknown=frozenset(SignalCheck))
    assert evaluate_checks(health, NOW) == {}


def test_the_quorum_is_missing_from_the_first_tick_without_until_one_with():
    clock = QuorumClock()
    assert not clock.is_known
    clock.note_tick(NOW, 0, 0)
    assert (clock.is_known, clock.missing_since) == (False, None), "nothing was weighed"
    clock.note_tick(NOW + 5, 0, 3)
    clock.note_tick(NOW + 10, 0, 1)
    clock.note_tick(NOW + 15, 0, 0)
    assert (clock.is_known, clock.missing_since, clock.missing_sec(NOW + 20)) == (True, NOW + 5, 15.0)
    clock.note_tick(NOW + 20, 1, 40)
    assert (clock.missing_since, clock.missing_sec(NOW + 25)) == (None, 0.0)
    clock.note_tick(NOW + 25, 0, 1)
    clock.end()
    assert clock.missing_since is None, "the markets have closed"
    assert clock.missing_sec(NOW + 30) == 0.0


def find_checks(status, now=NOW, quorum=None, checkpoint_sec=60.0):
    """Return by check whether it fails (True), holds (False), or is not known (missing)."""
    found = evaluate_checks(read_health(status, quorum or QuorumClock(), now, checkpoint_sec), now)
    return {check: failure is not None for check, failure in found.items()}


def test_a_witness_that_cosigns_holds_both_of_its_checks():
    status = SignerStatus(NOW - 9000, cosigned_at=NOW - 60, reason=WitnessReason.COSIGNED)
    assert find_checks(status) == {COSIGNATURE: False, WITNESS: False}


@pytest.mark.parametrize("reason", REFUSALS)
def test_each_refusal_is_one_and_its_words_are_those_of_the_witness(reason):
    status = SignerStatus(NOW - 9000, cosigned_at=NOW - 60, reason=reason, words="HTTP 422: no\x1b[2J")
    assert find_checks(status) == {WITNESS: True}
    failure = evaluate_checks(read_health(status, QuorumClock(), NOW, 60.0), NOW)[WITNESS]
    assert (failure.reason, failure.detail) == (
        f"the witness refuses: {reason}",
        "the witness said: HTTP 422: no",
    )


@pytest.mark.parametrize("reason", [None, WitnessReason.AWAY, WitnessReason.OTHER_SIZE])
def test_a_witness_that_was_not_reached_may_refuse_still_and_is_missed_after_five_minutes(reason):
    status = SignerStatus(NOW - 9000, cosigned_at=NOW - 299, reason=reason, words="timeout")
    assert find_checks(status) == {}
    assert find_checks(status, NOW + 1) == {COSIGNATURE: True}


def test_without_a_checkpoint_the_time_counts_from_the_beginning_and_the_reason_is_said():
    status = SignerStatus(NOW - 300, problem=SigningProblem.NO_KEY)
    failure = evaluate_checks(read_health(status, QuorumClock(), NOW, 60.0), NOW)[COSIGNATURE]
    assert (failure.since, failure.reason) == (NOW - 300, "no cosignature for 5 min: no_key")


def test_a_cosignature_that_grows_old_counts_though_the_last_answer_was_one():
    status = SignerStatus(NOW - 9000, size=9, cosigned_at=NOW - 301, reason=WitnessReason.COSIGNED)
    assert find_checks(status) == {COSIGNATURE: True, WITNESS: False}


def test_what_is_signed_seldom_is_missed_after_three_checkpoints():
    status = SignerStatus(NOW - 9000, size=9, cosigned_at=NOW - 1799, reason=WitnessReason.AWAY)
    assert find_checks(status, checkpoint_sec=600.0) == {}
    assert find_checks(status, NOW + 1, checkpoint_sec=600.0) == {COSIGNATURE: True}


def test_while_no_entry_comes_there_is_nothing_to_cosign():
    signed = {"size": 9, "cosigned_at": NOW - 3000, "reason": WitnessReason.COSIGNED}
    status = SignerStatus(NOW - 9000, whole_at=NOW - 299, **signed)
    assert find_checks(status) == {COSIGNATURE: False, WITNESS: False}
    # nobody has looked since, so nobody knows
    assert find_checks(status, NOW + 1) == {COSIGNATURE: True, WITNESS: False}
    # the first entry after a while is not cosigned at once: that is no outage of that while
    away = replace(status, size=10, reason=WitnessReason.AWAY)
    assert find_checks(away) == {}
    assert find_checks(away, NOW + 1) == {COSIGNATURE: True}


def test_without_a_witness_the_quorum_alone_is_known():
    quorum = QuorumClock()
    quorum.note_tick(NOW - 4000, 0, 1)
    assert find_checks(None, quorum=quorum) == {QUORUM: True}
    quorum.note_tick(NOW, 1, 0)
    assert find_checks(None, quorum=quorum) == {QUORUM: False}


class Leader:
    """The alerts of one process on a bus that it shares with others."""

    def __init__(self, bus, boot):
        self.bus, self.boot = bus, boot
        me = SimpleNamespace(
            name="signals",
            boot=boot,
            bus=lambda _name: bus,
            truth=SimpleNamespace(services={"signals": None}, alert_target=lambda channel: ("bus", channel)),
            settings=SimpleNamespace(alert_channel=None),
        )
        self.alerts = SignalAlerts(OutageAlerts(me, SIGNALS))

    async def publish(self):
        """Store what waits, as the side task does."""
        task = asyncio.create_task(self.alerts.outages.run())
        await auntil(lambda: self.alerts.outages.is_idle)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def report(self, health, now):
        self.alerts.report(evaluate_checks(health, now), now)
        await self.publish()

    async def list_told(self):
        raw = [fields[b"event"] for _, fields in await self.bus.client.xrange(SIGNALS_ALERTS)]
        events = [parse_service_alert(SIGNALS, each) for each in raw]
        assert all(isinstance(each, Event) for each in events), events
        return [(str(each.type), each.svc) for each in events]


@pytest.fixture
async def leader():
    leader = Leader(MemoryBus(), "first")
    leader.alerts.follow(has_witness=True)
    await leader.publish()
    return leader


FORK = LogHealth(refusal=WitnessRefusal(NOW - 30, "422 another root of the same size", "no"))


async def test_an_alert_is_published_once_with_since_when_and_ends_once(leader):
    now = time.time()
    fork = LogHealth(refusal=WitnessRefusal(now - 30, "422 another root", "no"))
    for n in range(5):
        await leader.report(fork, now + n)
    assert await leader.list_told() == [("signals_miss", "signals/witness")]
    ((_, fields),) = await leader.bus.client.xrange(SIGNALS_ALERTS)
    event = orjson.loads(fields[b"event"])
    assert event["since"] == pytest.approx(now - 30, abs=0.01)
    assert (event["severity"], event["by"]) == ("critical", "signals")
    assert event["detail"] == "the witness said: no"
    for n in range(5):
        await leader.report(LogHealth(), now + 10 + n)
    assert await leader.list_told() == [
        ("signals_miss", "signals/witness"),
        ("signals_ok", "signals/witness"),
    ]


async def test_the_next_leader_neither_repeats_nor_ends_what_it_has_not_seen_end(leader):
    await leader.report(FORK, NOW)
    other = Leader(leader.bus, "second")
    other.alerts.follow(has_witness=True)
    other.alerts.report(evaluate_checks(FORK, NOW), NOW)
    assert other.alerts.outages.pending_count() == 0, "the stored states come first"
    await other.publish()
    other.alerts.begin_term()
    await other.publish()
    await other.report(LogHealth(unknown=frozenset(SignalCheck)), NOW + 5)
    await other.report(FORK, NOW + 10)
    assert await other.list_told() == [("signals_miss", "signals/witness")]
    await other.report(LogHealth(), NOW + 15)
    assert await other.list_told() == [("signals_miss", "signals/witness"), ("signals_ok", "signals/witness")]


async def test_a_truth_without_a_witness_closes_what_was_about_it_and_checks_the_quorum_alone(leader):
    await leader.report(FORK, NOW)
    leader.alerts.follow(has_witness=False)
    await leader.publish()
    assert await leader.list_told() == [
        ("signals_miss", "signals/witness"),
        ("signals_unwatched", "signals/witness"),
    ]
    await leader.report(LogHealth(NOW - 9999, refusal=FORK.refusal, no_quorum_since=NOW - 3601), NOW)
    assert (await leader.list_told())[2:] == [("signals_miss", "signals/quorum")]


def test_each_kind_of_event_is_named_after_the_rule():
    assert (SIGNALS.miss, SIGNALS.ok, SIGNALS.unwatched) == (
        Kind.SIGNALS_MISS,
        Kind.SIGNALS_OK,
        Kind.SIGNALS_UNWATCHED,
    )
