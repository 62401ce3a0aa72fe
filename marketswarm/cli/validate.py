# ruff: noqa: PLC0415 - a command loads what it needs when it runs
"""`marketswarm validate`: what is wrong with a truth, without any server."""

from pathlib import Path
from typing import Annotated

import typer


def validate(
    file: Annotated[Path, typer.Argument(envvar="TRUTH_PATH", help="The truth to check.")] = Path(
        "truth.json"
    ),
) -> None:
    """Check a truth: every problem at once, with its path and what would be right."""
    from marketswarm.cli.document import read

    _, loaded = read(file)
    for warning in loaded.warnings:
        typer.echo(f"  warning  {warning}")
    services, warnings = len(loaded.truth.services), len(loaded.warnings)
    typer.echo(f"{file} is valid: {_counted(services, 'service')}, {_counted(warnings, 'warning')}")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
