import pytest

from marketswarm.exit import Exit, exit_in


def test_an_exit_is_found_however_deep_it_lies():
    end = Exit(4, "no truth")
    assert exit_in(end) is end
    assert exit_in(ExceptionGroup("", [ValueError(), ExceptionGroup("", [KeyError(), end])])) is end


@pytest.mark.parametrize("error", [ValueError(), ExceptionGroup("", [ValueError()]), SystemExit(1)])
def test_no_exit_is_none(error):
    assert exit_in(error) is None
