"""Keep on the bus, for each feed, its state, its published items, and its identity.

So a restarted or another instance continues where this one was. All keys begin with the stream's, so another
stream begins without any state, and all expire `remember_days` after the feed was last read. An item is
published and recorded in one step (`publish.lua`). Readers of the stream need none of this.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from marketswarm.bus import Bus, Pipeline
from marketswarm.bus.scripts import Script
from marketswarm.bus.stored_values import is_ahead, read_fields, read_strings, report_unusable
from marketswarm.bus.stream_length import StreamLength
from marketswarm.keys import feed_scope_key, feed_seen_key, feed_state_key, items_usable_key
from marketswarm.pages import split_pages
from marketswarm.text import format_names
from services.rss_agg.fetch import NO_VALIDATORS, URL_LENGTH, VALIDATOR_LENGTH, Validators, hash_url
from services.rss_agg.parse import Item
from services.rss_agg.settings import DAY_SEC, Feed, ReadSettings

# -- the state of a feed

STATE_FIELDS: Final = (
    *("read_at", "not_before", "fails", "gone_at"),
    *("why", "moved", "etag", "modified", "of", "body", "at", "turn"),
)
"""The stored fields of a feed: those of `FeedState.to_fields`, and `turn`, which `publish.lua` increments."""
FORGET_MOVE_AFTER: Final = 3
"""After so many failures in a row at the URL that a feed has moved to, its URL in the truth is tried
again."""
MAX_FAILURES: Final = 1e6
MAX_WAIT_SEC: Final = 86_400.0
FAR_SEC: Final = 1e15
"""More epoch seconds than any clock has."""
SHOWN_FAILING: Final = 4
SHOWN_OTHERS: Final = 2
ITEMS_PER_STEP: Final = 100  # a few hundred kilobytes
FEEDS_PER_STEP: Final = 200
SCOPE_BYTES: Final = 64
FIELD_BYTES: Final = 4 * max(URL_LENGTH, VALIDATOR_LENGTH)
"""The largest stored field in bytes; a character has up to four bytes in UTF-8."""
KEEP_UNSHOWN_SEC: Final = 30 * DAY_SEC
MAX_UNSHOWN: Final = 2000
PUBLISH: Final = Script.beside("services.rss_agg", "publish.lua")


@dataclass(frozen=True, slots=True)
class FeedState:
    """Hold the state of a feed. Times are in epoch seconds, 0 for never.

    Args:
        not_before: before when its server does not want to be asked again.
        gone_at: when its server answered that it is gone for good.
        moved_to: where it has moved to for good; empty if it is where the truth has it.
        validators: what to send with the next request to the URL whose digest is `validators_of`.
        turn: how many readings of it were published, as text; two instances that read at once differ in it.
    """

    read_at: float = 0.0
    not_before: float = 0.0
    failures: int = 0
    error: str = ""
    gone_at: float = 0.0
    moved_to: str = ""
    validators: Validators = NO_VALIDATORS
    validators_of: str = ""
    body_digest: str = ""
    turn: str = "0"

    @property
    def status(self) -> str:
        """One word: `unread`, `gone`, `failing` or `well`."""
        if not (self.read_at or self.gone_at):
            return "unread"
        if self.gone_at:
            return "gone"
        return "failing" if self.error else "well"

    def after_failure(
        self, error: str, now: float, retry_after_sec: float | None, *, gone: bool
    ) -> "FeedState":
        failures = self.failures + 1
        return replace(
            self,
            read_at=now,
            not_before=now + retry_after_sec if retry_after_sec else 0.0,
            failures=failures,
            error=error,
            gone_at=now if gone else 0.0,
            moved_to="" if failures >= FORGET_MOVE_AFTER else self.moved_to,
        )

    def after_success(self, now: float) -> "FeedState":
        return replace(self, read_at=now, not_before=0.0, failures=0, error="", gone_at=0.0)

    def to_fields(self, address: str) -> dict[str, str]:
        """Return the fields to store; `address` is the hash of the feed's URL now (`KnownFeed.address`)."""
        return {
            "read_at": f"{self.read_at:.3f}",
            "not_before": f"{self.not_before:.3f}",
            "fails": str(self.failures),
            "gone_at": f"{self.gone_at:.3f}",
            "why": self.error[:200],
            "moved": self.moved_to,
            "etag": self.validators.etag,
            "modified": self.validators.modified,
            "of": self.validators_of,
            "body": self.body_digest,
            "at": address,
        }


