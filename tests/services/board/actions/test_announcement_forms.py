"""What forms say of announcements."""

import pytest

from marketswarm.web.limits import RefusedError
from marketswarm.web.sessions import SentForm
from services.board.actions.forms import parse_moment, read_state


def test_a_moment_is_in_utc():
    assert parse_moment("2026-11-22T04:30") == 1_795_321_800.0
    assert parse_moment("") is None


@pytest.mark.parametrize("text", ["now", "2026-13-01T00:00", "99999-01-01T00:00"])
def test_what_is_no_moment_is_refused(text):
    with pytest.raises(RefusedError):
        parse_moment(text)


def test_lines_end_as_ours_do():
    assert SentForm(None, None, {"text": "one\r\ntwo\rthree"}).text == "one\ntwo\nthree"


def test_a_state_may_be_left_as_it_is():
    assert read_state({}) is None
    assert read_state({"state": "resolved"}) == "resolved"
    with pytest.raises(RefusedError):
        read_state({"state": "fine"})
