"""tools/summary.py over logs as pytest writes them."""

import subprocess
import sys
from pathlib import Path

import pytest

SUMMARY = Path(__file__).parents[2] / "tools" / "summary.py"
GREEN = "....\n===== 5210 passed, 2 skipped in 301.50s (0:05:01) =====\n"
QUIET = "....\n305 passed in 240.00s (0:04:00)\n== round 1 of 1 is green, in 241 s\n"
RED = """F
FAILED a::b - 3 passed in 2.0s is what it said
= 1 failed, 4 passed, 1 warning, 2 errors in 61.25s (0:01:01) =
"""
AGAIN = ".\n= 3 passed in 2.00s =\n"
BROKEN = "make: *** [Makefile:12: environment] Error 1\n"


@pytest.mark.parametrize(
    ("logs", "code", "last"),
    [
        ([GREEN, QUIET], 0, " 5515 passed, 2 skipped in 541.50s (0:09:02) "),
        ([GREEN, RED], 1, " 1 failed, 5214 passed, 2 skipped, 1 warning, 2 errors in 362.75s (0:06:03) "),
        ([GREEN, BROKEN], 1, " 5210 passed, 2 skipped, 1 error in 301.50s (0:05:02) "),
        ([], 1, " no tests ran in 0.00s (0:00:00) "),
    ],
    ids=["green", "red", "no summary", "nothing"],
)
def test_the_last_line_is_of_all_runs_and_red_as_soon_as_one_is(tmp_path, logs, code, last):
    for number, text in enumerate(logs):
        (tmp_path / f"{number}").write_text(text, encoding="utf-8")
    words = [f"part{number}={tmp_path / str(number)}" for number in range(len(logs))]
    ended = subprocess.run([sys.executable, SUMMARY, *words], capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    *parts, whole = ended.stdout.splitlines()
    assert whole.strip("=") == last
    assert len(parts) == len(logs)
    if BROKEN in logs:
        assert "has no summary" in parts[-1]


@pytest.mark.parametrize(
    ("again", "code", "last"),
    [
        (AGAIN, 0, " 7 passed, 1 warning, 3 rerun in 63.25s (0:01:03) "),
        (RED, 1, " 1 failed, 8 passed, 2 warnings, 2 errors, 3 rerun in 122.50s (0:02:02) "),
        (BROKEN, 1, " 1 error in 0.00s (0:00:00) "),
    ],
    ids=["passed", "failed again", "no summary"],
)
def test_what_failed_and_ran_again_counts_as_it_ended(tmp_path, again, code, last):
    for name, text in {"first": RED, "again": again}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    words = [f"live={tmp_path / 'first'},{tmp_path / 'again'}"]
    ended = subprocess.run([sys.executable, SUMMARY, *words], capture_output=True, text=True, check=False)
    assert ended.stdout.splitlines()[-1].strip("=") == last
    assert ended.returncode == code
