"""An act whose writing no bus takes is refused, and its failure is in the audit log."""

import pytest

from marketswarm.bus import BusError, NoBusError
from marketswarm.keys import BOARD_AUDIT
from marketswarm.operator.audit import Act, Action
from marketswarm.testing.memory import MemoryBus
from marketswarm.web.audit import AuditLog
from marketswarm.web.limits import RefusedError

ACT = Act(Action.ANNOUNCE, "a1", None, "127.0.0.1")


async def outcomes(bus):
    return [fields[b"outcome"].decode() for _, fields in await bus.client.xrange(BOARD_AUDIT)]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BusError("system-redis", "full"), "bus system-redis does not take it: full"),
        (NoBusError({"system-redis": "full"}), "no bus took it (system-redis: full)"),
    ],
)
async def test_an_act_that_no_bus_takes_is_refused_and_ends_as_failed(error, reason):
    bus = MemoryBus()
    with pytest.raises(RefusedError) as caught:
        async with AuditLog(lambda: bus, "board").around(ACT):
            raise error
    assert (caught.value.status, caught.value.reason) == (503, reason)
    assert await outcomes(bus) == ["begun", "failed"]
    await bus.aclose()


async def test_an_act_that_is_done_leaves_its_end_to_the_caller():
    bus = MemoryBus()
    async with AuditLog(lambda: bus, "board").around(ACT):
        pass
    assert await outcomes(bus) == ["begun"]
    await bus.aclose()


async def test_a_program_whose_act_is_not_recorded_logs_that_under_its_name(capsys):
    bus = MemoryBus()
    bus.connected = False
    with pytest.raises(RefusedError):
        await AuditLog(lambda: bus, "shop").begin(ACT)
    assert "shop.not_audited" in "".join(capsys.readouterr())
    await bus.aclose()
