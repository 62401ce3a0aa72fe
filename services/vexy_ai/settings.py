"""Define the settings of vexy_ai in truth and environment, and the streams that it reads and writes. Pure."""

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BeforeValidator, Field

from marketswarm.agent import InputStream, ServiceConfig, first_point, point_like
from marketswarm.keys import HEARTBEAT_SUFFIX, RSS_ITEMS, VEXY_DEAD, VEXY_NOTES
from marketswarm.settings import CommonSettings, HttpUrl, Token, list_variables
from marketswarm.truth import AccessPoint, Service

TICKER: Final = re.compile(r"[A-Z][A-Z0-9]{0,9}(?:[.-][A-Z0-9]{1,4})?")


class VexyEnvironment(CommonSettings):
    """The variables of vexy_ai. Without a URL no model is asked, and digests have no summaries."""

    vexy_llm_url: HttpUrl | None = Field(default=None, repr=False)  # the base URL, with /v1 at its end
    vexy_llm_key: Token | None = None


Word = Annotated[str, Field(min_length=1, max_length=100)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


def _expand_list(value: Any) -> Any:
    """Return `{"AAPL": ()}` for `["AAPL"]`, a list of symbols without names; any other value unchanged."""
    is_list_of_text = isinstance(value, list) and all(isinstance(each, str) for each in value)
    return dict.fromkeys(value, ()) if is_list_of_text else value


def _require_tickers(value: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    for number, name in enumerate(value, 1):
        if not TICKER.fullmatch(name):
            raise ValueError(f'number {number} is not a ticker: capital letters and digits, such as "BRK.B"')
    return value


def _require_findable(value: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    for name, words in value.items():
        for number, word in enumerate(words, 1):
            if not any(each.isalnum() for each in word):
                raise ValueError(f"{name[:40]}: word {number} has no letter and no digit in it")
    return value


Words = Annotated[tuple[Word, ...], Field(max_length=100)]
Symbols = Annotated[
    dict[str, Words],
    BeforeValidator(_expand_list),
    AfterValidator(_require_tickers),
    AfterValidator(_require_findable),
    Field(max_length=2000),
]
Topics = Annotated[dict[Word, Words], AfterValidator(_require_findable), Field(max_length=200)]


class LlmSettings(ServiceConfig):
    """`settings.llm`: what is asked of the model at VEXY_LLM_URL, and how often."""

    model: Annotated[str, Field(min_length=1, max_length=200)] = "default"
    """The name of the model at its endpoint. Example: `"small-and-quick"`."""
    requests_per_hour: Annotated[int, Field(ge=0, le=100_000)] = 60
    """The number of requests to the model in an hour, by all workers together. Example: `120`."""
    timeout_sec: Annotated[float, Field(gt=0, le=120, allow_inf_nan=False)] = 20.0
    """The time limit of a request to the model. Example: `30`."""
    stories: Annotated[int, Field(ge=0, le=50)] = 5
    """The number of stories in a digest for which the model writes a summary. Example: `3`."""


class NoteSettings(ServiceConfig):
    """`settings` of vexy_ai."""

    group: Annotated[str, Field(min_length=1, max_length=100)] = "vexy_ai"
    """The consumer group on every stream; under a new name every stream is read from its start. Example:
    `"vexy_ai"`."""
    claim_sec: Annotated[float, Field(ge=0.1, le=86_400, allow_inf_nan=False)] = 60.0
    """The time after which an entry that a worker has read and not settled goes to another worker. Example:
    `30`."""
    tries: Annotated[int, Field(ge=1, le=100)] = 5
    """The number of attempts at an entry before it goes to `vexy:dead`. Example: `3`."""
    batch: Annotated[int, Field(ge=1, le=1000)] = 100
    """The number of entries of a stream that are read at once. Example: `50`."""
    pending: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """The number of unsettled entries of a stream from which no new ones are read. Example: `500`."""
    behind_sec: Seconds = 120.0
    """The waiting time of an entry from which the service is `degraded`. Example: `300`."""
    symbols: Symbols = Field(default_factory=dict)
    """Tickers to look for, with the names that stand for them; a list does without names. Example:
    `{"AAPL": ["Apple"], "MSFT": []}`."""
    topics: Topics = Field(default_factory=dict)
    """Words and phrases by topic. Example: `{"rates": ["interest rate", "central bank"]}`."""
    digest_sec: Annotated[int, Field(ge=1, le=86_400)] = 300
    """The length of the window of a digest, aligned to the clock. Example: `900`."""
    stories: Annotated[int, Field(ge=1, le=100)] = 20
    """The number of stories that a digest shows. Example: `10`."""
    similar: Annotated[float, Field(ge=0.1, le=1, allow_inf_nan=False)] = 0.6
    """The similarity of two titles, from 0 to 1, from which their items are one story. Example: `0.7`."""
    notes: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    """The number of entries, roughly, that `vexy:notes` keeps. Example: `50000`."""
    llm: LlmSettings = LlmSettings()
    """The requests for summaries to a model, which needs `VEXY_LLM_URL`."""


class VexySettings(ServiceConfig):
    """The settings of vexy_ai in the truth."""

    variables: ClassVar = list_variables(VexyEnvironment)

    settings: NoteSettings = NoteSettings()
    """How vexy_ai reads its streams, which tickers and topics it looks for, and how it makes digests."""


class StreamKind(StrEnum):
    """Name the kind of a stream's entries, which is the last word of its key."""

    ITEMS = "items"
    PROBES = "probes"
    BARS = "bars"


def find_streams(points: Iterable[AccessPoint]) -> tuple[InputStream, ...]:
    """Return the streams among the `points` of `subscribe_to`; by default the stream of feed items."""
    named = [point for point in points if not point.key.endswith(HEARTBEAT_SUFFIX)]
    points = named or [first_point((), "market-redis", RSS_ITEMS)]
    return tuple(dict.fromkeys(InputStream(point.bus, point.key, _kind(point.key)) for point in points))


def notes_point(section: Service) -> AccessPoint:
    """Return the first `publish_to` whose key ends in `notes`, otherwise the first not for dead letters.

    Without any it is the default key on `market-redis`.
    """
    points = [point for point in section.access_points.publish_to if point.key.rpartition(":")[2] != "dead"]
    first = first_point(points, "market-redis", VEXY_NOTES)
    return next((point for point in points if point.key.rpartition(":")[2] == "notes"), first)


def dead_letter_key(section: Service) -> str:
    """Return the key; a dead letter is written on the bus of the stream that its entry comes from."""
    return point_like(section.access_points.publish_to, "market-redis", VEXY_DEAD).key


def _kind(key: str) -> StreamKind:
    word = key.rpartition(":")[2]
    return StreamKind(word) if word in set(StreamKind) else StreamKind.ITEMS
