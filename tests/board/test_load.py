"""A short load on the board: the long one is `make boardload`."""

import pytest

from boardload.run import Plan, run_load
from support.rig.browser import needs_chromium
from support.rig.forkserver import real_starts

pytestmark = [
    needs_chromium,
    pytest.mark.nightly(
        "test_pings kills a board under load, and test_board lets a browser come back, in every run"
    ),
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kill", [False, True])
def test_many_browsers_lose_nothing_and_the_board_stays_small(tmp_path, kill):
    lines: list[str] = []
    with real_starts():
        load = run_load(
            Plan(seconds=20, browsers=40, services=4, pings=200, kill=kill), tmp_path, lines.append
        )
    report = "\n".join([*lines, *load.describe()])
    # other tests run meanwhile: no measurement
    assert list(load.find_faults(max_pixel_sec=5, min_ping_share=0.1)) == [], report
    assert load.events >= 8, report
    assert len(load.pings.acknowledged) > 500, report
    assert len(load.pixel_sec) == load.events, report
