"""What a run prints: at its start what it does and how long that took, and each failure when it happens."""

import os
import shlex
import time
from datetime import datetime

import pytest

from support.order import KEY, add_failures, read_failures

RUNS = "marketswarm/runs"
WHAT = (
    "tests on real servers, which they start themselves; with targets of their own: "
    "make faults, boardtest, markettest, servertest, deploytest, containertest, nightly"
)
FIRST = "never yet here; four to twelve minutes on two processors"
LONGEST = 600
"""How many characters of an error are shown at once; the end of the run shows all of it."""


class AtOnce:
    """Prints each failure when it happens, and counts in pytest's cache how often each test failed."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._failed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.failed:
            return
        self._failed.append(report.nodeid)
        crash = getattr(report.longrepr, "reprcrash", None)
        error = f"{crash.path}:{crash.lineno}: {crash.message}" if crash else str(report.longrepr)
        # of xdist's workers and of pytest itself, this process alone writes to the terminal
        writer = self._config.get_terminal_writer()
        writer.line()
        writer.line(f"FAILED {report.nodeid} ({report.when})", red=True)
        writer.line(error[:LONGEST])
        writer.line(f"alone: {self._command(report.nodeid)}", bold=True)

    def pytest_sessionfinish(self) -> None:
        cache = getattr(self._config, "cache", None)
        if cache is not None and self._failed:
            cache.set(KEY, add_failures(read_failures(self._config), self._failed))

    def _command(self, nodeid: str) -> str:
        nightly = "--nightly " if self._config.getoption("nightly") else ""
        return f".venv/bin/python -m pytest -n 0 {nightly}{shlex.quote(nodeid)}"


class LastRun:
    """Keeps in pytest's cache when a run with the same words ended, how long it took and what came of it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config, self._begun = config, time.monotonic()
        self._words = " ".join(config.invocation_params.args)

    @property
    def _runs(self) -> dict[str, dict[str, str]]:
        cache = getattr(self._config, "cache", None)  # None where the cache is switched off
        return (cache.get(RUNS, {}) if cache else None) or {}

    def pytest_report_header(self) -> list[str]:
        """Two lines at the top of the run."""
        last = self._runs.get(self._words)
        said = FIRST if last is None else f"{last['took']}, {last['outcome']}, at {last['at']}"
        return [f"what: {WHAT}", f"last time: {said}"]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Note what this run was, for the next one."""
        cache = getattr(self._config, "cache", None)
        if cache is None:
            return
        counted = {kind: len(terminalreporter.stats.get(kind, ())) for kind in ("passed", "failed", "error")}
        outcome = ", ".join(f"{count} {kind}" for kind, count in counted.items() if count) or "nothing run"
        minutes, seconds = divmod(round(time.monotonic() - self._begun), 60)
        this = {
            "at": datetime.now().astimezone().isoformat(" ", "minutes"),
            "took": f"{minutes} min {seconds} s on {os.cpu_count()} processors",
            "outcome": outcome,
        }
        cache.set(RUNS, {**self._runs, self._words: this})
