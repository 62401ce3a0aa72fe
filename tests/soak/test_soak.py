"""A short soak with every kind of thing in it: the long one is `make soak`."""

import pytest

from soak.report import said
from soak.run import Plan, Soak


@pytest.mark.timeout(240)
def test_a_minute_of_random_faults_is_told_as_it_happened(tmp_path):
    lines: list[str] = []
    soak = Soak(Plan(minutes=0.75, seed=26, services=12), tmp_path, lines.append)
    soak.run()
    report = "\n".join([*lines, *said(soak)])
    counts = soak.account.counts
    assert soak.account.findings == [], report
    assert not soak.interrupted
    assert counts["outages made"] >= counts["outages owed"] >= 1, report
    assert counts["misses told"] >= counts["outages owed"], report
    assert soak.beats > 500, report
    assert sum(soak.done.values()) >= 8, report
