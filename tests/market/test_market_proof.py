"""Two short proofs, of killed parts and of broken connections: `python -m marketproof` is the long one."""

import pytest

from marketproof.plan import Fault, Plan
from marketproof.run import Proof

DAILY_ROWS = 4 * 280 + 400
"""About how many days of the five symbols with a year of days there are."""


pytestmark = pytest.mark.nightly(
    "test_kills kills each of its services, test_services_outage freezes the buses"
)


@pytest.mark.timeout(900)
def test_killed_anywhere_while_two_days_play_the_database_has_what_a_batch_computes(tmp_path):
    proof, report = _run(Plan(kills=6, seed=26, every_sec=3.0, days=2, symbols=3), tmp_path)
    assert proof.kills.total() == 6, report
    assert len(proof.kills) >= 3, report
    # two days of coins, a day and 22 hours of currencies, two sessions of New York
    rows = proof.comparison.rows
    assert rows["bars"] == rows["indicators"] > 7_500 + DAILY_ROWS - 20, report
    assert rows["features"] > DAILY_ROWS - 20, report
    assert rows["values of features"] == 60 * rows["features"], report
    assert rows["correlations"] >= 3, report
    assert rows["observations"] > 900, report
    assert rows["symbols"] == 11, report  # of minutes, of days and of actions
    assert rows["actions"] > 10, report
    assert rows["downloads"] > 50, report
    assert rows["alerts"] > 0, report


@pytest.mark.timeout(900)
def test_cut_off_from_buses_and_database_each_service_reports_it_and_no_row_is_lost(tmp_path):
    # slow enough for rows that are right late to be asked for after the last freeze, while they may change
    proof, report = _run(Plan(kills=0, seed=3, every_sec=10.0, days=2, symbols=3, cuts=3), tmp_path)
    assert set(proof.cuts) == {
        *(f"{svc} {how} from market-redis" for svc in ("sources", "bars", "archive") for how in Fault),
        *("archive cut from postgres", "board cut from postgres", "board frozen from postgres"),
    }, report
    assert proof.comparison.rows["bars"] > 7_500 + DAILY_ROWS - 20, report


def _run(plan, folder):
    """Run a proof in which every row is right and nothing ended by itself; return it and its account."""
    lines = []
    proof = Proof(plan, folder, lines.append)
    proof.run()
    report = "\n".join([*lines, *proof.list_lines()])
    assert not proof.comparison.differences, report
    assert not proof.exits, report
    return proof, report
