"""Print at the start of `make test` what it does, and how long that took the last time."""

import os
import time
from datetime import datetime

import pytest

KEY = "marketswarm/runs"
WHAT = (
    "tests on real servers, which they start themselves; with targets of their own: "
    "make faults, containertest, deploytest, imagetest, soak"
)
FIRST = "never yet here; about six minutes on two processors"


class LastRun:
    """Keeps in pytest's cache when a run with the same words ended, how long it took and what came of it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config, self._begun = config, time.monotonic()
        self._words = " ".join(config.invocation_params.args)

    @property
    def _runs(self) -> dict[str, dict[str, str]]:
        cache = getattr(self._config, "cache", None)  # None where the cache is switched off
        return (cache.get(KEY, {}) if cache else None) or {}

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
        cache.set(KEY, {**self._runs, self._words: this})
