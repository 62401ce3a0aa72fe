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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Final, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from marketswarm.bus.errors import first_line
from marketswarm.exit import Code, Exit
from marketswarm.truth import ParsedTruth, Service, Truth, TruthError
from marketswarm.truth.errors import (
    Place,
    Problem,
    format_found,
    format_hint,
    format_mismatch,
    format_path,
    limited_hints,
)
from marketswarm.truth.parse import check_document

_INNER_PATH: Final = re.compile(r"(?P<path>\w+(?:\[\d+\]|\.\w+)*): (?P<message>.+)", re.DOTALL)
_PATH_STEP: Final = re.compile(r"\[(\d+)\]|(\w+)")
M = TypeVar("M", bound="ServiceConfig")
ERRORS_SHOWN = 5
SERVICES_PACKAGE: Final = "services"
OTHER_AGENTS: Final = ("notifier",)
"""Agents outside `services` that have a model."""
MODEL_MODULES: Final = ("section", "settings")
"""Where a service's model is looked for: the first of these files that is there."""
MODEL_FIELDS: Final = frozenset({"settings", "endpoints"})
"""The keys of a service's entry that a model describes; a model has a field for one of them, or both."""


def make_problem(svc: str, section: Mapping[str, Any], error: ErrorDetails) -> Problem:
    """Return one of pydantic's errors about the validated part `section`, with its path in the truth."""
    place, message = _find_place(section, error), format_mismatch(error)
    if error["type"] == "value_error" and (inner := _INNER_PATH.fullmatch(message)) is not None:
        place += tuple(int(number) if number else name for number, name in _PATH_STEP.findall(inner["path"]))
        message = inner["message"]
    where = ("services", svc, *place)
    if error["type"] in ("missing", "value_error", "assertion_error", "extra_forbidden"):
        return Problem(format_path(where), message)
    value = error["input"]
    found = "text" if isinstance(value, str) else format_found(where, value)  # a text may be a secret
    return Problem(format_path(where), f"{found} {message}")


def _find_place(section: Mapping[str, Any], error: ErrorDetails) -> Place:
    """Leave out pydantic's steps into a union's branches."""
    place: list[str | int] = []
    value: Any = section
    for index, step in enumerate(error["loc"]):
        missing = error["type"] == "missing" and index == len(error["loc"]) - 1
        if isinstance(value, dict) and (step in value or missing):
            place.append(step)
            value = value.get(step)
        elif isinstance(value, list | tuple) and isinstance(step, int) and step < len(value):
            place.append(step)
            value = value[step]
    return tuple(place)


class ServiceConfig(BaseModel):
    """The base of a service's model of its section. Keys that the model does not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    variables: ClassVar[frozenset[str] | None] = None
    """The names or patterns (`MY_*`) of environment variables that the service reads besides those of every
    agent; None if they are not declared. `marketswarm up` passes it no others."""

    @classmethod
    def find_variables(cls, _section: Service) -> frozenset[str]:
        """Return the variables that the service reads because of what its section says; by default none."""
        return frozenset()

    def find_warnings(self) -> Iterable[tuple[Place, str]]:
        """Yield the path below this model, and the message, of each warning. By default there are none."""
        return ()

    def find_truth_warnings(self, _truth: Truth) -> Iterable[tuple[Place, str]]:
        """Yield in the same form what does not fit between this section and those of other services."""
        return ()

    def complete(self, _truth: Truth) -> Self:
        """Return this config with what it takes over from other sections of a truth; by default unchanged."""
        return self


def require_config(model: type[M], name: str, section: Service) -> M:
    """Return a service's section as `model`.

    Raises Exit, code 2, with the path of each of the first five errors, and no text of the section.
    """
    config, problems = parse_config(model, name, section)
    if config is None:
        raise Exit(Code.CONFIGURATION, "; ".join(map(str, problems[:ERRORS_SHOWN])))
    return config


def parse_config(model: type[M], name: str, section: Service) -> tuple[M | None, list[Problem]]:
    raw = {"endpoints": section.endpoints, "settings": section.settings}
    try:
        return model.model_validate(raw), []
    except ValidationError as error:
        errors = error.errors(include_url=False)
    return None, list(dict.fromkeys(make_problem(name, raw, each) for each in errors))


def list_warnings(config: ServiceConfig, name: str, truth: Truth | None = None) -> list[Problem]:
    """Return the warnings of a service's config; with a truth, also those about other services' sections."""
    found = [*config.find_warnings(), *(config.find_truth_warnings(truth) if truth is not None else ())]
    return [Problem(format_path(("services", name, *place)), message) for place, message in found]


def find_unknown_keys(config: ServiceConfig, name: str, section: Service) -> list[Problem]:
    raw = {key: getattr(section, key) for key in type(config).model_fields if hasattr(section, key)}
    return list(_find_unknown(config, raw, ("services", name)))


def _find_unknown(parsed: Any, raw: Any, place: Place) -> Iterator[Problem]:
    if isinstance(parsed, BaseModel) and isinstance(raw, Mapping):
        known = {field.alias or name: name for name, field in type(parsed).model_fields.items()}
        for key, value in raw.items():
            if key in known:
                yield from _find_unknown(getattr(parsed, known[key]), value, (*place, key))
            else:
                yield Problem(format_path((*place, key)), "is not a known key" + format_hint(key, known))
    else:
        for step, inner, value in _pair_entries(parsed, raw):
            yield from _find_unknown(inner, value, (*place, step))


def _pair_entries(parsed: Any, raw: Any) -> Iterable[tuple[str | int, Any, Any]]:
    """Pair the entries of a parsed list or object with the raw ones; return [] if they don't correspond."""
    if isinstance(parsed, Mapping) and isinstance(raw, Mapping):
        return [(key, parsed[key], raw[key]) for key in raw if key in parsed]
    if isinstance(parsed, list | tuple) and isinstance(raw, list | tuple) and len(parsed) == len(raw):
        return [(index, inner, value) for index, (inner, value) in enumerate(zip(parsed, raw, strict=True))]
    return []


