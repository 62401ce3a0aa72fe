"""Show how much of its limits each source has left, by the accounts that sources keeps on the bus.

An account is a hash. `limits` has what the source allows, as `60:200 86400:5000`: seconds and requests. A
field `<seconds>:<slot>` counts the requests of one slot; SLOTS of them make the window of so many seconds.
`blocked` is until when the source wants no request, in epoch milliseconds. A source with keys has an account
for each, which the field `key:<name>` of the source's own account names; no key is in a name.
"""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from marketswarm.bus import Bus
from marketswarm.keys import source_account_key
from marketswarm.text import parse_digits

SLOTS: Final = 20  # how many slots make a window: marketswarm/bus/take_request.lua counts by these
FRESH_SEC: Final = 2.0  # how long what was read is shown
MAX_SOURCES: Final = 500
MAX_KEYS: Final = 50
MAX_BYTES: Final = 4 * 1024 * 1024
_LIMIT: Final = re.compile(rb"(\d{1,8}):(\d{1,9})")
_SLOT: Final = re.compile(rb"(\d{1,8}):(\d{1,15})")
_KEY: Final = re.compile(rb"key:([0-9a-f]{12})")

Account = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class WindowView:
    """Hold one limit of a source: of `allowed` requests within `sec` seconds so many are left."""

    sec: int
    allowed: int
    left: int


@dataclass(frozen=True, slots=True)
class AccountView:
    """Hold the limits of one key with a source.

    `again_at` is when it may be asked again, in epoch seconds; None if it may be asked now.
    """

    windows: tuple[WindowView, ...]
    again_at: float | None = None


def parse_account(raw: Account, now: float) -> AccountView | None:
    """Return an account at `now` (epoch seconds); None if it is missing or does not say its limits."""
    words = map(_LIMIT.fullmatch, raw.get(b"limits", b"").split())
    limits = [(int(found[1]), int(found[2])) for found in words if found and int(found[1])]
    if not limits:
        return None
    slots: dict[int, dict[int, int]] = {}
    for field, count in raw.items():
        if (found := _SLOT.fullmatch(field)) and count.isdigit():
            slots.setdefault(int(found[1]), {})[int(found[2])] = int(count[:9])
    windows, waits_ms = [], [float(parse_digits(raw.get(b"blocked")) or 0)]
    for sec, allowed in limits:
        slot_ms = 1000 * sec / SLOTS
        first = 1000 * now // slot_ms - SLOTS
        counts = {slot: count for slot, count in slots.get(sec, {}).items() if slot >= first and count}
        left = max(0, allowed - sum(counts.values()))
        windows.append(WindowView(sec, allowed, left))
        if left == 0 and counts:
            waits_ms.append((min(counts) + SLOTS + 1) * slot_ms)
    again_at = max(waits_ms) / 1000
    return AccountView(tuple(windows), again_at if again_at > now else None)


async def read_accounts(bus: Bus, sources: Iterable[str]) -> dict[str, tuple[AccountView, ...]]:
    owners = list(dict.fromkeys(sources))[:MAX_SOURCES]
    accounts = await _fetch(bus, owners)
    names = {
        owner: [f"{owner}:{found[1].decode()}" for field in sorted(raw) if (found := _KEY.fullmatch(field))]
        for owner, raw in zip(owners, accounts, strict=True)
    }
    keyed = [(owner, name) for owner, some in names.items() for name in some[:MAX_KEYS]]
    more = await _fetch(bus, [name for _, name in keyed])
    now = time.time()
    views: dict[str, tuple[AccountView, ...]] = {}
    for owner, raw in [
        *zip(owners, accounts, strict=True),
        *zip((one for one, _ in keyed), more, strict=True),
    ]:
        if (view := parse_account(raw, now)) is not None:
            views[owner] = (*views.get(owner, ()), view)
    return views


async def _fetch(bus: Bus, names: Sequence[str]) -> list[Account]:
    if not names:
        return []
    pipe = bus.pipeline()
    for name in names:
        pipe.hgetall(source_account_key(name))
    found: list[Account] = await bus.ask(pipe.execute(), max_bytes=MAX_BYTES)
    return found
