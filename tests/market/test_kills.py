"""Every service of the market, killed anywhere: each item is in its output once.

`KILLS=100 make markettest ARGS="-k kills"` is a long run; `KILLS_SEED` has one again.
"""

import contextlib
import os
import random

import pytest

from support.scenes.kills import CASES, PLAN, Point, kill_anywhere

KILLS = int(os.environ.get("KILLS", str(len(PLAN))))
SEED = int(os.environ.get("KILLS_SEED", "5"))


@pytest.mark.timeout(120 + 10 * KILLS)
@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__.removesuffix("Case"))
def test_killed_at_any_point_by_any_signal_each_item_is_there_once(tmp_path, request, kind):
    with contextlib.ExitStack() as ends:
        case = kind(tmp_path, ends, random.Random(SEED), lambda: request.getfixturevalue("archive_url"))
        done = kill_anywhere(case, KILLS)
    assert len(PLAN) > KILLS or set(done) == set(Point)
