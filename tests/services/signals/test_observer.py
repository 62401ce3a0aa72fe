"""What is said of a leader's ticks: alerts of one term, a shadow that harms no tick, ages for Prometheus."""

import asyncio
import contextlib
from dataclasses import replace
from types import SimpleNamespace

import orjson
import pytest

from marketswarm.agent.outage_alerts import OutageAlerts
from marketswarm.agent.outage_state import SIGNALS
from marketswarm.keys import SIGNALS_ALERTS, SIGNALS_SHADOW, SIGNALS_WITNESS
from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth
from services.signals import observer as module
from services.signals.alerts import NO_QUORUM_SEC, SignalAlerts
from services.signals.metrics import SignalsMetrics
from services.signals.observer import SignalObserver
from services.signals.proofs.signer import SignerStatus
from services.signals.proofs.witness_client import WitnessReason
from services.signals.settings import SignalsSettings
from services.tables.signal_shadow import parse_shadow
from services.tables.signal_witness import UNSIGNED_SEC, WitnessReport, parse_witness_report
from support.waiting import auntil

NOW = 1_793_000_000.0
VOTERS = [
    {"voter": "trend", "rule": "trend", "weight": 1},
    {"voter": "volume", "rule": "volume", "weight": 1},
]
TRIAL = {"name": "trial", "voters": [{"voter": "trend", "weight": 1}], "least_votes": 1}


class Scene:
    """An observer on a bus in memory, of a process that leads."""

    def __init__(self, shadow=None):
        self.bus, self.now, self.witness, self.logged = MemoryBus(), NOW, True, []
        self.settings = self.make_settings(shadow)
        me = SimpleNamespace(
            name="signals",
            boot="boot",
            section=parse_truth(b'{"services": {"signals": {}}}').truth.services["signals"],
            bus=lambda _name: self.bus,
            log=SimpleNamespace(**dict.fromkeys(("exception", "warning", "info"), self.note)),
            truth=SimpleNamespace(services={"signals": None}, alert_target=lambda channel: ("bus", channel)),
            settings=SimpleNamespace(alert_channel=None),
        )
        self.metrics = SignalsMetrics()
        self.metrics.leading = 1
        self.alerts = OutageAlerts(me, SIGNALS)
        self.observer = SignalObserver(
            me,
            lambda: self.settings,
            self.metrics,
            SignalAlerts(self.alerts),
            lambda: self.witness,
            now=lambda: self.now,
        )

    def note(self, event, **_fields):
        self.logged.append(event)

    def make_settings(self, shadow):
        return SignalsSettings.model_validate({"endpoints": VOTERS, "settings": {"shadow": shadow}})

    def tick(self, *, with_quorum=0, without=0, closed=0, symbols=3):
        decision = SimpleNamespace(
            at_ms=round(1000 * self.now),
            tick=1,
            counts={"closed": closed},
            places=SimpleNamespace(symbols=range(symbols)),
            with_quorum=with_quorum,
            without_quorum=without,
            states={},
            rows=(),
        )
        plan = SimpleNamespace(due={}, closing=())
        self.observer.follow_tick(decision, SimpleNamespace(symbols=()), plan, {})

    async def report(self):
        await self.observer.report()
        task = asyncio.create_task(self.alerts.run())
        await auntil(lambda: self.alerts.is_idle)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def list_told(self):
        entries = [fields[b"event"] for _, fields in await self.bus.client.xrange(SIGNALS_ALERTS)]
        return [(event["type"], event["svc"]) for event in map(orjson.loads, entries)]


async def test_a_quorum_that_is_missing_for_an_hour_is_an_alert_and_a_metric_until_one_symbol_has_one():
    scene = Scene()
    await scene.report()
    scene.tick(without=3)
    scene.now += NO_QUORUM_SEC
    scene.tick()
    await scene.report()
    assert await scene.list_told() == [("signals_miss", "signals/quorum")]
    assert scene.metrics.quorum_missing_seconds == NO_QUORUM_SEC
    scene.tick(with_quorum=1, without=2)
    await scene.report()
    assert await scene.list_told() == [("signals_miss", "signals/quorum"), ("signals_ok", "signals/quorum")]
    assert scene.metrics.quorum_missing_seconds == 0


async def test_while_all_markets_are_closed_no_quorum_is_missing():
    scene = Scene()
    await scene.report()
    scene.tick(without=3)
    scene.tick(closed=2)
    assert scene.observer.quorum.missing_since == NOW
    scene.tick(closed=3)
    assert scene.observer.quorum.missing_since is None


async def test_what_the_signer_says_of_the_witness_becomes_an_alert_and_ages():
    scene = Scene()
    await scene.report()
    cosigned = SignerStatus(
        NOW, signed_at=NOW - 30, cosigned_at=NOW - UNSIGNED_SEC, reason=WitnessReason.AWAY, words="timeout"
    )
    scene.observer.note_signing(cosigned)
    await scene.report()
    assert await scene.list_told() == [("signals_miss", "signals/cosignature")]
    ages = {family.name: [value for _, value in family.values] for family in scene.observer.collect()}
    assert ages == {
        "marketswarm_signals_checkpoint_age_seconds": [30.0],
        "marketswarm_signals_cosignature_age_seconds": [UNSIGNED_SEC],
    }
    scene.witness = False
    await scene.report()
    assert (await scene.list_told())[1:] == [("signals_unwatched", "signals/cosignature")]


