"""A truth file as a command reads it: accepted, its services' own parts too, or the end with all problems."""

from pathlib import Path

from marketswarm.agent.service_config import load
from marketswarm.exit import Code, Exit
from marketswarm.truth import Loaded, Truth, TruthError


def read(path: Path) -> tuple[bytes, Loaded]:
    """The truth in a file: its bytes, and what they say.

    Raises:
        Exit: code 2, when it can't be read or isn't valid; the message names every problem.
    """
    try:
        raw = path.read_bytes()
        return raw, load(raw)
    except OSError as error:
        raise Exit(Code.CONFIGURATION, f"{path}: {error.strerror}") from None
    except TruthError as error:
        count = len(error.problems)
        head = f"{path}: {count} {'problem' if count == 1 else 'problems'}"
        raise Exit(Code.CONFIGURATION, "\n".join([head, *(f"  {each}" for each in error.problems)])) from None


def accepted(path: Path) -> Truth:
    """As `read`, the document alone."""
    return read(path)[1].truth
