"""FAILURES row 43: a script of one user changes what the scripts of all others see."""

import asyncio
import contextlib

import pytest

from marketswarm.bus import Bus
from marketswarm.bus.scripts import load_all_scripts
from marketswarm.seeding.functions import load_functions
from support.scenes.faults import BUSES, Scene, service

SPOILT = "cjson.decode_max_depth(1) cjson.encode_max_depth(1) cjson.encode_sparse_array(true, 1, 1)"


def seeded(scene: Scene) -> None:
    """Load the functions, as bootstrap does."""

    async def load() -> None:
        for name in BUSES:
            async with contextlib.aclosing(Bus(name, scene.server(name).url)) as bus:
                await load_functions(bus, load_all_scripts())

    asyncio.run(load())


@pytest.mark.parametrize(
    "by", ["functions", pytest.param("scripts", marks=pytest.mark.nightly("[functions]"))]
)
def test_row_43_what_one_script_sets_for_all_hides_no_ok(tmp_path, by):
    system, market = BUSES
    with Scene(tmp_path, {"mortal": service(), "other": service(market)}) as scene:
        if by == "functions":
            seeded(scene)
        scene.server(market).stop()
        scene.wait_logged("bus_miss", market, bus=system)
        # who may load no function can still say this, on a server without users
        scene.server(system).cmd("EVAL", SPOILT, 0)
        if by == "functions":
            body = f"redis.register_function('theirs', function() {SPOILT} end)"
            scene.server(system).cmd("FUNCTION", "LOAD", f"#!lua name=theirs\n{body}")
            scene.server(system).cmd("FCALL", "theirs", 0)
        scene.server(market).start()
        scene.wait_logged("bus_ok", market, bus=system)
        assert "publish.entry_unreadable" not in scene["healer"].text()
