"""A short proof with every kind of part killed: the long one is `python -m marketproof --kills 100`."""

import pytest

from marketproof.plan import Plan
from marketproof.run import Proof


@pytest.mark.timeout(400)
def test_killed_anywhere_while_two_days_play_the_database_has_what_a_batch_computes(tmp_path):
    lines: list[str] = []
    proof = Proof(Plan(kills=6, seed=26, every_sec=3.0, days=2, symbols=3, torn=0.0), tmp_path, lines.append)
    proof.run()
    report = "\n".join([*lines, *proof.list_lines()])
    assert not proof.comparison.differences, report
    assert proof.kills.total() == 6, report
    assert len(proof.kills) >= 3, report
    assert not proof.exits, report
    # two days of coins, a day and 22 hours of currencies, two sessions of New York
    assert proof.comparison.rows["bars"] == proof.comparison.rows["indicators"] > 7_500, report
    assert proof.comparison.rows["observations"] > 900, report
