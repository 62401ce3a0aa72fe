"""Implement `marketswarm validate`, and read a truth file for every command, with all of its problems."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from marketswarm.agent.service_config import load_with_sections
from marketswarm.cli import output
from marketswarm.exit import Code, Exit
from marketswarm.truth import ParsedTruth, Truth, TruthError


def validate(
    file: Annotated[Path, typer.Argument(envvar="TRUTH_PATH", help="The truth to check.")] = Path(
        "truth.json"
    ),
) -> None:
    """Check a truth: every problem at once, with its path and what would be right."""
    _, loaded = read_truth_file(file)
    for warning in loaded.warnings:
        output.print_line(f"  warning  {warning}")
    services, warnings = len(loaded.truth.services), len(loaded.warnings)
    output.print_line(
        f"{file} is valid: {_format_count(services, 'service')}, {_format_count(warnings, 'warning')}"
    )


def read_truth_file(path: Path) -> tuple[bytes, ParsedTruth]:
    """Read and validate a truth file, the services' own sections included.

    Return its bytes and the truth with its warnings. Raises Exit, code 2, if it can't be read or is not
    valid; the message lists every problem.
    """
    raw = read_bytes(path)
    return raw, load_document(raw, str(path))


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file. Raises Exit, code 2, if it can't be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Exit(Code.CONFIGURATION, f"{path}: {error.strerror}") from None


def load_document(
    raw: bytes, name: str, load: Callable[[bytes], ParsedTruth] = load_with_sections
) -> ParsedTruth:
    """Return the truth in a document. Raises Exit, code 2, with every problem if it is not valid.

    Args:
        raw: the bytes of the document.
        name: what to call it in the message: its file, or its revision.
        load: what validates it; by default with the services' own sections.
    """
    try:
        return load(raw)
    except TruthError as error:
        head = f"{name}: {_format_count(len(error.problems), 'problem')}"
        raise Exit(Code.CONFIGURATION, "\n".join([head, *(f"  {each}" for each in error.problems)])) from None


def read_valid_truth(path: Path) -> Truth:
    """Return the truth in a file. Raises Exit, code 2, if it can't be read or is not valid."""
    return read_truth_file(path)[1].truth


def _format_count(count: int, noun: str) -> str:
    """Return a count with its noun in singular or plural."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
