"""Which services have a model of their own part of the truth, and what their models find wrong with it.

A service registers by convention: `services.<svc>.section` has a class `Section(Own)`; the notifier, which is
a package of its own, has `notifier.section`. So a mistake in a
feed's address ends a seeding, with its path, before any agent reads it. A service without such a module is
someone else's, and is not checked; a model that can't be loaded is a doubt, never an end. The agent itself
goes by the same model and the same words (`own.py`).
"""

import importlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from marketswarm.agent.own import Own, doubts, read_own, unknown_keys
from marketswarm.bus import first_line
from marketswarm.truth import Loaded, Problem, Service, Truth, TruthError
from marketswarm.truth.load import look_at
from marketswarm.truth.problems import path

PACKAGE: Final = "services"
ELSEWHERE: Final = ("notifier",)
"""Agents that have a model and are no package under `services`."""
MODULE: Final = "section"
CLASS: Final = "Section"


@dataclass(frozen=True, slots=True)
class Checked:
    """What is wrong with the services' own parts, and what is doubtful, in the order of the services."""

    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


class _Unloadable(Exception):  # noqa: N818 - a result like another
    """There is a model, and it can't be had: why."""


def load(raw: bytes) -> Loaded:
    """As `marketswarm.truth.load`, and the services' own parts are checked as well.

    Raises:
        TruthError: with every mistake at once, those of the document before those of the services.
    """
    looked = look_at(raw)
    checked = check(looked.truth)
    told = {each.path for each in looked.errors}
    wrong = (*looked.errors, *(each for each in checked.problems if not _is_in(each.path, told)))
    if wrong:
        raise TruthError(wrong)
    return Loaded(looked.truth, (*looked.warnings, *checked.warnings), looked.sha256, len(raw))


def problems(truth: Truth) -> list[Problem]:
    """What is wrong with the services' own parts of a truth."""
    return list(check(truth).problems)


def check(truth: Truth) -> Checked:
    """Look through the own part of each service that has a model here."""
    wrong: list[Problem] = []
    doubtful: list[Problem] = []
    here = _here()
    for svc, section in truth.services.items():
        if svc.replace("-", "_") not in here:  # a truth may have a hundred thousand
            continue
        try:
            for bad, each in _of_service(svc, section):
                (wrong if bad else doubtful).append(each)
        except _Unloadable as error:
            doubtful.append(Problem(path(("services", svc)), f"its settings can't be checked: {error}"))
    return Checked(tuple(wrong), tuple(doubtful))


def model_of(svc: str) -> type[Own] | None:
    """The model of a service's own part; None when it has none here.

    Raises _Unloadable.
    """
    name = svc.replace("-", "_")
    if name in ELSEWHERE:
        return _loaded(f"{name}.{MODULE}")
    return _loaded(f"{PACKAGE}.{name}.{MODULE}") if name.isidentifier() and name in _here() else None


def _here() -> set[str]:
    """The names of the services that have a model here; looks at files, imports none of them."""
    places = importlib.import_module(PACKAGE).__path__
    found = (each for place in places for each in Path(place).glob(f"*/{MODULE}.py"))
    return {*ELSEWHERE, *(each.parent.name for each in found)}


def _loaded(module: str) -> type[Own]:
    try:
        found = getattr(importlib.import_module(module), CLASS, None)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever someone's module does
        raise _Unloadable(f"{module} can't be loaded ({type(error).__name__}: {first_line(error)})") from None
    if not (isinstance(found, type) and issubclass(found, Own)):
        raise _Unloadable(f"{module} has no class {CLASS}(Own)")
    return found


def _is_in(place: str, told: Collection[str]) -> bool:
    """Whether something is said of that place already, or of what holds it."""
    return any(
        place[:end] in told for end in range(1, len(place) + 1) if place[end : end + 1] in ("", ".", "[")
    )


def _of_service(svc: str, section: Service) -> Iterator[tuple[bool, Problem]]:
    model = model_of(svc)
    if model is None:
        return
    try:
        own, mistakes = read_own(model, svc, section)
    except Exception as error:  # noqa: BLE001 - a validator that is wrong itself
        raise _Unloadable(f"its model failed ({type(error).__name__})") from None
    yield from ((True, each) for each in mistakes)
    if own is not None:
        yield from ((False, each) for each in (*unknown_keys(own, svc, section), *doubts(own, svc)))