async def test_what_waits_for_a_cosignature_and_the_last_tick_are_metrics_beside_how_often_they_are_due():
    scene = Scene()
    scene.observer.note_signing(SignerStatus(NOW - 900, size=9, cosigned_size=9, cosigned_at=NOW - 900))
    await scene.report()
    scene.tick(with_quorum=3)
    metrics = {family.name: [value for _, value in family.values] for family in scene.metrics.collect()}
    assert metrics["marketswarm_signals_cosignature_missing_seconds"] == []  # the term began with the report
    assert metrics["marketswarm_signals_tick_timestamp_seconds"] == [NOW]
    assert metrics["marketswarm_signals_cycle_interval_seconds"] == [5]
    assert metrics["marketswarm_signals_checkpoint_interval_seconds"] == [60]
    idle = SignerStatus(NOW - 9000, cosigned_at=NOW - 900, whole_at=NOW, reason=WitnessReason.COSIGNED)
    for status, missing_sec in ((idle, 60), (replace(idle, whole_at=0), 960)):
        scene.observer.note_signing(status)
        scene.now = NOW + 60
        await scene.report()
        assert scene.metrics.cosignature_missing_seconds == missing_sec
    scene.witness = False
    await scene.report()
    assert scene.metrics.cosignature_missing_seconds is None


async def test_a_process_that_stands_by_has_decided_no_tick_and_says_how_often_they_are_due():
    scene = Scene()
    scene.metrics.leading = 0
    await scene.report()
    metrics = {family.name: [value for _, value in family.values] for family in scene.metrics.collect()}
    assert metrics["marketswarm_signals_tick_timestamp_seconds"] == [0]
    assert metrics["marketswarm_signals_cycle_interval_seconds"] == [5]


async def test_what_there_is_not_has_no_age():
    assert [list(family.values) for family in Scene().observer.collect()] == [[], []]


async def test_a_process_that_stands_by_says_nothing_and_a_new_term_begins_anew():
    scene = Scene(TRIAL)
    await scene.report()
    scene.tick(without=3)
    first = scene.observer.quorum
    scene.metrics.leading, scene.now = 0, NOW + 2 * NO_QUORUM_SEC
    await scene.report()
    assert await scene.list_told() == []
    assert scene.observer.quorum is not first
    assert scene.observer.shadow is None
    scene.metrics.leading = 1
    await scene.report()
    assert await scene.list_told() == []


async def test_the_report_of_a_shadow_is_written_for_a_minute_and_follows_the_truth():
    scene = Scene(TRIAL)
    await scene.report()
    assert await scene.bus.client.get(SIGNALS_SHADOW) is None
    scene.tick()
    await scene.report()
    stored = parse_shadow(await scene.bus.client.get(SIGNALS_SHADOW))
    assert (stored.name, stored.began, stored.at) == ("trial", round(1000 * NOW), round(1000 * NOW))
    assert 0 < await scene.bus.client.pttl(SIGNALS_SHADOW) <= 60_000
    run = scene.observer.shadow
    scene.tick()
    assert scene.observer.shadow is run, "the same truth goes on"
    scene.settings = scene.make_settings({**TRIAL, "enter": 0.9})
    scene.tick()
    assert scene.observer.shadow is not run
    scene.settings = scene.make_settings(None)
    scene.tick()
    assert scene.observer.shadow is None


async def test_an_error_of_the_shadow_ends_the_shadow_alone_and_is_logged_once(monkeypatch):
    scene = Scene(TRIAL)
    await scene.report()

    def fail(*_args):
        raise RuntimeError

    monkeypatch.setattr(module.ShadowRun, "follow", fail)
    for _ in range(3):
        scene.tick(with_quorum=1)
    await scene.report()
    assert scene.logged == ["shadow.failed"]
    assert await scene.bus.client.get(SIGNALS_SHADOW) is None


async def test_a_bus_that_is_away_ends_no_report_and_is_logged_once():
    scene = Scene(TRIAL)
    await scene.report()
    scene.tick()
    scene.bus.connected = False
    for _ in range(3):
        await scene.observer.report()
    scene.bus.connected = True
    await scene.observer.report()
    assert scene.logged == ["reports.unwritten", "reports.written"]
    assert parse_shadow(await scene.bus.client.get(SIGNALS_SHADOW)).name == "trial"


async def test_the_bus_says_whether_a_witness_is_named_and_how_it_answered():
    scene = Scene()

    async def read():
        await scene.report()
        return parse_witness_report(await scene.bus.client.get(SIGNALS_WITNESS))

    assert await read() == WitnessReport(named=True)
    assert 0 < await scene.bus.client.pttl(SIGNALS_WITNESS) <= 60_000
    scene.observer.note_signing(SignerStatus(NOW, reason=WitnessReason.AWAY))
    assert await read() == WitnessReport(named=True, reason="away")
    scene.observer.note_signing(SignerStatus(NOW, reason=WitnessReason.BAD_PROOF))
    assert await read() == WitnessReport(named=True, reason="bad_proof", refused=True)
    scene.witness = False
    assert await read() == WitnessReport(named=False)
    await scene.bus.client.delete(SIGNALS_WITNESS)
    scene.metrics.leading = 0
    assert await read() is None, "only the process that leads knows"


@pytest.mark.parametrize(
    "raw", [None, b"", b"[]", b'{"named": 1}', b'{"named": true, "reason": "a b"}', b" " * 2000]
)
def test_a_report_that_is_none_says_nothing_of_the_witness(raw):
    assert parse_witness_report(raw) is None
