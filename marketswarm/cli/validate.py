"""Implement `marketswarm validate`, and read a truth file for every command, with all of its problems."""

import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from marketswarm.agent.service_config import load_with_sections
from marketswarm.cli import output
from marketswarm.cli.options import TRUTH, Json
from marketswarm.exit import Mistake
from marketswarm.status.job_text import format_scheduled
from marketswarm.text import format_duration
from marketswarm.truth import ParsedTruth, Truth, TruthError

NEXT_RUNS: Final = 3
"""The runs of each job that are shown."""


def validate(
    file: Annotated[Path, typer.Argument(envvar="TRUTH_PATH", help="The truth to check.")] = TRUTH,
    as_json: Json = False,
) -> None:
    """Check a truth: every problem at once, with its path and what would be right.

    JSON has `file`, `valid`, `services` (a number), and the lists `problems` and `warnings`: `path` and
    `message` of each. It is printed for a truth that is not valid, too.
    """
    if as_json:
        _print_findings(file)
        return
    _, loaded = read_truth_file(file)
    output.print_lines(f"  warning  {warning}" for warning in loaded.warnings)
    output.print_lines(f"  {line}" for line in list_next_runs(loaded.truth, time.time()))
    services, warnings = len(loaded.truth.services), len(loaded.warnings)
    output.print_line(
        f"{file} is valid: {_format_count(services, 'service')}, {_format_count(warnings, 'warning')}"
    )


def _print_findings(file: Path) -> None:
    """Print as JSON what a check found. Raises Exit, code 2, if the truth is not valid."""
    found: dict[str, Any] = {"valid": False, "services": None, "problems": (), "warnings": ()}
    try:
        loaded = load_with_sections(read_bytes(file))
        found |= {"valid": True, "services": len(loaded.truth.services), "warnings": loaded.warnings}
    except TruthError as error:
        found["problems"] = error.problems
    output.print_json({"file": str(file), **found})
    if not found["valid"]:
        raise Mistake("")


def list_next_runs(truth: Truth, now: float) -> list[str]:
    """Return a line for each job: `job      backup: next 03:00 Europe/Berlin, …`, with three runs."""
    lines = []
    for svc in truth.services:
        job = truth.job_of(svc)
        if job is None or job.schedule is None:
            continue
        runs = list(islice(job.schedule.runs_after(now), NEXT_RUNS))
        times = ", ".join(format_scheduled(at, job.schedule.time_zone, now) for at in runs)
        first_due = f"; overdue {format_duration(job.grace_sec)} after each" if runs else ""
        lines.append(f"job      {svc}: next {times or 'never: its schedule has ended'}{first_due}")
    return lines


def read_truth_file(path: Path) -> tuple[bytes, ParsedTruth]:
    """Return the bytes of a truth file and its truth. Raises Exit, code 2, with every problem."""
    raw = read_bytes(path)
    return raw, load_document(raw, str(path))


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Mistake(f"{path}: {error.strerror}") from None


def load_document(
    raw: bytes, name: str, load: Callable[[bytes], ParsedTruth] = load_with_sections
) -> ParsedTruth:
    """Return the truth in a document called `name`. Raises Exit, code 2, with every problem."""
    try:
        return load(raw)
    except TruthError as error:
        head = f"{name}: {_format_count(len(error.problems), 'problem')}"
        raise Mistake("\n".join([head, *(f"  {each}" for each in error.problems)])) from None


def read_valid_truth(path: Path) -> Truth:
    return read_truth_file(path)[1].truth


def _format_count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