class _UnusableModel(Exception):  # noqa: N818 - a result, not an accident
    """A service's model can't be imported or used; the message says why."""


def load_with_sections(raw: bytes) -> ParsedTruth:
    """Parse and check a truth, with each service's section by the service's own model.

    Raises TruthError with all errors, those of the document before those of the services.
    """
    document = check_document(raw)
    section_errors, warnings = check_by_models(document.truth)
    reported = {each.path for each in document.errors}
    others = (each for each in section_errors if not _is_reported(each.path, reported))
    if errors := (*document.errors, *others):
        raise TruthError(errors)
    return ParsedTruth(document.truth, (*document.warnings, *warnings), document.sha256, len(raw))


@limited_hints()
def check_by_models(truth: Truth) -> tuple[list[Problem], list[Problem]]:
    """Check the section of each service that has a model in this installation; return errors and warnings.

    Both are in the order of the services.
    """
    errors: list[Problem] = []
    warnings: list[Problem] = []
    with_model = find_services_with_model()
    for svc, section in truth.services.items():
        if svc.replace("-", "_") not in with_model:  # a truth may have a hundred thousand services
            continue
        try:
            for is_error, each in _check_section(truth, svc, section):
                (errors if is_error else warnings).append(each)
        except _UnusableModel as error:
            warnings.append(
                Problem(format_path(("services", svc)), f"its settings can't be checked: {error}")
            )
    return errors, warnings


def find_model(svc: str) -> type[ServiceConfig] | None:
    """Import and return the model of a service's section; None if it has none in this installation.

    Raise _UnusableModel if the model can't be imported or used.
    """
    name = svc.replace("-", "_")
    module = find_services_with_model().get(name)
    return _load_model(module) if module and name.isidentifier() else None


def find_services_with_model() -> dict[str, str]:
    """Return, by service, the module that may have its model; list files only, import none."""
    found: dict[str, str] = {}
    for module in reversed(MODEL_MODULES):
        for place in importlib.import_module(SERVICES_PACKAGE).__path__:
            names = (file.parent.name for file in Path(place).glob(f"*/{module}.py"))
            found |= {name: f"{SERVICES_PACKAGE}.{name}.{module}" for name in names}
    return found | {name: f"{name}.section" for name in OTHER_AGENTS}


def _load_model(module: str) -> type[ServiceConfig] | None:
    """Import a module and return its model; None for a `settings.py` without one, which any service may have.

    Raise _UnusableModel if the import fails, or if the module has several models, or none.
    """
    try:
        names = vars(importlib.import_module(module))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever someone's module does
        raise _UnusableModel(
            f"{module} can't be loaded ({type(error).__name__}: {first_line(error)})"
        ) from None
    models = {each for each in names.values() if isinstance(each, type) and issubclass(each, ServiceConfig)}
    models = {each for each in models if not MODEL_FIELDS.isdisjoint(each.model_fields)}
    leaves = [each for each in models if not any(each in other.__mro__[1:] for other in models)]
    if len(leaves) == 1:
        return leaves[0]
    if not leaves and module.endswith(".settings"):
        return None
    known = " or ".join(sorted(MODEL_FIELDS))
    raise _UnusableModel(
        f"{module} has {'several' if leaves else 'no'} class(ServiceConfig) with a field {known}"
    )


def _is_reported(place: str, reported: Collection[str]) -> bool:
    return any(
        place[:end] in reported for end in range(1, len(place) + 1) if place[end : end + 1] in ("", ".", "[")
    )


def _check_section(truth: Truth, svc: str, section: Service) -> Iterator[tuple[bool, Problem]]:
    """Yield each problem in a service's section, with True for an error and False for a warning.

    Raise _UnusableModel if the service's model can't be imported, or itself fails.
    """
    model = find_model(svc)
    if model is None:
        return
    try:
        config, errors = parse_config(model, svc, section)
    except Exception as error:  # noqa: BLE001 - a validator that is wrong itself
        raise _UnusableModel(f"its model failed ({type(error).__name__})") from None
    yield from ((True, each) for each in errors)
    if config is not None:
        warnings = *find_unknown_keys(config, svc, section), *list_warnings(config, svc, truth)
        yield from ((False, each) for each in warnings)


@dataclass(frozen=True, slots=True)
class InputStream:
    """Name a stream that a service reads: its bus, its key, and the kind of its entries."""

    bus: str
    key: str
    kind: str


def require_file_below(*suffixes: str) -> Callable[[str], str]:
    """Return a validator of a path that a truth may choose: below the working directory, with such an ending.

    The writer of a truth must not find out which files a machine has. Hidden files and folders, such as
    `.marketswarm/secrets`, are refused.
    """

    def validate(path: str) -> str:
        parts = PurePosixPath(path).parts
        if not path.isprintable() or any(part.startswith((".", "/")) for part in parts):
            raise ValueError("must be below the working directory, without .. and hidden folders")
        if not path.endswith(suffixes):
            raise ValueError(f"must end in {' or '.join(suffixes)}")
        return path

    return validate
