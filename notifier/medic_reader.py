"""Read what the medic has stored of the outages whose messages wait for it: on system-redis, and only there.

Any client of the bus may have written there. So each repair is read with a bound and parsed strictly, and one
that can't be used is reported, counted and skipped: the message about its outage does not wait.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import Bus
from marketswarm.bus.outage import Outage
from marketswarm.bus.stored_values import read_fields, report_unusable
from marketswarm.keys import MEDIC_LEASE, MEDIC_STATE, own_lease_key
from marketswarm.truth import MEDIC
from notifier.router.healing import MedicState, StoredRepair

_LEASE: Final = own_lease_key(MEDIC, MEDIC_LEASE)
READ_EVERY_SEC: Final = 1.0
READ_HELD_EVERY_SEC: Final = 0.3
"""The time between two readings while a message waits for the medic, in seconds."""
MAX_SERVICES: Final = 200
"""The most services whose repairs are read; the messages about further ones hardly wait."""
WITHIN_SEC: Final = 1.0
MAX_REPAIR_BYTES: Final = 16_384
"""A repair with the 50 attempts that the medic stores at most has less."""
_FIELD: Final = "repair:"
"""Prefix of the fields of `medic:state`; a service's name follows."""

log = logs.get("notifier")


class MedicReader:
    """Reads the medic's lease and repairs from one bus, and passes them on.

    Args:
        list_wanted: returns the services whose messages wait; None if the medic acts nowhere.
        changed: called with each reading.
        clock: the notifier's clock, in epoch seconds.
    """

    def __init__(
        self,
        bus: Bus,
        list_wanted: Callable[[], Sequence[str] | None],
        changed: Callable[[MedicState], None],
        clock: Callable[[], float],
    ) -> None:
        self._bus, self._list_wanted, self._changed, self._clock = bus, list_wanted, changed, clock
        self._state = MedicState()
        self._outage = Outage(log, "medic.unread", "medic.read_again")

    async def run(self) -> None:
        while True:
            await self.read()
            await asyncio.sleep(READ_HELD_EVERY_SEC if self._list_wanted() else READ_EVERY_SEC)

    async def read(self) -> None:
        """Read once; without an answer, no medic leads, and what was read of the repairs is kept."""
        wanted = self._list_wanted()
        if wanted is None:
            self._state = MedicState()
        else:
            # from before the request, so that a slow answer is an old one; known repairs stay, for the words
            # about what was tried
            self._state = replace(self._state, is_leading=False, read_at=self._clock())
            with self._outage:
                if await self._bus.ask(self._bus.client.exists(_LEASE), WITHIN_SEC):
                    repairs = await self._read_repairs(wanted[:MAX_SERVICES])
                    self._state = replace(self._state, is_leading=True, repairs=repairs)
        self._changed(self._state)

    async def _read_repairs(self, services: Sequence[str]) -> dict[str, StoredRepair]:
        if not services:
            return {}
        names = [_FIELD + svc for svc in services]
        (found,) = await read_fields(self._bus, [MEDIC_STATE], names, MAX_REPAIR_BYTES)
        repairs: dict[str, StoredRepair] = {}
        for svc in services:
            raw = found.get((_FIELD + svc).encode())
            repair = None if raw is None else StoredRepair.parse(raw)
            if repair is not None and repair.svc == svc:
                repairs[svc] = repair
            elif raw is not None:
                report_unusable(self._bus.name, MEDIC_STATE, _FIELD + svc)
        return repairs
