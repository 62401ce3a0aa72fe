"""Define the settings of rss_agg in the truth: the feeds, and how they are read. Pure.

`bootstrap` and `validate` check a truth with these models, so nothing heavy is imported here.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from marketswarm.agent import ServiceConfig
from marketswarm.net.addresses import Allowance, parse_allowance
from marketswarm.truth.credentials import parse_reference
from marketswarm.truth.env_policy import is_feed_variable
from marketswarm.truth.errors import Place

DAY_SEC: Final = 86_400.0
NOT_FOR_FEEDS: Final = "is not for feeds: one of the words of its name must be FEED, as in PAID_FEED_URL"
WEB: Final = frozenset({"http", "https"})


def _seconds(maximum: float, *, zero: bool = False) -> BeforeValidator:
    """Accept a number of seconds, above 0 (or 0 with `zero`) and at most `maximum`."""
    wanted = "0 or more" if zero else "a positive number of"

    def check(value: Any) -> Any:
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value < 0 or (value == 0 and not zero):
            raise ValueError(f"{_shown(value)} is not {wanted} seconds")
        if value > maximum:
            raise ValueError(f"{value:g} is more than {maximum:g} seconds")
        return value

    return BeforeValidator(check)


def _whole_number(minimum: int, maximum: int) -> BeforeValidator:
    def check(value: Any) -> Any:
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
            raise ValueError(f"{_shown(value)} is not a whole number from {minimum} to {maximum}")
        return value

    return BeforeValidator(check)


def _shown(value: Any) -> str:
    """Return a number as text, `this` for anything else, which may be a secret in the wrong place."""
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else "this"


def _require_web_url(url: str) -> str:
    if url.startswith("env:"):
        return url  # a wrong name is a warning, not an error: see `RssSettings.find_warnings`
    try:
        parts = urlsplit(url)
        good = parts.scheme in WEB and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ValueError('this is not an http or https URL (nor "env:NAME", for one that holds a secret)')
    return url


def _require_allowances(values: Any) -> Any:
    if not isinstance(values, list | tuple):
        raise ValueError("this is not a list of hosts and networks")  # noqa: TRY004 - pydantic takes no other
    for value in values:
        if parse_allowance(value) is None:
            raise ValueError(
                f"{value[:100]!r} is not a host, a network, or one of these and a port, such as "
                '"127.0.0.1:8080", "wiki.example" or "10.1.0.0/16"'
                if isinstance(value, str)
                else "this is not a list of hosts and networks"
            )
    return values


Interval = Annotated[float, _seconds(DAY_SEC)]
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
    """The time between two reads of this feed; at most a day. Default: `poll_sec`. Example: `300`."""

    @property
    def is_secret(self) -> bool:
        """True if the URL comes from the environment, and must not be logged, stored or shown."""
        return self.url.startswith("env:")


class ReadSettings(ServiceConfig):
    """`settings` of rss_agg: how feeds are read."""

    poll_sec: Interval = 60.0
    """The time between two reads of a feed that has no `every_sec`; at most a day. Example: `600`."""
    timeout_sec: Annotated[float, _seconds(60)] = 10.0
    """The time limit of one read, from the look-up of the name to the last byte, with redirects; at most 60.
    Example: `20`."""
    max_bytes: Annotated[int, _whole_number(1, 50_000_000)] = 2_000_000
    """The size limit of a feed, both compressed and decompressed; at most 50000000. Example: `5000000`."""
    at_once: Annotated[int, _whole_number(1, 100)] = 16
    """The number of feeds that one instance reads at the same time; 1 to 100. Example: `32`."""
    host_at_once: Annotated[int, _whole_number(1, 100)] = 2
    """The number of feeds of one host that an instance reads at the same time; 1 to 100. Example: `1`."""
    host_spacing_sec: Annotated[float, _seconds(3600, zero=True)] = 0.25
    """The time between the beginnings of two reads of one host; 0 to 3600. Example: `1`."""
    allow_inside: Annotated[tuple[str, ...], Field(max_length=100), BeforeValidator(_require_allowances)] = ()
    """Hosts and networks that feeds may use though they are not on the open Internet. Example:
    `["10.1.0.0/16", "wiki.example:8080"]`."""
    stream_length: Annotated[int, _whole_number(1, 10_000_000)] = 10_000
    """The number of items, roughly, that the stream keeps; at most 10000000. Example: `50000`."""
    remember_days: Annotated[int, _whole_number(1, 3650)] = 30
    """The days after the last read of a feed for which its published items are remembered; 1 to 3650.
    Example: `90`."""

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
        """Yield a warning for each feed whose URL is in a variable that is not for feeds."""
        for number, feed in enumerate(self.endpoints):
            name = parse_reference(feed.url)
            if name is not None and not is_feed_variable(name):
                yield ("endpoints", number, "url"), f"{name} {NOT_FOR_FEEDS}"

    def every_sec(self, feed: Feed) -> float:
        return feed.every_sec or self.settings.poll_sec

    @model_validator(mode="after")
    def _names_and_urls_are_unique(self) -> Self:
        """Raise ValueError if two feeds have the same name or the same URL."""
        for what, values in (
            ("name", [feed.name for feed in self.endpoints]),
            ("url", [feed.url for feed in self.endpoints]),
        ):
            if (twice := _find_repeated(values)) is not None:
                first, again = twice
                raise ValueError(f"endpoints[{again}].{what}: the same as that of endpoints[{first}]")
        return self


def _find_repeated(values: Iterable[str]) -> tuple[int, int] | None:
    """Return the positions of a value and of its first repetition; None if all values differ."""
    at: dict[str, int] = {}
    for place, value in enumerate(values):
        if at.setdefault(value, place) != place:
            return at[value], place
    return None
