"""Bound the fields of silences, requests and answers, so that bytes from outside can't become a burden."""

from dataclasses import fields
from functools import partial
from typing import Annotated, Any, Final

import orjson
from pydantic import AfterValidator, ConfigDict, Field

MAX_BYTES: Final = 16_384
"""Longer JSON is not parsed."""

STRICT: Final = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)

Ident = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,200}$")]
"""May become a part of a key's name, and is typed by people: no spaces."""
Name = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(min_length=1, max_length=500)]
MAX_EPOCH_SEC: Final = 1e11
"""The latest time that is accepted, in epoch seconds (the year 5138): floats still resolve milliseconds."""
Epoch = Annotated[
    float, Field(ge=0, le=MAX_EPOCH_SEC, allow_inf_nan=False), AfterValidator(partial(round, ndigits=3))
]
"""Epoch seconds, rounded to the millisecond."""


def encode_fields(value: Any) -> bytes:
    """Return the fields of a dataclass as a JSON object."""
    return orjson.dumps({each.name: getattr(value, each.name) for each in fields(value)})
