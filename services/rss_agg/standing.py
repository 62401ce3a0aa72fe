"""What is known of a feed from before: who it is, how its last reading went, what to ask it with. Pure.

It is kept on the bus (`memory.py`), so that a restart, or another instance, goes on where this one was.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Final
from urllib.parse import urlsplit

from services.rss_agg.answers import NO_VALIDATORS, URL_LENGTH, VALIDATOR_LENGTH, Validators, mark
from services.rss_agg.section import Feed

FIELDS: Final = (
    *("read_at", "not_before", "fails", "gone_at"),
    *("why", "moved", "etag", "modified", "of", "body", "at", "turn"),
)
"""Names of what is stored: those of `Standing.words`, and `turn`, which `publish.lua` counts."""
MISLED: Final = 3
"""A feed that fails so often where it moved to is looked for again where the truth says."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A feed's state. Times are in epoch seconds, 0 for never.

    Args:
        read_at: when it was last asked.
        not_before: when its server wants to be asked again.
        fails: how often in a row it could not be read; `why` the last time.
        gone_at: when its server said that it is gone for good.
        moved: where it is for good, if not where the truth says.
        validators: what to ask with, at the URL whose mark is `of`.
        body: the digest of its last document.
        turn: how often something of it was published.
    """

    read_at: float = 0.0
    not_before: float = 0.0
    fails: int = 0
    why: str = ""
    gone_at: float = 0.0
    moved: str = ""
    validators: Validators = NO_VALIDATORS
    of: str = ""
    body: str = ""
    turn: str = "0"

    def failed(self, why: str, now: float, retry_after_sec: float | None, *, gone: bool) -> "Standing":
        """As it is after a reading that failed."""
        fails = self.fails + 1
        return replace(
            self,
            read_at=now,
            not_before=now + retry_after_sec if retry_after_sec else 0.0,
            fails=fails,
            why=why,
            gone_at=now if gone else 0.0,
            moved="" if fails >= MISLED else self.moved,
        )

    def well(self, now: float) -> "Standing":
        """As it is after a reading that found nothing new."""
        return replace(self, read_at=now, not_before=0.0, fails=0, why="", gone_at=0.0)

    def words(self, at: str) -> list[str]:
        """Names and values to be stored; `at` is the mark of where the truth says it is."""
        numbers = {
            "read_at": f"{self.read_at:.3f}",
            "not_before": f"{self.not_before:.3f}",
            "fails": str(self.fails),
            "gone_at": f"{self.gone_at:.3f}",
        }
        texts = {
            "why": self.why[:200],
            "moved": self.moved,
            "etag": self.validators.etag,
            "modified": self.validators.modified,
            "of": self.of,
            "body": self.body,
            "at": at,
        }
        return [word for pair in (numbers | texts).items() for word in pair]


def standing_of(raw: Mapping[bytes, bytes], at: str, now: float) -> Standing:
    """What is stored, whatever that is; of a feed that stood elsewhere then, only what still holds."""

    def text(name: str, most: int = 100) -> str:
        found = raw.get(name.encode(), b"").decode("utf-8", "replace")
        return found if len(found) <= most else ""

    def number(name: str, most: float) -> float:
        try:
            found = float(text(name) or 0)
        except ValueError:
            return 0.0
        return max(0.0, min(found, most)) if isfinite(found) else 0.0

    validators = Validators(text("etag", VALIDATOR_LENGTH), text("modified", VALIDATOR_LENGTH))
    turn = text("turn") or "0"
    if text("at") != at:
        return Standing(validators=validators, of=text("of"), turn=turn)
    return Standing(
        read_at=number("read_at", now),
        not_before=number("not_before", now + 86_400.0),
        fails=int(number("fails", 1e6)),
        why=text("why", 200),
        gone_at=number("gone_at", now),
        moved=text("moved", URL_LENGTH),
        validators=validators,
        of=text("of"),
        body=text("body"),
        turn=turn,
    )


def by_url(url: str) -> str:
    """What a feed is known by: its URL in the truth, but for what means the same."""
    if url.startswith("env:"):
        return mark(f"url {url}")
    try:
        parts = urlsplit(url)
        port = "" if parts.port in (None, 80, 443) else f":{parts.port}"
    except ValueError:
        return mark(f"url {url}")
    query = f"?{parts.query}" if parts.query else ""
    return mark(f"url {parts.hostname or ''}{port}{parts.path.rstrip('/')}{query}")


def by_both(feed: Feed) -> str:
    """What a feed is known by about which nothing has changed, whatever others claim meanwhile."""
    return mark(f"both {feed.url} {feed.name}")


def by_name(name: str) -> str:
    """What a feed is known by whose URL is new."""
    return mark(f"name {name}")


def scopes(feeds: Sequence[Feed], known: Mapping[str, str]) -> dict[str, str]:
    """Each feed's scope, by its URL in the truth: the same as before if its URL or its name is.

    `known` gives the scope that `by_both`, `by_url` or `by_name` had. No two feeds have one scope: the
    stronger claim wins, and a feed that has none begins anew.
    """
    claims: tuple[Callable[[Feed], str | None], ...] = (
        lambda feed: known.get(by_both(feed)),
        lambda feed: by_url(feed.url) if known.get(by_url(feed.url)) == by_url(feed.url) else None,
        lambda feed: known.get(by_url(feed.url)),
        lambda feed: known.get(by_name(feed.name)),
        lambda feed: by_url(feed.url),
        lambda feed: mark(f"feed {feed.url}"),  # its place is taken, by one that moved away from here
    )
    found: dict[str, str] = {}
    taken: set[str] = set()
    for claim in claims:
        for feed in feeds:
            scope = claim(feed)
            if feed.url not in found and scope and scope not in taken:
                found[feed.url] = scope
                taken.add(scope)
    return found
