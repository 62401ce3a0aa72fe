"""What each user that `marketswarm acl` makes may write, by the rules themselves, and hostile values for it.

Nothing here names a key or a channel of ours: places are read from the users' grants, and the keys that match
their patterns are those that a running fleet has.
"""

import contextlib
import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import redis
from redis.exceptions import NoPermissionError

from marketswarm.access.grant import User
from marketswarm.access.users import build_users
from marketswarm.truth import Truth

LAST_ID: Final = "18446744073709551615-18446744073709551615"
BEYOND: Final = 99_999_999_999_999_999_999_999_999
"""An integer beyond 64 bits."""
DEPTH: Final = 300
FAR_SEC: Final = 32_000_000_000.0
"""A time in the year 2984, in epoch seconds."""
CONTROLS: Final = "a\x00\x1b[2J\x1b]0;x\x07\r\n\x7f\x9b\u202e\u2028b"
_YEAR_MS: Final = 365 * 86_400_000
_WILDCARD: Final = "x1"
"""Stands for `*` in a pattern that no key of the fleet matches."""
_READS: Final = 100
_PAGE: Final = 200
_PAGE_BYTES: Final = 1024 * 1024
"""A page has more only if that is one command: what a lost connection leaves unknown is one page."""

Command = tuple[Any, ...]


@dataclass(frozen=True)
class Places:
    """Hold what a user may write on a bus: ACL patterns of keys, and of channels."""

    keys: tuple[str, ...]
    channels: tuple[str, ...]


@dataclass(frozen=True)
class Sample:
    """Hold what a key of the fleet has: its type, and some of its value."""

    kind: str
    value: Any


@dataclass(frozen=True)
class Extent:
    """Say how much is written: about `most` mutants of a value, `keys` of a pattern, `big` bytes at once."""

    most: int = 30
    keys: int = 2
    big: int = 1024 * 1024


@dataclass
class Attack:
    """Hold what one user did: which keys it wrote, what they were before, and the ids of its entries."""

    user: str
    taken: int = 0
    refused: int = 0
    before: dict[tuple[str, bytes], bytes | None] = field(default_factory=dict)
    written: set[tuple[str, bytes]] = field(default_factory=set)
    idents: set[bytes] = field(default_factory=set)

    def run(self, client: Any, admin: Any, bus: str, commands: Iterable[Command]) -> None:
        """Run commands, and note what the server took.

        A server closes a client that takes too much of its memory (`maxmemory-clients`). Then that page
        counts as refused, and the next one has a new connection. `admin` is a client that may do all: by it
        this fails if the server died, or has closed no client for its memory.
        """
        for page in _make_pages(commands):
            server = _read_server(admin)
            try:
                with client.pipeline(transaction=False) as pipe:
                    for command in page:
                        pipe.execute_command(*command)
                    replies = pipe.execute(raise_on_error=False)
            except redis.ConnectionError:
                _require_closed_by_limit(server, _read_server(admin))
                self._note_lost(admin, bus, page)
                continue
            for (name, key, *_), reply in zip(page, replies, strict=True):
                if isinstance(reply, NoPermissionError):
                    self.refused += 1
                elif not isinstance(reply, redis.RedisError):
                    self.taken += 1
                    if name != "PUBLISH":
                        self.written.add((bus, key))
                    if name == "XADD":
                        self.idents.add(reply)

    def _note_lost(self, admin: Any, bus: str, page: list[Command]) -> None:
        """Note what a page without replies may have written: its keys, and the entries that are there."""
        self.refused += len(page)
        self.written |= {(bus, key) for name, key, *_ in page if name != "PUBLISH"}
        sent = {key: list[list[Any]]() for name, key, *_ in page if name == "XADD"}
        for name, key, *words in page:
            if name == "XADD":
                sent[key].append([part.encode() if isinstance(part, str) else part for part in words[1:]])
        for key, entries in sent.items():
            with contextlib.suppress(redis.ResponseError):  # of another type by now
                for ident, fields in admin.xrevrange(key, count=len(entries)):
                    if [part for pair in fields.items() for part in pair] in entries:
                        self.idents.add(ident)


