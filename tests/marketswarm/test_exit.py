import pytest

from marketswarm.exit import Exit, find_exit


def test_an_exit_is_found_however_deep_it_lies():
    end = Exit(4, "no truth")
    assert find_exit(end) is end
    assert find_exit(ExceptionGroup("", [ValueError(), ExceptionGroup("", [KeyError(), end])])) is end


@pytest.mark.parametrize("error", [ValueError(), ExceptionGroup("", [ValueError()]), SystemExit(1)])
def test_no_exit_is_none(error):
    assert find_exit(error) is None
