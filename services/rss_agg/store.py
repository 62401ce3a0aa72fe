"""What is known of a feed from before: who it is, how its last reading went, what to ask it with. Pure.

It is kept on the bus (`memory.py`), so that a restart, or another instance, goes on where this one was.

What the state of all feeds comes to, in a beat's few words. Pure.

What is remembered on the bus: each feed's state, which of its items were published, and who it is.

All keys begin with the stream's, so another stream begins anew, and all have an end: `remember_days` after a
feed was last asked for. What is published and what is remembered of it are one step (`publish.lua`). Whoever
reads the stream needs none of this.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
from redis.asyncio.client import Pipeline

from marketswarm.bus import Bus
from marketswarm.bus.scripts import Script
from marketswarm.bus.stored_values import read_fields, read_strings, report_unusable
from services.rss_agg.fetch import NO_VALIDATORS, URL_LENGTH, VALIDATOR_LENGTH, Validators, mark
from services.rss_agg.parse import Item
from services.rss_agg.settings import DAY_SEC, Feed, ReadSettings

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


SHOWN: Final = 4
SHOWN_OF_OTHERS: Final = 2


def state_of(standing: Standing | None) -> str:
    """One word for how a feed is."""
    if standing is None or not (standing.read_at or standing.gone_at):
        return "unread"
    if standing.gone_at:
        return "gone"
    return "failing" if standing.why else "well"


def reported(standing: Standing) -> tuple[str, ...]:
    """All of a standing that is ever said: another one is news."""
    return state_of(standing), standing.why, standing.moved


def states(feeds: Sequence[Feed], standings: Mapping[str, Standing]) -> Counter[str]:
    """How many feeds are in each state."""
    return Counter(state_of(standings.get(feed.url)) for feed in feeds)


def all_fail(feeds: Sequence[Feed], standings: Mapping[str, Standing]) -> bool:
    """Whether there are feeds, and none of them can be read."""
    found = states(feeds, standings)
    return bool(feeds) and found["failing"] + found["gone"] == len(feeds)


def summed_up(feeds: Sequence[Feed], standings: Mapping[str, Standing]) -> str | None:
    """`2 of 3 feeds fail: a (timeout), b (404); 1 moved: c`, or None when there is nothing to say."""
    known = [(feed, standings[feed.url]) for feed in feeds if feed.url in standings]
    failing = [f"{feed.name} ({one.why})" for feed, one in known if state_of(one) == "failing"]
    gone = [feed.name for feed, one in known if one.gone_at]
    moved = [feed.name for feed, one in known if one.moved and not one.gone_at]
    said = []
    if failing:
        said.append(f"{len(failing)} of {len(feeds)} feeds fail: {_some(failing, SHOWN)}")
    if gone:
        said.append(f"{len(gone)} gone for good: {_some(gone, SHOWN_OF_OTHERS)}")
    if moved:
        said.append(f"{len(moved)} moved: {_some(moved, SHOWN_OF_OTHERS)}")
    return "; ".join(said) or None


def _some(names: Sequence[str], shown: int) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


BATCH: Final = 100  # items in one step: a few hundred kilobytes
LOOKED_UP: Final = 200
LONGEST_SCOPE: Final = 64
LONGEST_FIELD: Final = 4 * max(URL_LENGTH, VALIDATOR_LENGTH)
"""In bytes, of characters in UTF-8."""
ABSENT_SEC: Final = 30 * DAY_SEC
ABSENT: Final = 2000
PUBLISH: Final = Script.beside("services.rss_agg", "publish.lua")


@dataclass(frozen=True, slots=True)
class Published:
    """What came of it: the ids of new items and of edited ones. `first`: the feed was never read before."""

    new: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    first: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """A feed with its scope and `at`, the mark of where it is now."""

    feed: Feed
    scope: str
    at: str


class Memory:
    """The memory for one stream on one bus. Every method may raise BusError."""

    def __init__(self, bus: Bus, stream: str) -> None:
        self.bus, self.stream = bus, stream

    async def scopes(self, feeds: Sequence[Feed]) -> dict[str, str]:
        """The scope of each feed, by its URL in the truth."""
        claims = [claim for feed in feeds for claim in _claims(feed)]
        known: dict[str, str] = {}
        for start in range(0, len(claims), LOOKED_UP):
            some = claims[start : start + LOOKED_UP]
            keys = [self._alias(claim) for claim in some]
            found = await read_strings(self.bus, keys, LONGEST_SCOPE, report=True)
            known |= {
                claim: value.decode("ascii", "replace")
                for claim, value in zip(some, found, strict=True)
                if isinstance(value, bytes)
            }
        return scopes(feeds, known)

    async def standings(self, feeds: Sequence[Known]) -> list[Standing]:
        """How each of them stands."""
        found: list[Standing] = []
        for start in range(0, len(feeds), LOOKED_UP):
            some = feeds[start : start + LOOKED_UP]
            answers = await read_fields(self.bus, [self._state(one) for one in some], FIELDS, LONGEST_FIELD)
            found += [standing_of(raw, one.at, time.time()) for one, raw in zip(some, answers, strict=True)]
        return found

    async def publish(
        self, one: Known, standing: Standing, items: Sequence[Item], wishes: ReadSettings
    ) -> Published:
        """Put on the stream what is new of `items`, all that the feed shows; from then on it stands so."""
        now = f"{time.time():.3f}"
        keep_ms = round(1000 * wishes.remember_days * DAY_SEC)
        batches = [items[start : start + BATCH] for start in range(0, len(items), BATCH)] or [items]
        first, told = False, list[tuple[str, int]]()
        for batch in batches:
            last = batch is batches[-1]
            state = orjson.dumps(standing.words(one.at)) if last else b""
            args: list[str | bytes | float] = [now, standing.turn, keep_ms, ABSENT_SEC, ABSENT]
            args += [wishes.stream_length, state, len(batch)]
            for item in batch:
                args += [item.id, item.digest, _flat(item.fields)]
            if last:
                args += [item.id for item in items]
            keys = [self.stream, self._seen(one), self._state(one)]
            was_first, _overtaken, unusable, *words = await self.bus.script(PUBLISH, keys, args)
            first = bool(was_first)
            for _ in range(unusable):
                report_unusable(self.bus.name, self._seen(one))
            told += [
                (ident.decode(), int(version)) for ident, version in zip(words[::2], words[1::2], strict=True)
            ]
        pipe = self.bus.pipeline()
        self._keep(pipe, one, keep_ms, standing.moved)
        await self.bus.ask(pipe.execute())
        new = tuple(ident for ident, version in told if version == 1)
        return Published(new, tuple(ident for ident, version in told if version > 1), first)

    async def note(self, one: Known, standing: Standing, wishes: ReadSettings) -> None:
        """It stands so, and there was nothing to publish."""
        words = standing.words(one.at)
        state: Mapping[Any, Any] = dict(zip(words[::2], words[1::2], strict=True))
        pipe = self.bus.pipeline(transaction=True)
        keep_ms = round(1000 * wishes.remember_days * DAY_SEC)
        pipe.hset(self._state(one), mapping=dict(state))
        pipe.pexpire(self._state(one), keep_ms)
        pipe.pexpire(self._seen(one), keep_ms)
        self._keep(pipe, one, keep_ms, standing.moved)
        await self.bus.ask(pipe.execute())

    async def usable(self) -> None:
        """Write something: a bus that is full or a replica answers, and is of no use all the same."""
        await self.bus.ask(self.bus.client.set(f"{self.stream}:usable", b"", px=1000))

    def _keep(self, pipe: Pipeline, one: Known, keep_ms: int, moved: str) -> None:
        for claim in _claims(one.feed):
            pipe.set(self._alias(claim), one.scope, px=keep_ms)
        if moved:  # who writes the new address into the truth has the same feed; unless that is another's
            pipe.set(self._alias(by_url(moved)), one.scope, px=keep_ms, nx=True)

    def _seen(self, one: Known) -> str:
        return f"{self.stream}:seen:{one.scope}"

    def _state(self, one: Known) -> str:
        return f"{self.stream}:feed:{one.scope}"

    def _alias(self, claim: str) -> str:
        return f"{self.stream}:scope:{claim}"


def _claims(feed: Feed) -> tuple[str, ...]:
    return by_both(feed), by_url(feed.url), by_name(feed.name)


def _flat(fields: Mapping[str, str]) -> bytes:
    return orjson.dumps([text for pair in fields.items() for text in pair])