def _make_pages(commands: Iterable[Command]) -> Iterator[list[Command]]:
    """Yield the commands in pages, of which each is sent at once."""
    page: list[Command] = []
    size = 0
    for command in commands:
        length = sum(len(part) for part in command if isinstance(part, bytes | str))
        if page and (len(page) == _PAGE or size + length > _PAGE_BYTES):
            yield page
            page, size = [], 0
        page.append(command)
        size += length
    if page:
        yield page


def _read_server(admin: Any) -> tuple[str, int]:
    """Return the id of this start of the server, and how many clients it has closed for their memory."""
    found = admin.info()
    return found["run_id"], found["evicted_clients"]


def _require_closed_by_limit(before: tuple[str, int], after: tuple[str, int]) -> None:
    """Fail unless the same server has closed a client for its memory meanwhile."""
    assert before[0] == after[0], "the server was started again during an attack"
    assert before[1] < after[1], "a connection was lost, and the server has closed no client for its memory"


def list_places(truth: Truth, bus: str) -> dict[str, Places]:
    """Return by user what its grants let it write."""
    found = {user.name: _list_written(user) for user in build_users(truth, bus)}
    return {name: places for name, places in found.items() if places.keys or places.channels}


def _list_written(user: User) -> Places:
    keys: dict[str, None] = {}
    channels: dict[str, None] = {}
    for grant in (user.root, *user.grants):
        commands = set(grant.commands.split())
        if grant.mode != "R" and commands != {"fcall"}:  # FCALL writes nothing that another grant does not
            keys |= dict.fromkeys(grant.keys)
        if "publish" in commands:
            channels |= dict.fromkeys(grant.channels)
    return Places(tuple(keys), tuple(channels))


def make_name(pattern: str) -> str:
    """Return a name that an ACL pattern matches."""
    pattern = re.sub(r"\[(.)\]", r"\1", pattern)
    return re.sub(r"\\(.)|\*", lambda found: found[1] or _WILDCARD, pattern)


def find_keys(admin: Any, patterns: Iterable[str], most: int, seed: str) -> list[bytes]:
    """Return up to `most` keys of each ACL pattern, and a name for one that no key matches."""
    found: dict[bytes, None] = {}
    for pattern in patterns:
        keys = sorted(admin.keys(pattern))
        random.Random(f"{seed} {pattern}").shuffle(keys)
        found |= dict.fromkeys(keys[:most] or [make_name(pattern).encode()])
    return list(found)


def read_sample(admin: Any, key: bytes) -> Sample:
    """Return a sample of a key, read by a client that may do all."""
    for _ in range(_READS):
        with contextlib.suppress(redis.ResponseError):  # its owner replaced it since it said its type
            kind = admin.type(key).decode()
            return Sample(kind, _read_value(admin, key, kind))
    raise AssertionError(f"{key!r} has another type at each look")


def _read_value(admin: Any, key: bytes, kind: str) -> Any:
    if kind == "string":
        return admin.getrange(key, 0, 100_000)
    if kind == "hash":
        return dict(admin.hscan(key, count=50)[1])
    if kind == "stream":
        return [fields for _, fields in admin.xrevrange(key, count=3)]
    return None


def make_scalars(big: int) -> list[bytes]:
    """Return values that are no document of ours; the last one has `big` bytes."""
    beyond, far = str(BEYOND).encode(), str(FAR_SEC).encode()
    deep = (b"[" * DEPTH + b"]" * DEPTH, b'{"a":' * DEPTH + b"1" + b"}" * DEPTH)
    numbers = (beyond, b"-" + beyond, far, str(int(FAR_SEC * 1000)).encode(), b"1e999", b"nan", b"-1")
    texts = (CONTROLS.encode(), b"\xff\xfe\x00", b"", b"null", b"true", b"[]", b"{}", b'"text"')
    return [*numbers, *deep, *texts, b"x" * big]


def _nest() -> Any:
    inner: Any = 1
    for _ in range(DEPTH):
        inner = [inner]
    return inner


LEAVES: Final[tuple[Any, ...]] = (
    *(BEYOND, -BEYOND, _nest(), CONTROLS, FAR_SEC, int(FAR_SEC * 1000), None, True, -1, 0, 1.5e308),
    *("", "x" * 5000, [], {}, str(BEYOND), {"a": [{}]}, [None]),
)
"""Values for a place of a JSON document."""


