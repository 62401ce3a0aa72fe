import pytest

from marketswarm.exit import Exit, find_error


def test_an_exit_is_found_however_deep_it_lies():
    end = Exit(4, "no truth")
    assert find_error(end, Exit) is end
    assert find_error(ExceptionGroup("", [ValueError(), ExceptionGroup("", [KeyError(), end])]), Exit) is end


@pytest.mark.parametrize("error", [ValueError(), ExceptionGroup("", [ValueError()]), SystemExit(1)])
def test_no_exit_is_none(error):
    assert find_error(error, Exit) is None
