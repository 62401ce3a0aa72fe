"""A seeding in a few lines for a person."""

import pytest

from marketswarm.seeding import Seeding, summary
from marketswarm.truth import Changes

BUSES = ["system-redis", "market-redis"]
CHANGES = Changes(added=("a",), dropped=("b",), changed=(("c", "tags"),), buses=(("cache", "added"),))


@pytest.mark.parametrize(
    ("seeding", "lines"),
    [
        (
            Seeding(2, "f00", changed=True, changes=CHANGES, repaired=()),
            [
                "t.json is revision 2 on system-redis and market-redis",
                "  + a",
                "  - b",
                "  ~ c: tags",
                "  ~ cache: added",
            ],
        ),
        (
            Seeding(2, "f00", changed=True, changes=Changes(), repaired=()),
            [
                "t.json is revision 2 on system-redis and market-redis",
                "  the same content, written differently",
            ],
        ),
        (
            Seeding(2, "f00", changed=False, changes=Changes(), repaired=("market-redis",)),
            ["t.json is still revision 2; put back on market-redis"],
        ),
        (
            Seeding(2, "f00", changed=False, changes=Changes(), repaired=()),
            ["t.json is still revision 2 on system-redis and market-redis: nothing to do"],
        ),
    ],
    ids=["changed", "rewritten", "repaired", "unchanged"],
)
def test_a_seeding_is_summed_up(seeding, lines):
    assert list(summary(seeding, "t.json", BUSES)) == lines
