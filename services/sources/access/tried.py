"""Note on this machine when a source answered last as its file says: `tried.toml` in the data folder.

The files of the catalogue say the same of whoever wrote them; this file is the user's own.
"""

import re
import tomllib
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Final

from marketswarm.exit import Mistake

FILE: Final = "tried.toml"
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_HEAD: Final = "# The day on which each source last answered as its file says, by `marketswarm source try`.\n"


def read_tried(data: Path) -> dict[str, str]:
    """Return the day of each source that was tried from here; what is no day is left out."""
    try:
        found = tomllib.loads((data / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    days = {name: each.get("tried") for name, each in found.items() if isinstance(each, dict)}
    return {name: day for name, day in days.items() if isinstance(day, str) and _DAY.fullmatch(day)}


def write_tried(data: Path, sources: Iterable[str], day: date) -> None:
    """Write that these sources were tried on a day, and keep what is known of others. Raise Exit, code 2."""
    days = {**read_tried(data), **dict.fromkeys(sources, day.isoformat())}
    text = _HEAD + "".join(f'\n[{name}]\ntried = "{days[name]}"\n' for name in sorted(days))
    draft = data / f"{FILE}.new"
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        draft.replace(data / FILE)
    except OSError as error:
        raise Mistake(f"{data / FILE}: {error.strerror}") from None
