"""Records in the quarantine are found by the ids of their entries."""

import pytest

from marketswarm.testing import MemoryBus
from services.bars.quarantine import find_record


@pytest.mark.parametrize("ident", ["", "1", "1-0-0", "\u0663-0", "99999999999999999999-0", "\udcff-0"])
async def test_a_text_that_is_no_id_finds_no_record(ident):
    bus = MemoryBus("market-redis")
    assert await find_record(bus, "market:quarantine", ident) is None
    await bus.aclose()
