"""A service's own part of the truth: its `endpoints` and `settings`, parsed into its pydantic model.

    services.rss_agg.endpoints[2].every_sec: -5 is not more than 0

A service has a model by convention, so that a mistake in a feed's address fails a seeding, with the path of
the mistake, before any agent reads it: `services/<svc>/settings.py` (or `section.py`) has a class that
derives from `ServiceConfig` and has a field `settings` or `endpoints`. The notifier, a package of its own,
has it in `notifier.section`. A service without such a module is not checked; a model that can't be loaded is
a warning, never an error. The agent itself uses the same model and the same messages.

Errors show numbers as they stand in the document, but no text: a secret may stand in the wrong place. The
message of a model's own validator (a ValueError) is used as it is, so it must not repeat a text either. If it
begins with the path of a part (`endpoints[3].name: …`), the error is about that part.
"""

import importlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from marketswarm.bus import first_line
from marketswarm.exit import Code, Exit
from marketswarm.keys import HEARTBEAT_SUFFIX
from marketswarm.truth import AccessPoint, Loaded, Service, Truth, TruthError
from marketswarm.truth.errors import Place, Problem, found, hint, nearest, path
from marketswarm.truth.parse import check_document

_INNER_PATH: Final = re.compile(r"(?P<path>\w+(?:\[\d+\]|\.\w+)*): (?P<said>.+)", re.DOTALL)
_STEP: Final = re.compile(r"\[(\d+)\]|(\w+)")
_PLAIN: Final = {
    "missing": "missing",
    "int_type": "is not a whole number",
    "int_parsing": "is not a whole number",
    "int_parsing_size": "is not a whole number",
    "int_from_float": "is not a whole number",
    "float_type": "is not a number",
    "float_parsing": "is not a number",
    "finite_number": "is not a finite number",
    "string_type": "is not text",
    "bool_type": "is not true or false",
    "bool_parsing": "is not true or false",
    "list_type": "is not a list",
    "tuple_type": "is not a list",
    "set_type": "is not a list",
    "frozen_set_type": "is not a list",
    "dict_type": "is not an object",
    "mapping_type": "is not an object",
    "model_type": "is not an object",
    "model_attributes_type": "is not an object",
    "dataclass_type": "is not an object",
    "string_pattern_mismatch": "does not have the form that is asked for",
    "extra_forbidden": "is not a known key",
    "union_tag_not_found": "says nowhere of what kind it is",
}
# by pydantic's error type: the message, and the key of the error's context whose value goes into it
_BOUNDS: Final = {
    "greater_than": ("is not more than {}", "gt"),
    "greater_than_equal": ("is less than {}", "ge"),
    "less_than": ("is not less than {}", "lt"),
    "less_than_equal": ("is more than {}", "le"),
    "multiple_of": ("is not a multiple of {}", "multiple_of"),
    "string_too_short": ("has less than {} characters", "min_length"),
    "string_too_long": ("has more than {} characters", "max_length"),
    "too_short": ("has less than {} entries", "min_length"),
    "too_long": ("has more than {} entries", "max_length"),
}


def problem(svc: str, section: Mapping[str, Any], mistake: ErrorDetails) -> Problem:
    """Return one of pydantic's errors as a problem with its path in the truth.

    `section` is the validated part.
    """
    place, said = _place(section, mistake), _said(mistake)
    if mistake["type"] == "value_error" and (inner := _INNER_PATH.fullmatch(said)) is not None:
        place += tuple(int(number) if number else name for number, name in _STEP.findall(inner["path"]))
        said = inner["said"]
    where = ("services", svc, *place)
    if mistake["type"] in ("missing", "value_error", "assertion_error", "extra_forbidden"):
        return Problem(path(where), said)
    return Problem(path(where), f"{_shown(where, mistake['input'])} {said}")


def _place(section: Mapping[str, Any], mistake: ErrorDetails) -> Place:
    """Return the path of an error within the section, without pydantic's steps into a union's branches."""
    place: list[str | int] = []
    here: Any = section
    for index, step in enumerate(mistake["loc"]):
        missing = mistake["type"] == "missing" and index == len(mistake["loc"]) - 1
        if isinstance(here, dict) and (step in here or missing):
            place.append(step)
            here = here.get(step)
        elif isinstance(here, list | tuple) and isinstance(step, int) and step < len(here):
            place.append(step)
            here = here[step]
    return tuple(place)


