"""A client that comes back gets all that it missed, or learns that some of it is lost."""

from hypothesis import given
from hypothesis import strategies as st

from marketswarm.web.ring import Ring

MOST, MOST_BYTES = 5, 12


@given(st.lists(st.one_of(st.integers(1, 4), st.none()), max_size=30))
def test_what_was_missed_is_complete_or_unknown(steps):
    ring = Ring[bytes]("boot", MOST, MOST_BYTES, len)
    positions, published, kept = [ring.position], [], []
    for size in steps:
        if size is None:
            ring.clear()
            kept, positions, published = [], [], []
        else:
            number = ring.advance()
            item = b"%d" % number * size
            ring.keep(item)
            kept = [*kept, item]
            while len(kept) > MOST or sum(map(len, kept)) > MOST_BYTES:
                kept.pop(0)
            published.append(item)
        positions.append(ring.position)
    for at, position in enumerate(reversed(positions)):
        missed = published[len(published) - at :]
        expected = missed if len(missed) <= len(kept) else None
        assert ring.find_missed(position) == expected


def test_another_process_and_what_is_no_position_are_unknown():
    ring = Ring[bytes]("boot", MOST, MOST_BYTES, len)
    for position in ("other-0", "boot-1", "boot-", "boot-x", "boot--1", ""):
        assert ring.find_missed(position) is None
    assert ring.find_missed("boot-0") == []
