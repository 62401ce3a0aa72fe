import pytest

from marketswarm.beat import make
from marketswarm.testing import MemoryBus
from marketswarm.vigil.testify import AT_ONCE, age
from marketswarm.vigil.testify import testify as ask


@pytest.mark.parametrize(
    ("timeout_sec", "left_ms", "want"),
    [
        (30.0, 60_000, 0.0),
        (30.0, 56_000, 4.0),
        (30.0, 0, 60.0),
        (1.5, 2_999, 0.001),
        (30.0, 60_001, 0.0),  # rounding on the way
        (30.0, 60_002, None),  # not by us, or by another timeout
        (30.0, -1, None),  # no end to its life
        (30.0, -2, None),  # no such key
    ],
)
def test_a_beats_age_is_what_its_key_has_lived(timeout_sec, left_ms, want):
    assert age(timeout_sec, left_ms) == want


async def test_many_are_asked_in_turns_and_what_can_not_be_read_is_left_out():
    bus = MemoryBus()
    names = [f"svc{n}" for n in range(AT_ONCE + 10)]
    for name in names:
        await bus.client.set(f"beat:{name}", make(name, 5, 1.0, boot="b"), px=55_000)
    await bus.client.set("beat:svc0", b"junk", px=1000)
    await bus.client.delete("beat:svc1")
    await bus.client.set("beat:svc2", make("svc3", 1, 1.0), px=1000)
    await bus.client.delete("beat:svc3")
    await bus.client.rpush("beat:svc3", "no string")
    await bus.client.set("beat:svc4", make("svc4", 5, 1.0))
    found = await ask(bus, dict.fromkeys(names, 30.0))
    assert found.keys() == set(names[4:])
    assert found["svc4"].age_sec is None
    assert found[names[-1]].beat.i == 5
    assert found[names[-1]].age_sec == pytest.approx(12.5, abs=7.5)  # 5 s, and what it took
    await bus.aclose()
