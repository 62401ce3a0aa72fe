"""The rows of the fault matrix: each has a test of every run that carries its number, `test_row_7_…`."""

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
NUMBERS = re.compile(r"^test_rows?((?:_\d+)+)_")

ROWS = {
    1: "the healer away while all beat",
    2: "a death while the healer is away",
    3: "the healer restarted during an outage",
    4: "the healer killed again and again",
    5: "a bus stopped",
    6: "a bus frozen",
    7: "the healer's subscriber cut, or half-open",
    8: "the healer frozen",
    9: "the healer's loop blocked",
    10: "the subscriber's output buffer overflows",
    11: "a full bus",
    12: "a bus that became a replica",
    13: "channels revoked by ACL",
    14: "wall clocks step",
    15: "malformed payloads",
    16: "replays",
    17: "two instances",
    18: "a stranger",
    19: "a reseed",
    20: "an invalid truth",
    21: "bootstrap between two buses",
    22: "a truth removed or corrupted",
    23: "two healers",
    24: "the healer killed, the sentinel there",
    25: "a healer that hangs",
    26: "the notifier away during an outage",
    27: "a receiver that is ill",
    28: "a receiver that asks for peace",
    29: "a receiver that is gone",
    30: "the notifier killed before it knew that it was heard",
    31: "a receiver that hangs",
    32: "many die at once",
    33: "a service that flaps",
    34: "the healer dead, and nobody to tell it",
    35: "an agent that hangs",
    36: "SIGTERM at any time",
    37: "both buses killed while they write",
    38: "a publisher of 65 MB, again and again",
    39: "buses filled from outside, without a password",
    40: "a last beat that is far too large",
    41: "what is far too large, on a stream or channel that others may write",
    42: "state that another user may write is unusable",
    43: "a script that changes what all scripts see",
    44: "a truth replaced by somebody who may write it",
    45: "one channel of many refused to the healer",
    46: "no bus answers the healer",
    47: "a receiver that always fails on one message",
    48: "an outage that lasts, within a rate limit",
    49: "a great many die at once, and beat again",
    52: "a wall clock set back between two outages",
    61: "a hostile line, a pipe or a link in the log of a service that hangs",
    62: "another part's user writes what a leader leads by",
    63: "a dry run beside the real part",
    64: "what begins while nobody may be told",
    65: "an exception between an event and its message",
    66: "a bus with the newest state slow, loading or away at the start",
    67: "a truth that changes while a healer restarts and a run ends",
    76: "more deaths than a slow healer keeps up with",
}


def rows_in(folder: Path) -> dict[int, list[str]]:
    """Return the names of the test functions of every run, by the rows that they carry.

    A function with a parameter that is nightly counts: its other parameters are of every run.
    """
    found: dict[int, list[str]] = {}
    for path in sorted(folder.glob("test_*.py")):
        tree = ast.parse(path.read_bytes())
        nightly = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign) and is_nightly(node.value, set())
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        if "pytestmark" in nightly:
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if any(is_nightly(decorator, nightly) for decorator in node.decorator_list):
                continue
            if match := NUMBERS.match(node.name):
                for number in match[1].split("_")[1:]:
                    found.setdefault(int(number), []).append(node.name)
    return found


def is_nightly(mark: ast.expr, names: set[str]) -> bool:
    """Return True for `pytest.mark.nightly(…)`, or one of these names for it."""
    return ast.unparse(mark).startswith("pytest.mark.nightly(") or (
        isinstance(mark, ast.Name) and mark.id in names
    )


def test_each_row_has_a_test_of_every_run_and_each_number_is_a_row():
    found = rows_in(HERE)
    assert {row: what for row, what in ROWS.items() if row not in found} == {}
    assert {row: names for row, names in found.items() if row not in ROWS} == {}


def test_a_row_without_a_test_of_every_run_shows(tmp_path):
    source = """
def test_rows_1_2_it_holds(): pass
async def test_row_36_4_you(): pass
def test_3(): pass
@pytest.mark.nightly("test_row_1_…")
def test_row_5_by_night(): pass
nightly = pytest.mark.nightly("test_row_1_…")
@nightly
def test_row_6_by_night(): pass
@pytest.mark.parametrize("a", [1, pytest.param(2, marks=nightly)])
def test_row_7_always(a): pass
"""
    (tmp_path / "test_some.py").write_text(source, encoding="utf-8")
    (tmp_path / "test_other.py").write_text(
        "pytestmark = pytest.mark.nightly('x')\ndef test_row_8_x(): pass", encoding="utf-8"
    )
    found = rows_in(tmp_path)
    assert {row: len(names) for row, names in found.items()} == {1: 1, 2: 1, 36: 1, 4: 1, 7: 1}
