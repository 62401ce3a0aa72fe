"""Read the answer of an OpenAI-compatible endpoint, which is not trusted. Pure."""

import re
from typing import Annotated, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

CHAT_PATH: Final = "/chat/completions"
_FENCE: Final = re.compile(r"```(?:json)?(.*)```", re.DOTALL)


class BadAnswerError(Exception):
    """An answer can't be used; `str()` is the reason in one word."""


class AnswerPart(BaseModel):
    """Accept unknown fields in a part of an answer, and convert no types."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, strict=True)


class _Message(AnswerPart):
    content: Annotated[str, Field(min_length=1, max_length=20_000)]


class _Choice(AnswerPart):
    message: _Message


class _Completion(AnswerPart):
    choices: Annotated[list[_Choice], Field(min_length=1, max_length=20)]


def make_chat_url(base: str) -> str:
    """Return the URL for questions; `base` is that URL, or ends in `/v1` before the path."""
    base = base.rstrip("/")
    return base if base.endswith(CHAT_PATH) else base + CHAT_PATH


def parse_content(body: bytes) -> str:
    """Return the text of a completion, without a fence of Markdown around it. Raises BadAnswerError."""
    try:
        content = _Completion.model_validate(orjson.loads(body)).choices[0].message.content
    except orjson.JSONDecodeError:
        raise BadAnswerError("garbage") from None
    except ValidationError:
        raise BadAnswerError("schema") from None
    fenced = _FENCE.fullmatch(content.strip())
    return fenced[1].strip() if fenced else content
