"""Parse what the second tier answers, strictly: others may have steered it by logs or beats. Pure.

An answer has a diagnosis in plain text, remedies of known types for the one target, and a patch as text. One
that has anything else is refused as a whole.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marketswarm.channels.text import printable_lines, replace_surrogates
from marketswarm.net.chat import BadAnswerError
from marketswarm.operator.diagnosis import MAX_DIAGNOSIS, MAX_PATCH, MAX_REMEDIES
from services.medic.remedies import Remedy

MAX_ANSWER_BYTES: Final = 48 * 1024
"""The longest answer that is parsed."""


@dataclass(frozen=True, slots=True)
class DiagnosisAnswer:
    """A diagnosis, the remedies that it advises for its target, in order, and a patch that is only shown."""

    text: str
    remedies: tuple[Remedy, ...]
    patch: str


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, strict=True)


class _AdvisedRemedy(_Part):
    remedy: Annotated[str, Field(max_length=50)]
    target: Annotated[str, Field(max_length=200)]


class _Answer(_Part):
    diagnosis: Annotated[str, Field(min_length=1, max_length=MAX_DIAGNOSIS)]
    remedies: Annotated[list[_AdvisedRemedy], Field(max_length=MAX_REMEDIES)] = []
    patch: Annotated[str, Field(max_length=MAX_PATCH)] = ""


def parse_answer(raw: bytes, svc: str, known: Collection[Remedy]) -> DiagnosisAnswer:
    """Return an answer about the service `svc`, with remedies of `known` alone.

    Raises BadAnswerError with the reason: `too_long`, `garbage`, `schema`, `target` (a remedy for another
    service), `remedy` (one that is not known) or `empty`.
    """
    if len(raw) > MAX_ANSWER_BYTES:
        raise BadAnswerError("too_long")
    try:
        found = _Answer.model_validate(orjson.loads(raw))
    except orjson.JSONDecodeError:
        raise BadAnswerError("garbage") from None
    except ValidationError:
        raise BadAnswerError("schema") from None
    if any(each.target != svc for each in found.remedies):
        raise BadAnswerError("target")
    names = {str(each): each for each in known}
    if any(each.remedy not in names for each in found.remedies):
        raise BadAnswerError("remedy")
    text = _make_plain(found.diagnosis)
    if not any(map(str.isalnum, text)):
        raise BadAnswerError("empty")
    remedies = tuple(dict.fromkeys(names[each.remedy] for each in found.remedies))
    return DiagnosisAnswer(text, remedies, _make_plain(found.patch))


def _make_plain(text: str) -> str:
    """Return a text of printable lines; a tab of a patch becomes spaces."""
    return replace_surrogates(printable_lines(text.replace("\t", "    "))).strip("\n")
