"""When each feed is due, and what the failing ones say about the whole. Pure; times are in seconds."""

from collections.abc import Mapping, Sequence
from typing import Final

from services.rss_agg.items import Feed, Section

SHOWN: Final = 4
NOTHING_DUE_SEC: Final = 60.0


class Schedule:
    """Remembers when each feed was read last; a feed never read is due at once."""

    def __init__(self) -> None:
        self._read_at: dict[str, float] = {}

    def due(self, section: Section, now: float) -> list[Feed]:
        """The feeds to read now."""
        return [feed for feed in section.endpoints if self._due_at(section, feed) <= now]

    def was_read(self, feed: Feed, now: float) -> None:
        """A reading of `feed` began, however it ends."""
        self._read_at[feed.url] = now

    def next_sec(self, section: Section, now: float) -> float:
        """How long there is nothing to do; also forgets feeds that are gone."""
        self._read_at = {feed.url: self._read_at.get(feed.url, 0.0) for feed in section.endpoints}
        return max(
            0.0,
            min((self._due_at(section, feed) - now for feed in section.endpoints), default=NOTHING_DUE_SEC),
        )

    def _due_at(self, section: Section, feed: Feed) -> float:
        read_at = self._read_at.get(feed.url)
        return read_at + section.every_sec(feed) if read_at else 0.0


def summed_up(feeds: Sequence[Feed], failing: Mapping[str, str]) -> str | None:
    """`2 of 3 feeds fail: a (timeout), b (404)`, or `None` when none does."""
    words = [f"{feed.name} ({failing[feed.url]})" for feed in feeds if feed.url in failing]
    if not words:
        return None
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return f"{len(words)} of {len(feeds)} feeds fail: {', '.join(words[:SHOWN])}{more}"
