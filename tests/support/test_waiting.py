import pytest

from support import waiting
from support.waiting import Patience


def test_a_limit_ends_and_a_look_that_comes_late_counts_as_a_quarter_of_a_second(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(waiting.time, "monotonic", lambda: now)
    patience, looks = Patience(4), 0
    while not patience.is_over():
        now, looks = now + 0.125, looks + 1
    assert looks == pytest.approx(4 / 0.125, abs=1)
    patience = Patience(4)
    now += 60  # the process was stopped
    assert not patience.is_over()
