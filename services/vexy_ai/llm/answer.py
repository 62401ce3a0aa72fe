"""The summary in an answer, if it is one: checked against a schema, then made plain text. Pure."""

import re
from typing import Annotated, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marketswarm.channels.text import cut, plain

SUMMARY_LIMIT: Final = 500
SENTENCES: Final = 2
_FENCE: Final = re.compile(r"\A\s*```(?:json)?\s*(.*?)\s*```\s*\Z", re.DOTALL)
_ADDRESS: Final = re.compile(
    r"\b[A-Za-z][A-Za-z0-9+.-]{1,20}://\S+|\bwww\.\S+|\bmailto:\S+|\bjavascript:\S+", re.IGNORECASE
)
_MARKUP: Final = re.compile(r"<[^<>]{0,500}>")
_LIVE: Final = str.maketrans("", "", "<>[]{}`*_|\\")
_SENTENCE: Final = re.compile(r"(?<=[.!?。！？])\s+")  # noqa: RUF001 - the ends that other scripts have


class Unfit(Exception):  # noqa: N818 - a finding, not an accident
    """An answer that is no summary; `str()` is one word."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, strict=True)


class _Message(_Part):
    content: Annotated[str, Field(min_length=1, max_length=20_000)]


class _Choice(_Part):
    message: _Message


class _Completion(_Part):
    choices: Annotated[list[_Choice], Field(min_length=1, max_length=20)]


class _Summary(_Part):
    summary: Annotated[str, Field(min_length=1, max_length=5000)]


def summary_in(body: bytes) -> str:
    """One or two sentences of plain text, at most 500 characters. Raises Unfit."""
    try:
        content = _Completion.model_validate(orjson.loads(body)).choices[0].message.content
    except orjson.JSONDecodeError:
        raise Unfit("garbage") from None
    except ValidationError:
        raise Unfit("schema") from None
    fenced = _FENCE.match(content)
    try:
        found = _Summary.model_validate(orjson.loads(fenced[1] if fenced else content)).summary
    except (orjson.JSONDecodeError, ValidationError):
        raise Unfit("schema") from None
    text = harmless(found)
    if not any(each.isalpha() for each in text):
        raise Unfit("empty")
    return text


def harmless(text: str) -> str:
    """Two sentences that lead nowhere and format nothing, whatever the text was."""
    bare = _MARKUP.sub(" ", _ADDRESS.sub(" ", plain(text))).translate(_LIVE)
    sentences = _SENTENCE.split(" ".join(bare.split()))
    return cut(" ".join(sentences[:SENTENCES]), SUMMARY_LIMIT, len)
