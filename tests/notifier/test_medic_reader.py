"""What the notifier reads of the medic: little, strictly, and nothing that is not known for sure."""

import asyncio
from dataclasses import asdict

import orjson
import pytest

from marketswarm.bus import BusError
from marketswarm.keys import MEDIC_LEASE, MEDIC_STATE, own_lease_key
from marketswarm.testing import MemoryBus
from notifier.medic_reader import MedicReader
from notifier.router.healing import MedicState
from services.medic.facts import Symptom
from services.medic.remedies import Remedy
from services.medic.repair import MAX_ATTEMPTS, MAX_NUMBER, MAX_TEXT, RemedyAttempt, Repair, RepairState

NOW = 1_762_433_458.0
LEASE = own_lease_key("medic", MEDIC_LEASE)


def repair(svc="feed", attempts=1):
    tried = [RemedyAttempt(Remedy.RESTART, NOW, "b" * 100, "i" * 100) for _ in range(attempts)]
    return Repair(
        incident=f"{svc}.17000",
        svc=svc,
        symptom=Symptom.SILENT,
        down_since=NOW - 40,
        opened_at=NOW - 10,
        since=NOW,
        state=RepairState.SETTLING,
        until=NOW + 30,
        attempts=tuple(tried),
        boot="b" * MAX_TEXT,
        owner_restarts=MAX_NUMBER,
    )


class Reading:
    """A reader of a bus in memory, what it wants, and what it passed on."""

    def __init__(self, *wanted):
        self.bus, self.wanted, self.found = MemoryBus(), list(wanted), []
        self.reader = MedicReader(self.bus, lambda: self.wanted, self.found.append, lambda: NOW)

    def read(self, **fields):
        async def go():
            for name, raw in fields.items():
                await self.bus.client.hset(MEDIC_STATE, name.replace("__", ":"), raw)
            await self.reader.read()

        asyncio.run(go())
        return self.found[-1]

    def lead(self):
        asyncio.run(self.bus.client.hset(LEASE, "epoch", "7"))


def test_a_repair_is_read_as_the_medic_stores_it_however_long_it_grew():
    reading = Reading("feed", "other")
    reading.lead()
    raw = orjson.dumps(repair(attempts=MAX_ATTEMPTS))
    state = reading.read(repair__feed=raw)
    assert (state.is_leading, state.read_at, list(state.repairs)) == (True, NOW, ["feed"])
    assert state.repairs["feed"].is_worked_on()
    assert [asdict(each)["remedy"] for each in state.repairs["feed"].attempts] == ["restart"] * MAX_ATTEMPTS


def test_without_a_lease_nothing_is_believed():
    state = Reading("feed").read(repair__feed=orjson.dumps(repair()))
    assert not state.is_leading


def test_where_no_message_may_wait_nothing_is_asked():
    reading = Reading()
    reading.wanted = None
    reading.bus.ask = None  # whatever asked would fail
    assert reading.read() == MedicState()


@pytest.mark.parametrize(
    "raw",
    [
        b"no json",
        b"[]",
        orjson.dumps(repair("another")),
        orjson.dumps({**orjson.loads(orjson.dumps(repair())), "state": 7}),
        b'{"svc": "feed", "state": "settling", "more": "' + 20_000 * b"x" + b'"}',
    ],
)
def test_a_value_that_no_medic_wrote_is_skipped(raw):
    reading = Reading("feed", "good")
    reading.lead()
    state = reading.read(repair__feed=raw, repair__good=orjson.dumps(repair("good")))
    assert (state.is_leading, list(state.repairs)) == (True, ["good"])


def test_a_bus_that_does_not_answer_is_logged_once_and_what_was_tried_is_still_known(capsys):
    reading = Reading("feed")
    reading.lead()
    before = reading.read(repair__feed=orjson.dumps(repair()))

    async def refuse(request, *_args, **_more):
        request.close()
        raise BusError("system-redis", "refused", "")

    answers, reading.bus.ask = reading.bus.ask, refuse
    states = [reading.read(), reading.read()]
    assert [each.is_leading for each in states] == [False, False]
    assert [each.repairs for each in states] == [before.repairs] * 2
    assert "".join(capsys.readouterr()).count("medic.unread") == 1  # wherever a log goes in this process
    reading.bus.ask = answers
    assert reading.read().is_leading


def test_a_repair_that_is_gone_is_forgotten():
    reading = Reading("feed")
    reading.lead()
    reading.read(repair__feed=orjson.dumps(repair()))
    asyncio.run(reading.bus.client.delete(MEDIC_STATE))
    assert reading.read().repairs == {}
