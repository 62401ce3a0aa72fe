import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.beat import MAX_VIA_CHARS
from marketswarm.detector import SavedBeat
from marketswarm.detector.service import BOOTS_KEPT
from marketswarm.detector.trouble import MAX_OPEN_FAILURES
from marketswarm.monitor.store import encode_saved_beat, parse_saved_beat

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
numbers = st.floats(0, 4e9).map(lambda number: round(number, 3))
durations = st.floats(0, 1e9).map(lambda number: round(number, 3))


@given(
    st.builds(
        SavedBeat,
        words,
        st.integers(0, 2**53),
        numbers,
        numbers,
        st.booleans(),
        st.dictionaries(words, st.integers(0, 2**53)),
        durations,
        durations,
        st.dictionaries(
            st.text("abz-*", min_size=1, max_size=MAX_VIA_CHARS), numbers, max_size=MAX_OPEN_FAILURES
        ),
        st.none() | words,
    )
)
def test_a_note_is_read_as_it_was_written_whatever_the_boot_is(noted):
    assert parse_saved_beat(encode_saved_beat(noted)) == noted


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b'"x"',
        b"\xff",
        b'{"boot":"b","i":1,"ts":1}',
        b'{"boot":1,"i":1,"ts":1,"wall":1}',
        b'{"boot":"b","i":true,"ts":1,"wall":1}',
        b'{"boot":"b","i":1,"ts":"x","wall":1}',
        b'{"boot":"b","i":1,"ts":null,"wall":1}',
        b'{"boot":"b","i":1,"ts":1,"wall":1,"beside":7}',
        b'{"boot":"b","i":1,"ts":1,"wall":1,"beside":[7]}',
        b'{"boot":"b","i":1,"ts":1,"wall":1,"beside":[[]]}',
        b'{"boot":"b","i":1,"ts":1,"wall":1,"beside":{"c":"7"}}',
        b'{"boot":"b","i":1,"ts":1,"wall":1,"beside":{"c":true}}',
        b'{"boot":"b","i":1,"ts":1,"wall":1,"pace_sec":[]}',
        b'{"boot":"b","i":1,"ts":1,"wall":-1}',
        b'{"boot":"b","i":1,"ts":1,"wall":1e300}',
        b'{"boot":"b","i":1,"ts":1,"wall":"0x10"}',
        b'{"boot":"b","i":-1,"ts":1,"wall":1}',
        b'{"boot":"b","i":1e3,"ts":1,"wall":1}',
        b'{"boot":"","i":1,"ts":1,"wall":1}',
        b'{"boot":"b","i":1,"ts":NaN,"wall":1}',
        b'{"boot":"b","i":1,"ts":Infinity,"wall":1}',
        b'{"boot":"b","i":1,"ts":1,"wall":1,"timeout_sec":null}',
        b'{"boot":"b","i":1,"ts":1,"wall":1,"pace_sec":-1}',
        b'{"boot":"b","i":1,"ts":1,"wall":1,"pace_sec":true}',
        b'{"boot":"b","i":1,"ts":1,"wall":1}' + b" " * 100_000,
    ],
)
def test_what_is_no_note_is_none(raw):
    assert parse_saved_beat(raw) is None


def test_more_instances_than_are_told_apart_are_no_note():
    beside = {f"b{n}": 1 for n in range(BOOTS_KEPT + 1)}
    assert parse_saved_beat(encode_saved_beat(SavedBeat("b", 1, 1.0, 1.0, others=beside))) is None
