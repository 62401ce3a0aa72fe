"""What vexy_ai reads from its section of the truth: how it works, what it looks for, how it digests. Pure."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BeforeValidator, Field

from marketswarm.agent import Own
from marketswarm.settings.environment import variables_of
from services.vexy_ai.environment import VexySettings

TICKER: Final = re.compile(r"[A-Z][A-Z0-9]{0,9}(?:[.-][A-Z0-9]{1,4})?")

Word = Annotated[str, Field(min_length=1, max_length=100)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


def _listed(value: Any) -> Any:
    """`["AAPL"]` is `{"AAPL": []}`: symbols without names."""
    return dict.fromkeys(value, ()) if isinstance(value, list) and _plain(value) else value


def _plain(value: list[Any]) -> bool:
    return all(isinstance(each, str) for each in value)


def _tickers(value: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    for number, name in enumerate(value, 1):
        if not TICKER.fullmatch(name):
            raise ValueError(f'number {number} is not a ticker: capital letters and digits, such as "BRK.B"')
    return value


def _found(value: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    """A word of punctuation alone would never be found, or everywhere."""
    for name, words in value.items():
        for number, word in enumerate(words, 1):
            if not any(each.isalnum() for each in word):
                raise ValueError(f"{name[:40]}: word {number} has no letter and no digit in it")
    return value


Words = Annotated[tuple[Word, ...], Field(max_length=100)]
Symbols = Annotated[
    dict[str, Words],
    BeforeValidator(_listed),
    AfterValidator(_tickers),
    AfterValidator(_found),
    Field(max_length=2000),
]
Topics = Annotated[dict[Word, Words], AfterValidator(_found), Field(max_length=200)]


class Llm(Own):
    """`settings.llm`: what is asked of the model at VEXY_LLM_URL, and how much of it.

    `model` names it there. `requests_per_hour` bounds what all workers ask together, `stories` what one
    digest asks for; `timeout_sec` is for one answer.
    """

    model: Annotated[str, Field(min_length=1, max_length=200)] = "default"
    requests_per_hour: Annotated[int, Field(ge=0, le=100_000)] = 60
    timeout_sec: Annotated[float, Field(gt=0, le=120, allow_inf_nan=False)] = 20.0
    stories: Annotated[int, Field(ge=0, le=50)] = 5


class Wishes(Own):
    """`settings` of vexy_ai.

    `group` is the consumer group on every stream. What a worker took and did not settle is taken over
    `claim_sec` later; what was taken `tries` times in vain goes to `vexy:dead`. `batch` entries of a stream
    are read at once, and no more while `pending` of them are taken and not settled. The service is behind
    when something has waited for `behind_sec`.

    `symbols` are the tickers to look for, with the names that stand for them; `topics` are words by topic.
    What is alike to `similar` (0 to 1) is one story; a digest is made of every `digest_sec`, aligned to the
    clock, and shows `stories` of them. `notes` bounds the length of `vexy:notes`.
    """

    group: Annotated[str, Field(min_length=1, max_length=100)] = "vexy_ai"
    claim_sec: Annotated[float, Field(ge=0.1, le=86_400, allow_inf_nan=False)] = 60.0
    tries: Annotated[int, Field(ge=1, le=100)] = 5
    batch: Annotated[int, Field(ge=1, le=1000)] = 100
    pending: Annotated[int, Field(ge=1, le=100_000)] = 1000
    behind_sec: Seconds = 120.0
    symbols: Symbols = Field(default_factory=dict)
    topics: Topics = Field(default_factory=dict)
    digest_sec: Annotated[int, Field(ge=1, le=86_400)] = 300
    stories: Annotated[int, Field(ge=1, le=100)] = 20
    similar: Annotated[float, Field(ge=0.1, le=1, allow_inf_nan=False)] = 0.6
    notes: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    llm: Llm = Llm()


class Section(Own):
    """What vexy_ai reads from its section."""

    variables: ClassVar = variables_of(VexySettings)

    settings: Wishes = Wishes()