def _said(mistake: ErrorDetails) -> str:
    """Return the message for one of pydantic's errors, in the words of the truth's own errors."""
    kind, context = mistake["type"], mistake.get("ctx", {})
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        bound = context[name]
        return words.format(f"{bound:g}" if isinstance(bound, float) else bound)
    if kind in ("literal_error", "enum", "union_tag_invalid"):
        known = re.findall(r"'([^']+)'", str(context.get("expected") or context.get("expected_tags")))
        return "is none of those that are known" + _meant(mistake, known)
    message = mistake["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return message[:1].lower() + message[1:] if kind not in ("value_error", "assertion_error") else message


def _meant(mistake: ErrorDetails, known: list[str]) -> str:
    """Return ` (known: …)`, or a hint at the known value that is nearest to the given one.

    Return an empty text if no values are known.
    """
    context = mistake.get("ctx", {})
    given = context.get("tag") if mistake["type"] == "union_tag_invalid" else mistake["input"]
    if isinstance(given, str) and nearest(given, known) is not None:
        return hint(given, known)
    return f" (known: {', '.join(known)})" if known else ""


def _shown(where: Place, value: Any) -> str:
    """Return a value for an error message; a text only as `text`, since it may be a secret."""
    return "text" if isinstance(value, str) else found(where, value)


M = TypeVar("M", bound="ServiceConfig")
SHOWN = 5


class ServiceConfig(BaseModel):
    """The base of a service's model of its section. Keys that the model does not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    variables: ClassVar[frozenset[str] | None] = None
    """The names or patterns (`MY_*`) of environment variables that the service reads besides those of every
    agent; None if they are not declared. `marketswarm up` passes it no others."""

    def doubts(self) -> Iterable[tuple[Place, str]]:
        """Yield the path below this model, and the message, of each warning. By default there are none."""
        return ()


def require_config(model: type[M], name: str, section: Service) -> M:
    """Return a service's section as `model`.

    Raises:
        Exit: code 2, with the path of each of the first five mistakes, and no text of the section.
    """
    own, problems = parse_config(model, name, section)
    if own is None:
        raise Exit(Code.CONFIGURATION, "; ".join(map(str, problems[:SHOWN])))
    return own


def parse_config(model: type[M], name: str, section: Service) -> tuple[M | None, list[Problem]]:
    """Return the section as `model` and no problems, or None and a problem for each mistake in it."""
    said = {"endpoints": section.endpoints, "settings": section.settings}
    try:
        return model.model_validate(said), []
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
    return None, list(dict.fromkeys(problem(name, said, mistake) for mistake in mistakes))


def doubts(own: ServiceConfig, name: str) -> list[Problem]:
    """Return the warnings of a service's config, with their full paths in the truth."""
    return [Problem(path(("services", name, *place)), message) for place, message in own.doubts()]


def unknown_keys(own: ServiceConfig, name: str, section: Service) -> list[Problem]:
    """Return a problem for each key of `section` that the config's model does not know."""
    said = {key: getattr(section, key) for key in type(own).model_fields if hasattr(section, key)}
    return list(_unknown(own, said, ("services", name)))


def _unknown(own: Any, said: Any, place: Place) -> Iterator[Problem]:
    """Yield a problem for each key of the raw value `said` that the parsed value `own` has no field for."""
    if isinstance(own, BaseModel) and isinstance(said, Mapping):
        known = _names(own)
        for key, value in said.items():
            if key in known:
                yield from _unknown(getattr(own, known[key]), value, (*place, key))
            else:
                yield Problem(path((*place, key)), "is not a known key" + hint(key, known))
    else:
        for step, inner, value in _pairs(own, said):
            yield from _unknown(inner, value, (*place, step))


def _names(own: BaseModel) -> dict[str, str]:
    """Map each key that a document may use to the name of its field."""
    fields = type(own).model_fields
    return {field.alias or name: name for name, field in fields.items()}


def _pairs(own: Any, said: Any) -> Iterable[tuple[str | int, Any, Any]]:
    """Pair the entries of a parsed list or object with the raw ones; return [] if they don't correspond."""
    if isinstance(own, Mapping) and isinstance(said, Mapping):
        return [(key, own[key], said[key]) for key in said if key in own]
    if isinstance(own, list | tuple) and isinstance(said, list | tuple) and len(own) == len(said):
        return [(index, inner, value) for index, (inner, value) in enumerate(zip(own, said, strict=True))]
    return []


PACKAGE: Final = "services"
ELSEWHERE: Final = ("notifier",)
"""Agents outside `services` that have a model."""
MODULES: Final = ("section", "settings")
"""Where a service's model is looked for: the first of these files that is there."""
PARTS: Final = frozenset({"settings", "endpoints"})
"""The keys of a service's entry that a model describes; a model has a field for one of them, or both."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The errors and the warnings of a check of the services' sections, in the order of the services."""

    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


class _Unloadable(Exception):  # noqa: N818 - a result like another
    """A service's model can't be imported or used; the message says why."""


def load(raw: bytes) -> Loaded:
    """Parse and check a truth, with each service's section by the service's own model.

    Raises:
        TruthError: with all mistakes, those of the document before those of the services.
    """
    looked = check_document(raw)
    checked = check(looked.truth)
    told = {each.path for each in looked.errors}
    wrong = (*looked.errors, *(each for each in checked.problems if not _is_in(each.path, told)))
    if wrong:
        raise TruthError(wrong)
    return Loaded(looked.truth, (*looked.warnings, *checked.warnings), looked.sha256, len(raw))


def problems(truth: Truth) -> list[Problem]:
    """Return the errors that the services' own models find in a truth."""
    return list(check(truth).problems)


def check(truth: Truth) -> Checked:
    """Check the section of each service that has a model in this installation; return errors and warnings."""
    wrong: list[Problem] = []
    doubtful: list[Problem] = []
    here = find_services_with_model()
    for svc, section in truth.services.items():
        if svc.replace("-", "_") not in here:  # a truth may have a hundred thousand
            continue
        try:
            for bad, each in _of_service(svc, section):
                (wrong if bad else doubtful).append(each)
        except _Unloadable as error:
            doubtful.append(Problem(path(("services", svc)), f"its settings can't be checked: {error}"))
    return Checked(tuple(wrong), tuple(doubtful))


def model_of(svc: str) -> type[ServiceConfig] | None:
    """Import and return the model of a service's section; None if it has none in this installation.

    Raise _Unloadable if the model can't be imported or used.
    """
    name = svc.replace("-", "_")
    if name in ELSEWHERE:
        return _load_model(f"{name}.section")
    module = find_services_with_model().get(name)
    return _load_model(f"{PACKAGE}.{name}.{module}") if module and name.isidentifier() else None


def find_services_with_model() -> dict[str, str]:
    """Return, by service, the name of the module that may have its model; list files only, import none."""
    places = [Path(place) for place in importlib.import_module(PACKAGE).__path__]
    found = dict.fromkeys(ELSEWHERE, "section")
    for module in reversed(MODULES):
        found |= {file.parent.name: module for place in places for file in place.glob(f"*/{module}.py")}
    return found


def _load_model(module: str) -> type[ServiceConfig] | None:
    """Import a module and return its model.

    Return None for a `settings.py` without a model, which any service may have.

    Raise _Unloadable if the import fails, or if the module has several models, or none.
    """
    try:
        names = vars(importlib.import_module(module))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever someone's module does
        raise _Unloadable(f"{module} can't be loaded ({type(error).__name__}: {first_line(error)})") from None
    models = {each for each in names.values() if isinstance(each, type) and issubclass(each, ServiceConfig)}
    models = {each for each in models if not PARTS.isdisjoint(each.model_fields)}
    leaves = [each for each in models if not any(each in other.__mro__[1:] for other in models)]
    if len(leaves) == 1:
        return leaves[0]
    if not leaves and module.endswith(".settings"):
        return None
    known = " or ".join(sorted(PARTS))
    raise _Unloadable(
        f"{module} has {'several' if leaves else 'no'} class(ServiceConfig) with a field {known}"
    )


def _is_in(place: str, told: Collection[str]) -> bool:
    """Return True if `told` contains this path, or a path that this one is part of."""
    return any(
        place[:end] in told for end in range(1, len(place) + 1) if place[end : end + 1] in ("", ".", "[")
    )


def _of_service(svc: str, section: Service) -> Iterator[tuple[bool, Problem]]:
    """Yield each problem in a service's section, with True for an error and False for a warning.

    Raise _Unloadable if the service's model can't be imported, or itself fails.
    """
    model = model_of(svc)
    if model is None:
        return
    try:
        own, mistakes = parse_config(model, svc, section)
    except Exception as error:  # noqa: BLE001 - a validator that is wrong itself
        raise _Unloadable(f"its model failed ({type(error).__name__})") from None
    yield from ((True, each) for each in mistakes)
    if own is not None:
        yield from ((False, each) for each in (*unknown_keys(own, svc, section), *doubts(own, svc)))


def first_point(points: Iterable[AccessPoint], bus: str, key: str) -> AccessPoint:
    """Return the first access point that is not a heartbeat channel; if there is none, `key` on `bus`."""
    return next(
        (point for point in points if not point.key.endswith(HEARTBEAT_SUFFIX)), AccessPoint(bus=bus, key=key)
    )


def point_like(points: Iterable[AccessPoint], bus: str, key: str) -> AccessPoint:
    """Return the first access point whose key has the same last part as `key` (`mesh:events`, `team:events`).

    If there is none, return `key` on `bus`.
    """
    word = key.rpartition(":")[2]
    found = (point for point in points if point.key.rpartition(":")[2] == word)
    return next(found, AccessPoint(bus=bus, key=key))
