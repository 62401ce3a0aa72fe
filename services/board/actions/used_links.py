"""Record which signed links were used: a key `board:links:<id>` for each, on the bus of the audit log.

A link is claimed before it acts and marked as used after that, until it counts no more. A claim without an
act, of a board that was killed between them, ends by itself, and the link counts again.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from marketswarm.bus import Bus
from marketswarm.keys import board_link_key
from marketswarm.operator.signed_link import SignedLink
from marketswarm.text import parse_digits
from marketswarm.web.limits import refuse_without_bus

CLAIMED: Final = b"claimed"
CLAIM_SEC: Final = 60
"""How long a claim lasts, in seconds: longer than any act takes."""
MARGIN_SEC: Final = 60
"""How much longer than its link a record lasts, in seconds."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class UsedLinks:
    """The records on the bus that `bus` returns. Every method raises RefusedError if it does not answer."""

    bus: Callable[[], Bus]

    async def find_use(self, link: SignedLink) -> float | None:
        """Return when a link was used, in epoch seconds; None if it was not."""
        raw = await self._ask(lambda bus: bus.client.get(board_link_key(link.id)))
        at = parse_digits(raw)
        return None if at is None else float(at)

    async def claim(self, link: SignedLink) -> bool:
        """Claim a link for CLAIM_SEC; return False if it is claimed or used."""
        key = board_link_key(link.id)
        return bool(await self._ask(lambda bus: bus.client.set(key, CLAIMED, nx=True, ex=CLAIM_SEC)))

    async def mark_used(self, link: SignedLink, now: float) -> None:
        """Record that a link was used at `now` (epoch seconds), until it expires."""
        left_sec = max(0, int(link.until - now)) + MARGIN_SEC
        key = board_link_key(link.id)
        await self._ask(lambda bus: bus.client.set(key, str(int(now)), ex=left_sec))

    async def release(self, link: SignedLink) -> None:
        """Delete the claim of a link that did nothing, so that it counts again."""
        await self._ask(lambda bus: bus.client.delete(board_link_key(link.id)))

    async def _ask(self, request: Callable[[Bus], Awaitable[T]]) -> T:
        bus = self.bus()
        with refuse_without_bus("records the use of links"):
            answer: T = await bus.ask(request(bus))
        return answer