def parse_feed_state(raw: Mapping[bytes, bytes], address: str, now: float) -> FeedState:
    """Return the state in stored fields; a field that can't be read counts as missing.

    If the feed had another address then, keep only the validators and the turn. A time of reading in the
    future is of a clock that was set back since: it counts as missing, and so does the pause that began then.
    (Cut to `now`, it would be a moment ago with each load, and the feed unread until that time comes.)
    """

    def text(name: str, max_length: int = 100) -> str:
        value = raw.get(name.encode(), b"").decode("utf-8", "replace")
        return value if len(value) <= max_length else ""

    def number(name: str, maximum: float) -> float:
        try:
            value = float(text(name) or 0)
        except ValueError:
            return 0.0
        return max(0.0, min(value, maximum)) if isfinite(value) else 0.0

    validators = Validators(text("etag", VALIDATOR_LENGTH), text("modified", VALIDATOR_LENGTH))
    turn = text("turn") or "0"
    if text("at") != address:
        return FeedState(validators=validators, validators_of=text("of"), turn=turn)
    read_at = number("read_at", FAR_SEC)
    read_at = 0.0 if is_ahead(read_at, now) else min(read_at, now)
    return FeedState(
        read_at=read_at,
        not_before=number("not_before", read_at + MAX_WAIT_SEC),  # both are stored at once
        failures=int(number("fails", MAX_FAILURES)),
        error=text("why", 200),
        gone_at=number("gone_at", now),
        moved_to=text("moved", URL_LENGTH),
        validators=validators,
        validators_of=text("of"),
        body_digest=text("body"),
        turn=turn,
    )


# -- the state of all feeds, in a few words for a beat


def count_by_status(feeds: Sequence[Feed], states: Mapping[str, FeedState]) -> Counter[str]:
    return Counter(states[feed.url].status if feed.url in states else "unread" for feed in feeds)


def all_fail(feeds: Sequence[Feed], states: Mapping[str, FeedState]) -> bool:
    counts = count_by_status(feeds, states)
    return bool(feeds) and counts["failing"] + counts["gone"] == len(feeds)


def summarize(feeds: Sequence[Feed], states: Mapping[str, FeedState]) -> str | None:
    """Return `2 of 3 feeds fail: a (timeout), b (404); 1 moved: c`, or None if there is nothing to report."""
    known = [(feed, states[feed.url]) for feed in feeds if feed.url in states]
    failing = [f"{feed.name} ({state.error})" for feed, state in known if state.status == "failing"]
    gone = [feed.name for feed, state in known if state.gone_at]
    moved = [feed.name for feed, state in known if state.moved_to and not state.gone_at]
    groups = (
        (failing, f"of {len(feeds)} feeds fail", SHOWN_FAILING),
        (gone, "gone for good", SHOWN_OTHERS),
        (moved, "moved", SHOWN_OTHERS),
    )
    parts = (f"{len(names)} {what}: {format_names(names, most)}" for names, what, most in groups if names)
    return "; ".join(parts) or None


# -- the identity of a feed


def claim_by_url(url: str) -> str:
    """Return a hash of a feed's URL in the truth.

    It is equal for URLs that differ only in the scheme, in the port 80 or 443, in user and password, in the
    fragment, or in a final slash.
    """
    if url.startswith("env:"):
        return hash_url(f"url {url}")
    try:
        parts = urlsplit(url)
        port = "" if parts.port in (None, 80, 443) else f":{parts.port}"
    except ValueError:
        return hash_url(f"url {url}")
    query = f"?{parts.query}" if parts.query else ""
    return hash_url(f"url {parts.hostname or ''}{port}{parts.path.rstrip('/')}{query}")


def claim_by_url_and_name(feed: Feed) -> str:
    return hash_url(f"both {feed.url} {feed.name}")


def claim_by_name(name: str) -> str:
    return hash_url(f"name {name}")


def assign_scopes(feeds: Sequence[Feed], known: Mapping[str, str]) -> dict[str, str]:
    """Return each feed's scope, by its URL in the truth.

    A feed keeps its old scope if its URL or its name is the same. No two feeds get one scope: the stronger
    claim wins, and a feed without any gets a new one. `known` has the stored scope of each `claim_by_…` hash.
    """
    claims: tuple[Callable[[Feed], str | None], ...] = (
        lambda feed: known.get(claim_by_url_and_name(feed)),
        lambda feed: (
            claim_by_url(feed.url) if known.get(claim_by_url(feed.url)) == claim_by_url(feed.url) else None
        ),
        lambda feed: known.get(claim_by_url(feed.url)),
        lambda feed: known.get(claim_by_name(feed.name)),
        lambda feed: claim_by_url(feed.url),
        lambda feed: hash_url(f"feed {feed.url}"),  # a feed that moved away from here has the URL's scope
    )
    scopes: dict[str, str] = {}
    taken: set[str] = set()
    for claim in claims:
        for feed in feeds:
            scope = claim(feed)
            if feed.url not in scopes and scope and scope not in taken:
                scopes[feed.url] = scope
                taken.add(scope)
    return scopes


# -- the store


@dataclass(frozen=True, slots=True)
class Published:
    """Hold the ids of new and of edited items; `first` is True if the feed was never read before."""

    new: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    first: bool = False


@dataclass(frozen=True, slots=True)
class KnownFeed:
    """Hold a feed with its scope and `address`, the hash of the URL where it is now."""

    feed: Feed
    scope: str
    address: str


