"""What rss_agg reads from its section of the truth: the feeds, and how they are to be read. Pure.

Its models are what `bootstrap` and `validate` check a truth with, so nothing heavy is imported here.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from marketswarm.agent import Own
from marketswarm.net.addresses import Allowance, allowance
from marketswarm.truth.credentials import reference_in
from marketswarm.truth.env_policy import is_feed_variable
from marketswarm.truth.errors import Place

DAY_SEC: Final = 86_400.0
NOT_FOR_FEEDS: Final = "is not for feeds: one of the words of its name must be FEED, as in PAID_FEED_URL"
WEB: Final = frozenset({"http", "https"})


def _seconds(most: float, *, zero: bool = False) -> BeforeValidator:
    at_least = "0 or more" if zero else "a positive number of"

    def check(value: Any) -> Any:
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value < 0 or (value == 0 and not zero):
            raise ValueError(f"{_shown(value)} is not {at_least} seconds")
        if value > most:
            raise ValueError(f"{value:g} is more than {most:g} seconds")
        return value

    return BeforeValidator(check)


def _whole(least: int, most: int) -> BeforeValidator:
    def check(value: Any) -> Any:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"{_shown(value)} is not a whole number from {least} to {most}")
        return value

    return BeforeValidator(check)


def _shown(value: Any) -> str:
    """A number as it stands there; of anything else its kind only: it may be a secret in the wrong place."""
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else "this"


def _web_url(url: str) -> str:
    if url.startswith("env:"):
        return url  # which names there may be is a doubt, not a mistake: see `RssSettings.doubts`
    try:
        parts = urlsplit(url)
        good = parts.scheme in WEB and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ValueError('this is not an http or https URL (nor "env:NAME", for one that holds a secret)')
    return url


def _inside(words: Any) -> Any:
    if not isinstance(words, list | tuple):
        raise ValueError("this is not a list of hosts and networks")  # noqa: TRY004 - pydantic takes no other
    for word in words:
        if allowance(word) is None:
            raise ValueError(
                f"{word[:100]!r} is not a host, a network, or one of these and a port, such as "
                '"127.0.0.1:8080", "wiki.example" or "10.1.0.0/16"'
                if isinstance(word, str)
                else "this is not a list of hosts and networks"
            )
    return words


Every = Annotated[float, _seconds(DAY_SEC)]
Word = Annotated[str, Field(min_length=1, max_length=50)]


class Feed(Own):
    """One endpoint."""

    url: Annotated[str, Field(max_length=2000), AfterValidator(_web_url)] = Field(repr=False)
    """Where the feed is: `http://`, `https://`, or `"env:NAME"` for one that holds a secret (FEED must be
    a word of that name). Example: `"https://news.example/markets.xml"`."""
    name: Annotated[str, Field(min_length=1, max_length=100)]
    """What the feed is called in items and logs. Example: `"markets"`."""
    tags: Annotated[tuple[Word, ...], Field(max_length=20)] = ()
    """Words that each item of the feed gets. Example: `["news"]`."""
    every_sec: Every | None = None
    """The time between two reads of this feed; at most a day. Default: `poll_sec`. Example: `300`."""

    @property
    def secret(self) -> bool:
        """Whether its URL is in the environment, and must not be written down anywhere else."""
        return self.url.startswith("env:")


class ReadSettings(Own):
    """`settings` of rss_agg."""

    poll_sec: Every = 60.0
    """The time between two reads of a feed that has no `every_sec`; at most a day. Example: `600`."""
    timeout_sec: Annotated[float, _seconds(60)] = 10.0
    """The limit for one feed, from the look-up to the last byte, redirects included; at most 60. Example:
    `20`."""
    max_bytes: Annotated[int, _whole(1, 50_000_000)] = 2_000_000
    """The limit for one feed, as it comes and unpacked; at most 50000000. Example: `5000000`."""
    at_once: Annotated[int, _whole(1, 100)] = 16
    """How many feeds one instance reads at the same time; 1 to 100. Example: `32`."""
    host_at_once: Annotated[int, _whole(1, 100)] = 2
    """How many of these may be of one host; 1 to 100. Example: `1`."""
    host_spacing_sec: Annotated[float, _seconds(3600, zero=True)] = 0.25
    """The time between the beginnings of two reads of one host; 0 to 3600. Example: `1`."""
    allow_inside: Annotated[tuple[str, ...], Field(max_length=100), BeforeValidator(_inside)] = ()
    """Hosts and networks that feeds may use though they are not on the open Internet. Example:
    `["10.1.0.0/16", "wiki.example:8080"]`."""
    stream_length: Annotated[int, _whole(1, 10_000_000)] = 10_000
    """About how many items stay on the stream; at most 10000000. Example: `50000`."""
    remember_days: Annotated[int, _whole(1, 3650)] = 30
    """How long after a feed was last read its published items are known; 1 to 3650. Example: `90`."""

    @property
    def allowances(self) -> tuple[Allowance, ...]:
        """`allow_inside`, understood."""
        return tuple(filter(None, map(allowance, self.allow_inside)))


class RssSettings(Own):
    """What rss_agg reads from its section."""

    variables: ClassVar = frozenset({"FEED", "FEED_*", "*_FEED", "*_FEED_*"})

    endpoints: Annotated[tuple[Feed, ...], Field(max_length=1000)] = ()
    """The feeds; each name and each URL once."""
    settings: ReadSettings = ReadSettings()
    """How feeds are read."""

    def doubts(self) -> Iterator[tuple[Place, str]]:
        """See `Own`: feeds whose address is in a variable that is not for feeds."""
        for number, feed in enumerate(self.endpoints):
            name = reference_in(feed.url)
            if name is not None and not is_feed_variable(name):
                yield ("endpoints", number, "url"), f"{name} {NOT_FOR_FEEDS}"

    def every_sec(self, feed: Feed) -> float:
        """Seconds between two reads of a feed."""
        return feed.every_sec or self.settings.poll_sec

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for what, values in (
            ("name", [feed.name for feed in self.endpoints]),
            ("url", [feed.url for feed in self.endpoints]),
        ):
            if (twice := _first_repeated(values)) is not None:
                first, again = twice
                raise ValueError(f"endpoints[{again}].{what}: the same as that of endpoints[{first}]")
        return self


def _first_repeated(values: Iterable[str]) -> tuple[int, int] | None:
    at: dict[str, int] = {}
    for place, value in enumerate(values):
        if at.setdefault(value, place) != place:
            return at[value], place
    return None
