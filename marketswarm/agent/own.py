"""A service's own part of its section: `endpoints` and `settings`, read into the service's model. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from marketswarm.agent.mistakes import problem
from marketswarm.exit import Code, Exit
from marketswarm.truth import Problem, Service
from marketswarm.truth.problems import Place, hint, path

M = TypeVar("M", bound="Own")
SHOWN = 5


class Own(BaseModel):
    """What a service wants to find in its section; keys it does not know are someone else's."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    variables: ClassVar[frozenset[str] | None] = None
    """What the service reads from the environment besides what every agent reads, by name or pattern
    (`MY_*`); None: it does not say. `marketswarm up` gives it no more than that."""

    def doubts(self) -> Iterable[tuple[Place, str]]:
        """Place, from here on, and message of what is no mistake but worth a line when a truth is checked."""
        return ()


def own_part(model: type[M], name: str, section: Service) -> M:
    """What `section` of the service `name` says, as `model`, which has `endpoints`, `settings`, or both.

    Raises:
        Exit: code 2, naming the path of each mistake, and no text that stands there.
    """
    own, problems = read_own(model, name, section)
    if own is None:
        raise Exit(Code.CONFIGURATION, "; ".join(map(str, problems[:SHOWN])))
    return own


def read_own(model: type[M], name: str, section: Service) -> tuple[M | None, list[Problem]]:
    """As `own_part`, or None and all that is wrong, each once, in the words of the truth's own mistakes."""
    said = {"endpoints": section.endpoints, "settings": section.settings}
    try:
        return model.model_validate(said), []
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
    return None, list(dict.fromkeys(problem(name, said, mistake) for mistake in mistakes))


def doubts(own: Own, name: str) -> list[Problem]:
    """What is doubtful in `own`, the part of the service `name`, by its own words."""
    return [Problem(path(("services", name, *place)), message) for place, message in own.doubts()]


def unknown_keys(own: Own, name: str, section: Service) -> list[Problem]:
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
