"""Define the settings of voters outside, as they stand in `endpoints` of the truth. Pure."""

import hashlib
import re
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from marketswarm.agent import ServiceConfig
from marketswarm.net.addresses import Allowance, is_web_url, parse_allowance

VOTER: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""A voter's name, which is part of keys and labels."""
WORDING: Final = "wording"
"""The name that the model of `settings.wording` has there; no voter has it beside that."""
MAX_URL: Final = 1000
MAX_MODEL: Final = 200
# neither a user nor a backslash: no two readers of such a URL can find different hosts in it
_URL: Final = re.compile(
    r"https?://(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?(?:/[!-\[\]-~]*)?"
)


def _check_url(url: str) -> str:
    if len(url) > MAX_URL or not is_web_url(url) or _URL.fullmatch(url) is None:
        raise ValueError("must be http://host/… or https://host/…, without a user")
    return url


def _check_allowance(text: str) -> str:
    if parse_allowance(text) is None:
        raise ValueError("must be an address, a network or a name, and a port if need be")
    return text


def _check_day(text: str) -> str:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a day, such as 2025-07-01") from None
    return text


Calls = Annotated[int, Field(ge=1, le=100_000, strict=True)]
VoteUrl = Annotated[str, AfterValidator(_check_url)]
Day = Annotated[str, Field(pattern=r"^(?:19|20)\d{2}-\d{2}-\d{2}$"), AfterValidator(_check_day)]
Allowed = Annotated[str, AfterValidator(_check_allowance)]


class EndpointSettings(ServiceConfig):
    """What all have in common that are asked over HTTP: where, and how often at most."""

    url: VoteUrl
    """Where it is asked. A key is sent along only if it is filed under this origin. Example:
    `"https://api.x.ai/v1"`."""
    calls_per_cycle: Annotated[int, Field(ge=1, le=1000, strict=True)] = 5
    """The questions that are sent in one cycle, the most volatile symbols first. Example: `3`."""
    at_once: Annotated[int, Field(ge=1, le=100, strict=True)] = 10
    """The questions that wait for an answer at the same time. Example: `4`."""
    calls_per_minute: Calls = 60
    """The questions that are sent in a minute, by all instances together. Example: `20`."""
    calls_per_hour: Calls = 600
    """The questions that are sent in an hour of the clock, by all instances together. Example: `200`."""
    timeout_sec: Annotated[float, Field(gt=0, le=120, allow_inf_nan=False)] = 20.0
    """The time limit of a question; an answer that comes after `late_sec` counts from the next cycle on.
    Example: `30`."""
    allow_inside: Annotated[tuple[Allowed, ...], Field(max_length=100)] = ()
    """Inside addresses that the host of `url` may have, if it is a name. Example: `["ollama:11434"]`."""

    @property
    def allowances(self) -> tuple[Allowance, ...]:
        return tuple(filter(None, map(parse_allowance, self.allow_inside)))

    @cached_property
    def endpoint(self) -> str:
        """A digest of the URL: the failures and the pauses of another one say nothing of this one."""
        return _hash_identity(self.url)


class CallSettings(EndpointSettings):
    """What the voters that are asked over HTTP have in common, in `endpoints`."""

    answer_sec: Annotated[float, Field(ge=1, le=86_400, allow_inf_nan=False)] = 900.0
    """How long an answer counts for a symbol that moves by 0.1 % from bar to bar; it is shorter the more it
    moves, and longer while its market is closed. Example: `1800`."""
    stale_move: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.02
    """The share by which the price may move until an answer does not count any more. Example: `0.01`."""

    @cached_property
    def identity(self) -> str:
        """A digest of who answers: what another one has answered does not count."""
        return self.endpoint


class ModelSettings(EndpointSettings):
    """A language model behind an OpenAI-compatible endpoint."""

    model: Annotated[str, Field(min_length=1, max_length=MAX_MODEL)]
    """The name of the model at its endpoint. Example: `"grok-4"`."""


class WordingSettings(ModelSettings):
    """`settings.wording`: a language model that words the reason of a signal that changed its side.

    It decides nothing: it is asked after the tick is committed, and its sentence is kept beside the log.
    """

    calls_per_cycle: Annotated[int, Field(ge=1, le=100, strict=True)] = 2
    """The signals that are worded in one cycle, those of the greatest confidence first. Example: `1`."""
    at_once: Annotated[int, Field(ge=1, le=100, strict=True)] = 2
    """The questions that wait for an answer at the same time. Example: `1`."""
    calls_per_minute: Calls = 20
    """The questions that are sent in a minute, by all instances together. Example: `10`."""
    calls_per_hour: Calls = 100
    """The questions that are sent in an hour of the clock, by all instances together. Example: `30`."""
    timeout_sec: Annotated[float, Field(gt=0, le=120, allow_inf_nan=False)] = 20.0
    """The time limit of a question; without an answer by then the signal is not worded. Example: `30`."""


class ChatSettings(ModelSettings, CallSettings):
    """A voter that is a language model behind an OpenAI-compatible endpoint."""

    kind: Literal["chat"] = "chat"
    cutoff: Day | None = None
    """The last day, in UTC, of what the model was trained on. Played over days up to this one, it is not
    asked: it may know what came after. Example: `"2025-07-01"`."""

    @property
    def known_until_ms(self) -> float | None:
        """The end of the day of `cutoff`, in epoch milliseconds; None without one."""
        if self.cutoff is None:
            return None
        end = datetime.fromisoformat(self.cutoff).replace(tzinfo=UTC) + timedelta(days=1)
        return 1000 * end.timestamp()

    def may_know_future(self, as_of_ms: int) -> bool:
        """Return True if an instant, in epoch milliseconds, is before the end of the day of `cutoff`."""
        return self.known_until_ms is not None and as_of_ms < self.known_until_ms

    @cached_property
    def identity(self) -> str:
        return _hash_identity(self.url, self.model)


class HttpSettings(CallSettings):
    """A voter that is a foreign program, asked over HTTP."""

    kind: Literal["http"] = "http"


class NewsSettings(ServiceConfig):
    """A voter that weighs the notes about a symbol's news by their sentiment and age."""

    kind: Literal["news"] = "news"
    half_sec: Annotated[float, Field(ge=1, le=86_400, allow_inf_nan=False)] = 1800.0
    """The age at which a note weighs half. Example: `3600`."""
    window_sec: Annotated[float, Field(ge=1, le=86_400, allow_inf_nan=False)] = 21_600.0
    """The age from which a note does not count. Example: `43200`."""


AskSettings = ChatSettings | HttpSettings | NewsSettings


def _hash_identity(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "replace")).hexdigest()[:16]
