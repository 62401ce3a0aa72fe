"""Which benches run how often, what is written, and when a check is red; the benches measure nothing."""

import pytest

from bench import __main__ as main
from bench.figures import Bench, Figure, Pair
from bench.report import BEGIN, END
from bench.runner import load_results, run_all

FIGURES = {"cost": Figure("a beat", "µs of a core", "bare")}
MACHINE = {"processor": "X"}


class Measured:
    """A bench of which the test says what it measures; it counts its runs."""

    def __init__(self, *ratios, limit=1.0):
        self.ratios, self.limit, self.scales = list(ratios), limit, []

    def __call__(self, scale):
        self.scales.append(scale)
        ratio = self.ratios.pop(0) if len(self.ratios) > 1 else self.ratios[0]
        if ratio is None:
            raise RuntimeError("nothing came")
        return {"cost": Pair(ratio * self.limit, self.limit)}

    def bench(self, repeats=3, check_repeats=2):
        return Bench("Group", self, repeats, check_repeats, FIGURES)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Run `python -m bench <words>` with these benches, in an empty docs folder."""
    (tmp_path / "performance.md").write_text(f"# Figures\n{BEGIN}\n{END}\n", "utf-8")
    monkeypatch.setattr(main, "DOCS", tmp_path)
    monkeypatch.setattr(main, "describe_machine", lambda: MACHINE)
    monkeypatch.setattr(main, "find_commit", lambda: "abc123")

    def run(benches, *words):
        monkeypatch.setattr(main, "BENCHES", {name: each.bench() for name, each in benches.items()})
        monkeypatch.setattr(main.sys, "argv", ["bench", *words])
        return main.main()

    run.docs = tmp_path
    return run


def test_all_benches_run_as_often_as_the_table_says_and_are_written(bench):
    heard = Measured(1.0, 1.1, 1.2)
    assert bench({"heard": heard}) == 0
    assert heard.scales == [1.0] * 3
    machine, results = load_results(bench.docs)
    assert machine == MACHINE
    assert [pair.value for pair in results["heard"].figures["cost"]] == [1.0, 1.1, 1.2]
    page = (bench.docs / "performance.md").read_text("utf-8")
    assert "| `heard`: a beat | µs of a core | bare: 1.00 | 1.00, **1.10**, 1.20 |" in page
    assert "processor X. Commit: abc123" in page
    assert (bench.docs / "performance-1.svg").read_text("utf-8").startswith("<svg")


def test_a_named_bench_and_a_smaller_scale_are_shown_and_not_written(bench, capsys):
    heard, other = Measured(1.0), Measured(1.0)
    assert bench({"heard": heard, "other": other}, "heard") == 0
    assert bench({"heard": heard, "other": other}, "--scale", "0.1", "--repeats", "1") == 0
    assert "heard: a beat" in capsys.readouterr().out
    assert (heard.scales, other.scales) == ([1.0, 1.0, 1.0, 0.1], [0.1])
    assert load_results(bench.docs) == ({}, {})


def test_a_named_bench_that_is_written_leaves_the_others(bench, monkeypatch):
    assert bench({"heard": Measured(1.0), "other": Measured(2.0)}) == 0
    monkeypatch.setattr(main, "find_commit", lambda: "def456")
    assert bench({"heard": Measured(3.0), "other": Measured(9.0)}, "heard", "--write") == 0
    _, results = load_results(bench.docs)
    assert {name: each.figures["cost"][0].value for name, each in results.items()} == {
        "heard": 3.0,
        "other": 2.0,
    }


def test_a_run_of_the_same_commit_adds_its_repeats(bench):
    for ratio in (1.0, 2.0, 3.0):
        assert bench({"heard": Measured(ratio)}, "--repeats", "1") == 0
    _, results = load_results(bench.docs)
    assert [pair.value for pair in results["heard"].figures["cost"]] == [1.0, 2.0, 3.0]


def test_figures_of_two_machines_are_not_mixed(bench, monkeypatch):
    assert bench({"heard": Measured(1.0), "other": Measured(2.0)}) == 0
    monkeypatch.setattr(main, "describe_machine", lambda: {"processor": "Y"})
    heard = Measured(3.0)
    assert bench({"heard": heard, "other": Measured(2.0)}, "heard", "--write") == 2
    assert heard.scales == []
    assert bench({"heard": Measured(3.0)}) == 0
    assert load_results(bench.docs)[0] == {"processor": "Y"}
    assert load_results(bench.docs)[1].keys() == {"heard"}


def test_a_check_of_the_same_is_green_and_writes_nothing(bench, capsys):
    assert bench({"heard": Measured(1.0)}) == 0
    before = (bench.docs / "performance.json").read_bytes()
    heard = Measured(1.15)
    assert bench({"heard": heard}, "--check") == 0
    assert len(heard.scales) == 2
    assert (bench.docs / "performance.json").read_bytes() == before
    assert "SLOWER" not in capsys.readouterr().err


def test_a_check_names_what_got_slower_and_is_red(bench, capsys):
    assert bench({"heard": Measured(1.0), "other": Measured(1.0)}) == 0
    heard = Measured(1.5)
    assert bench({"heard": heard, "other": Measured(1.0)}, "--check") == 1
    assert len(heard.scales) == 4, "what looks slower is measured again"
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("SLOWER")]
    assert (
        line == "SLOWER: heard, a beat (µs of a core): at best 1.50 times the limit, was 1.00 (1.00 to 1.00)"
    )


def test_a_busy_moment_is_no_slowdown(bench):
    assert bench({"heard": Measured(1.0)}) == 0
    assert bench({"heard": Measured(5.0, 5.0, 1.1)}, "--check") == 0


def test_a_check_without_committed_figures_is_red(bench, capsys):
    heard = Measured(1.0)
    assert bench({"heard": heard}, "--check") == 1
    assert heard.scales == []
    assert "has no results to compare with" in capsys.readouterr().err


def test_a_check_says_what_it_could_not_compare(bench, capsys, monkeypatch):
    assert bench({"heard": Measured(1.0)}) == 0
    monkeypatch.setattr(main, "describe_machine", lambda: {"processor": "Y"})
    new = Measured(9.0)
    assert bench({"heard": Measured(1.0), "new": new}, "--check") == 0
    assert new.scales == []
    said = capsys.readouterr().err
    assert "not measured, since there is no result to compare with: new" in said
    assert "are of another machine: {'processor': 'X'}" in said


def test_a_check_knows_another_machine_by_the_pace_of_bare_programs(bench, capsys):
    assert bench({"heard": Measured(1.0)}) == 0
    assert bench({"heard": Measured(1.5, limit=1.1)}, "--check") == 1, "about as fast"
    assert "bare programs" not in capsys.readouterr().err
    for limit in (3.0, 0.4):
        assert bench({"heard": Measured(1.5, limit=limit)}, "--check") == 0
        said = " ".join(capsys.readouterr().err.split())
        assert f"bare programs take {limit:.2f} times the processor" in said
        assert "only costs count that are over 2 times as high" in said
    assert bench({"heard": Measured(2.5, limit=3.0)}, "--check") == 1


@pytest.mark.parametrize("words", [(), ("--check",)])
def test_a_bench_that_cannot_measure_is_named_and_the_others_run(bench, capsys, words):
    assert bench({"heard": Measured(1.0), "other": Measured(1.0)}) == 0
    other = Measured(1.0)
    assert bench({"heard": Measured(1.0, None), "other": other}, *words) == 1
    assert other.scales
    said = capsys.readouterr().err
    assert "RuntimeError: nothing came" in said
    assert "NOT MEASURED: heard" in said
    assert load_results(bench.docs)[1].keys() == {"heard", "other"}, "what was there stays"


def test_a_bench_that_measured_nothing_is_named_and_not_written(bench, capsys):
    assert bench({"heard": Measured(0.0), "other": Measured(1.0)}) == 1
    assert "NOT MEASURED: heard" in capsys.readouterr().err
    assert load_results(bench.docs)[1].keys() == {"other"}


@pytest.mark.parametrize(
    "words", [("nothing",), ("--scale", "0.5", "--check"), ("--scale", "0.5", "--write")]
)
def test_a_wrong_command_is_refused(bench, words):
    heard = Measured(1.0)
    with pytest.raises(SystemExit, match="2"):
        bench({"heard": heard}, *words)
    assert heard.scales == []


def test_a_bench_that_runs_only_when_it_is_named():
    memory = Measured(1.0)
    found = run_all({"memory": memory.bench(repeats=0)}, {"memory": 1}, 1.0, ("c", "d"))
    assert found["memory"].figures == {"cost": [Pair(1.0, 1.0)]}
