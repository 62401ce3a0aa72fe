"""A short soak with every kind of thing in it: the long one is `make soak`."""

import pytest

from soak.report import said, stood_still_sec
from soak.run import Plan, Soak


@pytest.mark.nightly(
    "tests/faults has each fault; tests/marketswarm/detector/test_detector_machine.py their orders"
)
@pytest.mark.timeout(600)
def test_a_minute_of_random_faults_is_told_as_it_happened(tmp_path):
    lines: list[str] = []
    soak = Soak(Plan(minutes=0.75, seed=26, services=12), tmp_path, lines.append)
    soak.run()
    report = "\n".join([*lines, *said(soak)])
    counts = soak.account.counts
    assert soak.account.findings == [], report
    assert not soak.interrupted
    assert counts["outages made"] >= 10, report
    owed_at_least = 1 if stood_still_sec(soak.ledger) < 15 else 0  # no machine, no promise
    assert counts["outages made"] >= counts["outages owed"] >= owed_at_least, report
    assert counts["misses told"] >= counts["outages owed"], report
    assert soak.beats > 500, report
    assert sum(soak.done.values()) >= 8, report