def mutate_document(raw: bytes, most: int, seed: str) -> list[bytes]:
    """Return documents like `raw`, if it is a JSON object, with another value in all places, or in one."""
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return []
    if not isinstance(document, dict) or not document:
        return []
    found = [{**document, "x" * 300: BEYOND, "deep": _nest()}]
    found += [dict.fromkeys(document, leaf) for leaf in LEAVES]
    single = [{**document, name: leaf} for name in document for leaf in LEAVES]
    inner = [
        {**document, name: {**value, key: leaf}}
        for name, value in document.items()
        if isinstance(value, dict)
        for key in list(value)[:5]
        for leaf in LEAVES
    ]
    for each in (single, inner):
        random.Random(seed).shuffle(each)
        found += each[:most]
    return [json.dumps(each).encode() for each in found]


def mutate_entry(fields: dict[bytes, bytes], extent: Extent, seed: str) -> list[dict[bytes, bytes]]:
    """Return entries like one of a stream: with a hostile value in all fields, or in one, or without one."""
    scalars = make_scalars(extent.big)
    found = [dict.fromkeys(fields, value) for value in scalars[:-1]]
    found += [{key: value for key, value in fields.items() if key != name} for name in list(fields)[:20]]
    single = [{**fields, name: value} for name in fields for value in scalars]
    for name, raw in fields.items():
        single += [{**fields, name: value} for value in mutate_document(raw, extent.most, f"{seed} {name!r}")]
    random.Random(seed).shuffle(single)
    return [entry for entry in [*found, *single[: 3 * extent.most]] if entry]


def list_growing(key: bytes, sample: Sample, extent: Extent) -> Iterator[Command]:
    """Yield commands whose effects are there together: entries of a stream, fields of a hash."""
    for fields in sample.value if sample.kind == "stream" else ({b"event": b"{}"},):
        for entry in mutate_entry(fields, extent, str(key)):
            yield ("XADD", key, "*", *(part for pair in entry.items() for part in pair))
    if sample.kind in ("hash", "none"):
        known = sample.value or {}
        values = make_scalars(extent.big)
        for raw in list(known.values())[:3]:
            values += mutate_document(raw, extent.most, str(key))
        for number, value in enumerate(values):
            yield ("HSET", key, f"h{number}", value)
        yield ("HSET", key, CONTROLS, b"{}")
        yield ("HSET", key, "f" * 5000, b"{}")
        for number, name in enumerate(known):
            yield ("HSET", key, name, values[number % len(values)])


def list_replacing(key: bytes, sample: Sample, turn: int, extent: Extent) -> list[Command]:
    """Return commands that leave one hostile value of the key's type there, another one in each turn."""
    if sample.kind in ("string", "none"):
        values = [*mutate_document(sample.value or b"", extent.most, str(key)), *make_scalars(extent.big)]
        return [("SET", key, random.Random(f"{key!r} {turn}").choice(values))]
    if sample.kind == "zset":
        members = (CONTROLS, "x" * 5000)
        return [("ZADD", key, score, member) for score in ("inf", "-inf", "1e300") for member in members]
    return []


def list_ending(key: bytes, now_ms: int) -> list[Command]:
    """Return commands that add an entry with a time far ahead, and one with the last possible id."""
    return [("XADD", key, ident, "event", "{}") for ident in (f"{now_ms + _YEAR_MS}-1", LAST_ID)]


def list_retyping(key: bytes, sample: Sample, turn: int) -> list[Command]:
    """Return commands that leave a value of another type at a key, of another one in each turn."""
    by_kind: dict[str, Command] = {
        "string": ("SET", key, "no such type"),
        "list": ("RPUSH", key, "no such type"),
        "hash": ("HSET", key, "no", "such type"),
        "zset": ("ZADD", key, "1e300", "no such type"),
        "stream": ("XADD", key, "*", "no", "such type"),
    }
    others = [command for kind, command in by_kind.items() if kind != sample.kind]
    random.Random(f"{key!r} {turn}").shuffle(others)
    return [("DEL", key), *others]  # the first one that the user may do leaves its type there
