"""The command of the environment: what it is given, how long it may take, and what its end means."""

import sys

import orjson
import pytest

from marketswarm.agent.lease import LeaseLost, clock
from marketswarm.testing import MemoryBuses
from marketswarm.truth import parse_truth
from services.medic.remedies import REMEDIES, OrderResult, Remedy, RemedyContext, RemedyOrder

pytestmark = pytest.mark.live

ORDER = RemedyOrder("feed", Remedy.COMMAND, "b1")
TRUTH = parse_truth(orjson.dumps({"services": {"feed": {}}})).truth


async def carry_out(*command, within_sec=60.0, until=None):
    context = RemedyContext(TRUTH, MemoryBuses(), command=command, command_sec=within_sec, until=until)
    return await REMEDIES[ORDER.remedy].carry_out(ORDER, context)


async def test_it_gets_the_service_as_its_last_argument_and_nothing_of_our_environment(monkeypatch):
    monkeypatch.setenv("MEDIC_SECRET", "x")
    script = "import os, sys; print('MEDIC_SECRET' in os.environ, sys.argv[1:], sys.stdin.read())"
    result, said = await carry_out(sys.executable, "-c", script, "$(id); rm *")
    assert result is OrderResult.DONE
    assert said.startswith("the command ended with 0 after ")
    assert "False ['$(id); rm *', 'feed']" in said


async def test_what_it_writes_last_is_on_record_bounded_and_on_one_line():
    script = "print('a\\x1b[31m' + 'b' * 5000)"
    _, said = await carry_out(sys.executable, "-c", script)
    assert said.isprintable()
    assert len(said) < 200


async def test_one_that_fails_may_have_done_a_part_and_one_that_is_missing_did_nothing(tmp_path):
    result, said = await carry_out(sys.executable, "-c", "raise SystemExit(3)")
    assert (result, said.partition(" after ")[0]) == (OrderResult.UNKNOWN, "the command ended with 3")
    assert (await carry_out(str(tmp_path / "none")))[0] is OrderResult.REFUSED
    assert await carry_out() == (OrderResult.REFUSED, "MEDIC_COMMAND is not set")


async def test_one_that_takes_too_long_is_ended():
    result, said = await carry_out(sys.executable, "-c", "import time; time.sleep(600)", within_sec=0.2)
    assert (result, said) == (OrderResult.UNKNOWN, "the command had not ended after 0.2 s: killed")


async def test_one_is_not_begun_after_the_lease_has_ended(tmp_path):
    script = f"open({str(tmp_path / 'done')!r}, 'w')"
    with pytest.raises(LeaseLost):
        await carry_out(sys.executable, "-c", script, until=clock() - 0.1)
    assert not list(tmp_path.iterdir())
    assert (await carry_out(sys.executable, "-c", script, until=clock() + 60))[0] is OrderResult.DONE
    assert list(tmp_path.iterdir())
