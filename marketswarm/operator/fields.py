"""Define bounded field types for silences, requests and answers, so that foreign values stay small."""

from functools import lru_cache
from typing import Annotated, Any, Final, Self

import orjson
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

MAX_BYTES: Final = 16_384
"""Longer JSON is not parsed."""

LATER: Final = ConfigDict(defer_build=True)
"""The setting of adapters beside models: each is built when it is used first, and many commands use none."""
STRICT: Final = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True, **LATER)
"""The settings of all models here: no conversions, unknown keys are ignored, errors hold no input."""
MAX_EPOCH_SEC: Final = 1e11
"""The latest time that is accepted, in epoch seconds (the year 5138): floats still resolve milliseconds."""


def _round_to_millisecond(epoch_sec: float) -> float:
    # for `round` itself, pydantic would have its signature read from text, which takes milliseconds
    return round(epoch_sec, 3)


Ident = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,200}$")]
"""An id, 1 to 200 characters: it may become part of a key's name, and people type it, so it has no spaces."""
Name = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(min_length=1, max_length=500)]
Epoch = Annotated[
    float, Field(ge=0, le=MAX_EPOCH_SEC, allow_inf_nan=False), AfterValidator(_round_to_millisecond)
]
"""Epoch seconds, rounded to the millisecond."""


class JsonRecord:
    """A dataclass that is kept on the buses as a JSON object of its fields."""

    __slots__ = ()

    def encode(self) -> bytes:
        return orjson.dumps(self)

    @classmethod
    def parse(cls, raw: bytes) -> Self | None:
        """Return None if the JSON can't be parsed or is longer than MAX_BYTES."""
        if len(raw) > MAX_BYTES:
            return None
        kind: Any = cls
        try:
            found: Self = _make_adapter(kind).validate_json(raw)
        except ValidationError:
            return None
        return found


@lru_cache
def _make_adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
