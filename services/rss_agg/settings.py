"""Define the settings of rss_agg in the truth: the feeds, and how they are read. Pure.

`bootstrap` and `validate` check a truth with these models, so nothing heavy is imported here.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Final, Self

from pydantic import AfterValidator, Field, model_validator

from marketswarm.agent import ServiceConfig
from marketswarm.net.addresses import Allowance, is_web_url, parse_allowance
from marketswarm.truth.credentials import parse_reference
from marketswarm.truth.env_policy import is_feed_variable
from marketswarm.truth.errors import Place

DAY_SEC: Final = 86_400.0
NOT_FOR_FEEDS: Final = "is not for feeds: one of the words of its name must be FEED, as in PAID_FEED_URL"


def _require_web_url(url: str) -> str:
    if url.startswith("env:"):
        return url  # a wrong name is a warning, not an error: see `RssSettings.find_warnings`
    if not is_web_url(url):
        raise ValueError('this is not an http or https URL (nor "env:NAME", for one that holds a secret)')
    return url


def _require_allowance(text: str) -> str:
    if parse_allowance(text) is None:
        raise ValueError(
            f"{text[:100]!r} is not a host, a network, or one of these and a port, such as "
            '"127.0.0.1:8080", "wiki.example" or "10.1.0.0/16"'
        )
    return text


Interval = Annotated[float, Field(gt=0, le=DAY_SEC, strict=True, allow_inf_nan=False)]
Allowed = Annotated[str, AfterValidator(_require_allowance)]
Tag = Annotated[str, Field(min_length=1, max_length=50)]


class Feed(ServiceConfig):
    """One feed of `endpoints`."""

    url: Annotated[str, Field(max_length=2000), AfterValidator(_require_web_url)] = Field(repr=False)
    """The URL of the feed: `http://`, `https://`, or `"env:NAME"` for a URL with a secret in it (FEED must be
    a word of that name). Example: `"https://news.example/markets.xml"`."""
    name: Annotated[str, Field(min_length=1, max_length=100)]
    """The name of the feed in items and logs. Example: `"markets"`."""
    tags: Annotated[tuple[Tag, ...], Field(max_length=20)] = ()
    """Words that each item of the feed gets. Example: `["news"]`."""
    every_sec: Interval | None = None
    """The time between two reads of this feed. Default: `poll_sec`. Example: `300`."""

    @property
    def is_secret(self) -> bool:
        """True if the URL comes from the environment, and must not be logged, stored or shown."""
        return self.url.startswith("env:")


class ReadSettings(ServiceConfig):
    """`settings` of rss_agg: how feeds are read."""

    poll_sec: Interval = 60.0
    """The time between two reads of a feed that has no `every_sec`. Example: `600`."""
    timeout_sec: Annotated[float, Field(gt=0, le=60, strict=True, allow_inf_nan=False)] = 10.0
    """The time limit of one read, from the look-up of the name to the last byte, with redirects. Example:
    `20`."""
    max_bytes: Annotated[int, Field(ge=1, le=50_000_000, strict=True)] = 2_000_000
    """The size limit of a feed, both compressed and decompressed. Example: `5000000`."""
    at_once: Annotated[int, Field(ge=1, le=100, strict=True)] = 16
    """The number of feeds that one instance reads at the same time. Example: `32`."""
    host_at_once: Annotated[int, Field(ge=1, le=100, strict=True)] = 2
    """The number of feeds of one host that an instance reads at the same time. Example: `1`."""
    host_spacing_sec: Annotated[float, Field(ge=0, le=3600, strict=True, allow_inf_nan=False)] = 0.25
    """The time between the beginnings of two reads of one host. Example: `1`."""
    allow_inside: Annotated[tuple[Allowed, ...], Field(max_length=100)] = ()
    """Hosts and networks that feeds may use though they are not on the open Internet. Example:
    `["10.1.0.0/16", "wiki.example:8080"]`."""
    stream_length: Annotated[int, Field(ge=1, le=10_000_000, strict=True)] = 10_000
    """The number of items, roughly, that the stream keeps. Example: `50000`."""
    remember_days: Annotated[int, Field(ge=1, le=3650, strict=True)] = 30
    """The days after the last read of a feed for which its published items are remembered. Example:
    `90`."""

    @property
    def keep_ms(self) -> int:
        return round(1000 * self.remember_days * DAY_SEC)

    @property
    def allowances(self) -> tuple[Allowance, ...]:
        return tuple(filter(None, map(parse_allowance, self.allow_inside)))


class RssSettings(ServiceConfig):
    """The settings of rss_agg in the truth."""

    variables: ClassVar = frozenset({"FEED", "FEED_*", "*_FEED", "*_FEED_*"})

    endpoints: Annotated[tuple[Feed, ...], Field(max_length=1000)] = ()
    """The feeds; each name and each URL once."""
    settings: ReadSettings = ReadSettings()
    """How feeds are read."""

    def find_warnings(self) -> Iterator[tuple[Place, str]]:
        for number, feed in enumerate(self.endpoints):
            name = parse_reference(feed.url)
            if name is not None and not is_feed_variable(name):
                yield ("endpoints", number, "url"), f"{name} {NOT_FOR_FEEDS}"

    def every_sec(self, feed: Feed) -> float:
        return feed.every_sec or self.settings.poll_sec

    @model_validator(mode="after")
    def _names_and_urls_are_unique(self) -> Self:
        seen: dict[tuple[str, str], int] = {}
        for at, feed in enumerate(self.endpoints):
            for what, value in (("name", feed.name), ("url", feed.url)):
                if (first := seen.setdefault((what, value), at)) != at:
                    raise ValueError(f"endpoints[{at}].{what}: the same as that of endpoints[{first}]")
        return self