class FeedStore:
    """Keep the states, items and scopes of one stream's feeds on a bus. Each method may raise BusError."""

    def __init__(self, bus: Bus, stream: str) -> None:
        self.bus, self.stream = bus, stream
        self._length = StreamLength()

    async def load_scopes(self, feeds: Sequence[Feed]) -> dict[str, str]:
        claims = [claim for feed in feeds for claim in _claims(feed)]
        known: dict[str, str] = {}
        for batch in split_pages(claims, FEEDS_PER_STEP):
            keys = [feed_scope_key(self.stream, claim) for claim in batch]
            values = await read_strings(self.bus, keys, SCOPE_BYTES, report=True)
            found = zip(batch, values, strict=True)
            known |= {claim: scope.decode("ascii", "replace") for claim, scope in found if scope is not None}
        return assign_scopes(feeds, known)

    async def load_states(self, feeds: Sequence[KnownFeed]) -> list[FeedState]:
        """Return the state of each feed, a new one where none is stored. Raises BusError."""
        states: list[FeedState] = []
        for batch in split_pages(feeds, FEEDS_PER_STEP):
            keys = [feed_state_key(self.stream, known.scope) for known in batch]
            values = await read_fields(self.bus, keys, STATE_FIELDS, FIELD_BYTES)
            now = time.time()
            states += [
                parse_feed_state(raw, known.address, now) for known, raw in zip(batch, values, strict=True)
            ]
        return states

    async def publish_items(
        self, known: KnownFeed, state: FeedState, items: Sequence[Item], settings: ReadSettings
    ) -> Published:
        """Publish the new and the edited ones of `items`, and save `state`; return their ids.

        `items` are all that the feed shows now; each of them is recorded as known.
        """
        batches = list(split_pages(items, ITEMS_PER_STEP)) or [[]]
        first, versions = False, dict[str, int]()
        seen_key = feed_seen_key(self.stream, known.scope)
        for batch in batches:
            shown = items if batch is batches[-1] else None
            length = await self._length.compute(self.bus, self.stream, settings.stream_length)
            args = _publish_args(known, state, batch, shown, keep_ms=settings.keep_ms, length=length)
            keys = [self.stream, seen_key, feed_state_key(self.stream, known.scope)]
            was_first, _overtaken, unusable, *words = await self.bus.script(PUBLISH, keys, args)
            first = bool(was_first)
            for _ in range(unusable):
                report_unusable(self.bus.name, seen_key)
            versions |= {
                item_id.decode(): int(version)
                for item_id, version in zip(words[::2], words[1::2], strict=True)
            }
        pipe = self.bus.pipeline()
        self._keep_scope(pipe, known, settings.keep_ms, state.moved_to)
        await self.bus.ask(pipe.execute())
        new = tuple(item_id for item_id, version in versions.items() if version == 1)
        return Published(new, tuple(each for each, version in versions.items() if version > 1), first)

    async def save_state(self, known: KnownFeed, state: FeedState, settings: ReadSettings) -> None:
        """Save the state of a feed that has nothing to publish, and extend the life of its keys."""
        fields: dict[Any, Any] = dict(state.to_fields(known.address))
        state_key = feed_state_key(self.stream, known.scope)
        pipe = self.bus.pipeline(transaction=True)
        pipe.hset(state_key, mapping=fields)
        pipe.pexpire(state_key, settings.keep_ms)
        pipe.pexpire(feed_seen_key(self.stream, known.scope), settings.keep_ms)
        self._keep_scope(pipe, known, settings.keep_ms, state.moved_to)
        await self.bus.ask(pipe.execute())

    async def check_writable(self) -> None:
        """Write a key that expires after a second.

        A bus that is full, or a replica, answers reads but raises BusError here.
        """
        await self.bus.ask(self.bus.client.set(items_usable_key(self.stream), b"", px=1000))

    def _keep_scope(self, pipe: Pipeline, known: KnownFeed, keep_ms: int, moved_to: str) -> None:
        for claim in _claims(known.feed):
            pipe.set(feed_scope_key(self.stream, claim), known.scope, px=keep_ms)
        if moved_to:  # the feed keeps its scope when the truth gets the new URL, unless another feed has that
            pipe.set(feed_scope_key(self.stream, claim_by_url(moved_to)), known.scope, px=keep_ms, nx=True)


def _claims(feed: Feed) -> tuple[str, ...]:
    return claim_by_url_and_name(feed), claim_by_url(feed.url), claim_by_name(feed.name)


def _publish_args(
    known: KnownFeed,
    state: FeedState,
    batch: Sequence[Item],
    shown: Sequence[Item] | None,
    *,
    keep_ms: int,
    length: int,
) -> list[str | bytes | float]:
    """`shown` are all items that the feed shows, with the last batch; None with the batches before it."""
    saved = orjson.dumps(_flatten(state.to_fields(known.address))) if shown is not None else b""
    args: list[str | bytes | float] = [f"{time.time():.3f}", state.turn, keep_ms]
    args += [KEEP_UNSHOWN_SEC, MAX_UNSHOWN, length, saved, len(batch)]
    for item in batch:
        args += [item.id, item.digest, orjson.dumps(_flatten(item.fields))]
    return [*args, *(item.id for item in shown or ())]


def _flatten(fields: Mapping[str, str]) -> list[str]:
    return [text for pair in fields.items() for text in pair]
