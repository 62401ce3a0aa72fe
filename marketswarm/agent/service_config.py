"""A service's own part of the truth: its `endpoints` and `settings`, read into its pydantic model.

    services.rss_agg.endpoints[2].every_sec: -5 is not more than 0

A service registers its model by convention, so a mistake in a feed's address ends a seeding, with its path,
before any agent reads it: `services/<svc>/settings.py` (or `section.py`) has a class that derives from
`ServiceConfig` and has a field `settings` or `endpoints`. The notifier, a package of its own, has it in
`notifier.section`. A service without such a module is someone else's, and is not checked; a model that can't
be loaded is a warning, never an end. The agent itself uses the same model and the same words.

Errors show numbers as they stand in the document, and texts never: a secret may stand in the wrong place.
What a model's own validator says (a ValueError) is taken as it is, so it must not repeat a text either;
where it begins with the path of a part (`endpoints[3].name: …`), the error is about that part.
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
from marketswarm.truth.parse import look_at

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
# the type of a mistake, what is said of it, and what of its context goes into that
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
    """One mistake in `section`, the part of the document that `svc`'s model was made of."""
    place, said = _place(section, mistake), _said(mistake)
    if mistake["type"] == "value_error" and (inner := _INNER_PATH.fullmatch(said)) is not None:
        place += tuple(int(number) if number else name for number, name in _STEP.findall(inner["path"]))
        said = inner["said"]
    where = ("services", svc, *place)
    if mistake["type"] in ("missing", "value_error", "assertion_error", "extra_forbidden"):
        return Problem(path(where), said)
    return Problem(path(where), f"{_shown(where, mistake['input'])} {said}")


def _place(section: Mapping[str, Any], mistake: ErrorDetails) -> Place:
    """Where it is in the document: pydantic names branches of a union too, which are nowhere in it."""
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
    context = mistake.get("ctx", {})
    given = context.get("tag") if mistake["type"] == "union_tag_invalid" else mistake["input"]
    if isinstance(given, str) and nearest(given, known) is not None:
        return hint(given, known)
    return f" (known: {', '.join(known)})" if known else ""


def _shown(where: Place, value: Any) -> str:
    return "text" if isinstance(value, str) else found(where, value)


M = TypeVar("M", bound="ServiceConfig")
SHOWN = 5


class ServiceConfig(BaseModel):
    """What a service wants to find in its section; keys it does not know are someone else's."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    variables: ClassVar[frozenset[str] | None] = None
    """What the service reads from the environment besides what every agent reads, by name or pattern
    (`MY_*`); None: it does not say. `marketswarm up` gives it no more than that."""

    def doubts(self) -> Iterable[tuple[Place, str]]:
        """Place, from here on, and message of what is no mistake but worth a line when a truth is checked."""
        return ()


def require_config(model: type[M], name: str, section: Service) -> M:
    """What `section` of the service `name` says, as `model`, which has `endpoints`, `settings`, or both.

    Raises:
        Exit: code 2, naming the path of each mistake, and no text that stands there.
    """
    own, problems = parse_config(model, name, section)
    if own is None:
        raise Exit(Code.CONFIGURATION, "; ".join(map(str, problems[:SHOWN])))
    return own


def parse_config(model: type[M], name: str, section: Service) -> tuple[M | None, list[Problem]]:
    """Return the section as `model`, or None and each mistake in it, in the words of the truth's mistakes."""
    said = {"endpoints": section.endpoints, "settings": section.settings}
    try:
        return model.model_validate(said), []
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
    return None, list(dict.fromkeys(problem(name, said, mistake) for mistake in mistakes))


def doubts(own: ServiceConfig, name: str) -> list[Problem]:
    """What is doubtful in `own`, the part of the service `name`, by its own words."""
    return [Problem(path(("services", name, *place)), message) for place, message in own.doubts()]


def unknown_keys(own: ServiceConfig, name: str, section: Service) -> list[Problem]:
    """Keys that `own`, made of `section`, does not know, each with the nearest that it knows."""
    said = {key: getattr(section, key) for key in type(own).model_fields if hasattr(section, key)}
    return list(_unknown(own, said, ("services", name)))


def _unknown(own: Any, said: Any, place: Place) -> Iterator[Problem]:
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
    """The names that a document may use, and those of the fields that they stand for."""
    fields = type(own).model_fields
    return {field.alias or name: name for name, field in fields.items()}


def _pairs(own: Any, said: Any) -> Iterable[tuple[str | int, Any, Any]]:
    """What a list or an object became, beside what it was; nothing where something else was made of it."""
    if isinstance(own, Mapping) and isinstance(said, Mapping):
        return [(key, own[key], said[key]) for key in said if key in own]
    if isinstance(own, list | tuple) and isinstance(said, list | tuple) and len(own) == len(said):
        return [(index, inner, value) for index, (inner, value) in enumerate(zip(own, said, strict=True))]
    return []


PACKAGE: Final = "services"
ELSEWHERE: Final = ("notifier",)
"""Agents that have a model and are no package under `services`."""
MODULES: Final = ("section", "settings")
"""Where a service's model is looked for: the first of these files that is there."""
PARTS: Final = frozenset({"settings", "endpoints"})
"""What a model describes of a service's entry in the truth; it has a field for one of these keys, or both."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What is wrong with the services' own parts, and what is doubtful, in the order of the services."""

    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


class _Unloadable(Exception):  # noqa: N818 - a result like another
    """There is a model, and it can't be had: why."""


def load(raw: bytes) -> Loaded:
    """As `marketswarm.truth.parse`, and the services' own parts are checked as well.

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
    """The model of a service's own part; None when it has none here.

    Raises _Unloadable.
    """
    name = svc.replace("-", "_")
    if name in ELSEWHERE:
        return _load_model(f"{name}.section")
    module = find_services_with_model().get(name)
    return _load_model(f"{PACKAGE}.{name}.{module}") if module and name.isidentifier() else None


def find_services_with_model() -> dict[str, str]:
    """Map each service that may have a model here to the module that has it; looks at files, imports none."""
    places = [Path(place) for place in importlib.import_module(PACKAGE).__path__]
    found = dict.fromkeys(ELSEWHERE, "section")
    for module in reversed(MODULES):
        found |= {file.parent.name: module for place in places for file in place.glob(f"*/{module}.py")}
    return found


def _load_model(module: str) -> type[ServiceConfig] | None:
    """Import the module and return its model; None if `settings.py` has none, since any service may have one.

    Raises _Unloadable.
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
    """Whether something is said of that place already, or of what holds it."""
    return any(
        place[:end] in told for end in range(1, len(place) + 1) if place[end : end + 1] in ("", ".", "[")
    )


def _of_service(svc: str, section: Service) -> Iterator[tuple[bool, Problem]]:
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
    """The first that carries no heartbeat, else `key` on `bus`."""
    return next(
        (point for point in points if not point.key.endswith(HEARTBEAT_SUFFIX)), AccessPoint(bus=bus, key=key)
    )


def point_like(points: Iterable[AccessPoint], bus: str, key: str) -> AccessPoint:
    """The first whose last word is that of `key` (`mesh:events`, `team:events`), else `key` on `bus`."""
    word = key.rpartition(":")[2]
    found = (point for point in points if point.key.rpartition(":")[2] == word)
    return next(found, AccessPoint(bus=bus, key=key))
