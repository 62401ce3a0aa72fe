"""What is wrong with a truth: where, what was found, what would be right.

Not here: what counts as wrong. And never a secret: whatever is shown of a value goes through `found`.
"""

import difflib
import json
import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from marketswarm.truth.credentials import says_secret

Place = tuple[str | int, ...]

WHOLE: Final = "truth"  # the path of what concerns the document as such
_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
# what may be shown of a URL: one that has no room for a credential
_CLEAN_URL: Final = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://(?:\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::\d{1,5})?(?:/[\w./-]*)?"
)
_SHOWN: Final = 60  # characters of a value; the path says where the rest is
_FEW: Final = 2_000  # names; comparing with more would cost seconds


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake or doubt. `path` is like `services.rss_agg.heartbeat.interval_sec`."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class TruthError(ValueError):
    """The document can't be accepted. `problems` holds every mistake, in the document's order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class Findings:
    """Collects mistakes and doubts while a document is looked through."""

    def __init__(self) -> None:
        self._errors: list[tuple[Place, str, bool]] = []
        self._warnings: list[tuple[Place, str]] = []
        self._wrong: set[Place] = set()

    def error(self, place: Place, message: str, *, unless_other: bool = False) -> None:
        """Notes a mistake; with `unless_other` only if nothing else is said about the same place."""
        self._errors.append((place, message, unless_other))
        self._wrong.add(place)

    def warn(self, place: Place, message: str) -> None:
        """Notes a doubt: worth a line, no reason to refuse."""
        self._warnings.append((place, message))

    def at(self, *places: Place) -> bool:
        """Whether one of these places, or what holds it, is known to be wrong: nothing follows from it."""
        return bool(self._wrong) and any(
            place[:length] in self._wrong for place in places for length in range(1, len(place) + 1)
        )

    def errors(self, document: Any) -> tuple[Problem, ...]:
        """All mistakes, each once, in the order of the document."""
        said = {place for place, _, unless_other in self._errors if not unless_other}
        kept = [(p, message) for p, message, unless_other in self._errors if not (unless_other and p in said)]
        return _in_order(kept, document)

    def warnings(self, document: Any) -> tuple[Problem, ...]:
        """All doubts, each once, in the order of the document."""
        return _in_order(self._warnings, document)


def path(place: Place) -> str:
    """A place as people write it: `services.rss_agg.tags[0]`; a key with dots or spaces in brackets."""
    text = ""
    for step in place:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN_KEY.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{show(step)}]"
    return text or WHOLE


def found(place: Place, value: Any) -> str:
    """What was found at a place, fit to be shown: never what stands under a key that says secret."""
    # the name of a service or a bus is a name, as long as something stands under it
    named = place[2:] if place[:1] in (("services",), ("buses",)) and len(place) > 2 else place
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        if any(isinstance(step, str) and says_secret(step) for step in named):
            return "the value"
        return show(value)
    return show(value)


def show(value: Any) -> str:
    """A value, short and on one line, without credentials; of a list or an object only what it is."""
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        # printing a number of thousands of digits is refused by Python itself
        return str(value) if value.bit_length() < 100 else "a number of more than 30 digits"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else json.dumps(value)
    return "a list" if isinstance(value, (list, tuple)) else "an object"


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name that `name` was probably meant to be, or None."""
    if len(known) > _FEW:
        return None
    plain = {each.lower().replace("-", "_"): each for each in known}
    close = difflib.get_close_matches(name.lower().replace("-", "_")[:100], plain, n=1, cutoff=0.6)
    return plain[close[0]] if close else None


def hint(name: str, known: Collection[str]) -> str:
    """` (did you mean "x"?)`, or what there is to choose from, or nothing."""
    near = nearest(name, known)
    if near is not None:
        return f" (did you mean {show(near)}?)"
    if not 0 < len(known) <= 12:
        return ""
    return f" (known: {', '.join(show(each)[1:-1] for each in known)})"


def _text(value: str) -> str:
    if "@" in value or ("://" in value and not _CLEAN_URL.fullmatch(value)):
        scheme, colon, _ = value.partition("://")
        return f'"{scheme}://***"' if colon and scheme.isalpha() and len(scheme) < 12 else '"***"'
    cut = value if len(value) <= _SHOWN else value[: _SHOWN - 1] + "…"
    # control and direction characters, and halves of surrogate pairs, would play tricks on a terminal
    return json.dumps(cut, ensure_ascii=not cut.isprintable())


def _in_order(notes: Iterable[tuple[Place, str]], document: Any) -> tuple[Problem, ...]:
    ranks: dict[int, dict[str, int]] = {}

    def order(note: tuple[Place, str]) -> list[tuple[int, str]]:
        steps: list[tuple[int, str]] = []
        here = document
        for step in note[0]:
            if isinstance(step, int):
                steps.append((step, ""))
                here = here[step] if isinstance(here, list) and step < len(here) else None
                continue
            if isinstance(here, dict):
                if id(here) not in ranks:
                    ranks[id(here)] = {key: rank for rank, key in enumerate(here)}
                steps.append((ranks[id(here)].get(step, len(here)), step))
                here = here.get(step)
            else:
                steps.append((0, step))
                here = None
        return steps

    # a dictionary keeps the first of equal lines
    return tuple(dict.fromkeys(Problem(path(place), message) for place, message in sorted(notes, key=order)))
