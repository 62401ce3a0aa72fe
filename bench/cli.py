"""Measure what a command takes that people and scripts run again and again, from its start to its end.

It is the processor time, user and system. A command hardly waits for its bus, so on an idle machine it takes
as long by the clock, within 5 ms; on a busy one the clock would measure the other work. The limit is a Python
that does nothing. A notifier runs, so that each command does its work: `ack` ends with code 1 once the
notifier has said that nothing is down.
"""

import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.figures import Pair, Sample
from bench.programs import ROOT, WITHIN_SEC, run_program
from bench.server import start_buses

SVC: Final = "backup"
NOTHING: Final = ("-c", "pass")
COMMANDS: Final = {
    "status": (("-m", "marketswarm", "status"), 0),
    "beat": (("-m", "marketswarm", "beat", SVC), 0),
    "ack": (("-m", "marketswarm", "ack", SVC, "--by", "bench"), 1),
}
"""The words of each command, and the code that it ends with."""
RUNS: Final = 7


def read_cpu_sec() -> float:
    """Return the processor time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_once(words: tuple[str, ...], expected: int, folder: Path, env: dict[str, str]) -> float:
    """Return the processor time of a run, in seconds. Raise RuntimeError if it ended with another code."""
    before = read_cpu_sec()
    ended = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN_SEC,
    )
    took_sec = read_cpu_sec() - before
    if ended.returncode != expected:
        raise RuntimeError(f"{words} ended with {ended.returncode}: {ended.stderr[-1000:]}")
    return took_sec


def measure(scale: float) -> Sample:
    """Run each command in turn with a bare Python; return the medians."""
    with (
        start_buses({"healer": {}, "notifier": {}, SVC: {}}) as (system, market),
        run_program("notifier", (system, market)),
        TemporaryDirectory() as name,
    ):
        env = {
            key: value
            for key, value in os.environ.items()
            # an installed program is compiled, and so is ours after its first run
            if key != "PYTHONDONTWRITEBYTECODE" and not key.endswith(("_URL", "_URL_FILE"))
        } | {"SYSTEM_REDIS_URL": system.url, "MARKET_REDIS_URL": market.url, "PYTHONPATH": str(ROOT)}
        folder = Path(name)
        for words, code in COMMANDS.values():
            run_once(words, code, folder, env)
        sample: dict[str, Pair] = {}
        for command, (words, code) in COMMANDS.items():
            times = [
                (run_once(words, code, folder, env), run_once(NOTHING, 0, folder, env))
                for _ in range(max(1, round(RUNS * scale)))
            ]
            sample[command] = Pair(*map(statistics.median, zip(*times, strict=True)))
        return sample
