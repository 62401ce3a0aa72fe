"""Change the key of a log: an entry that both keys signed, from which on the new one counts."""

import time
from typing import Final

from services.signals.log.entries import make_key_statement
from services.signals.log.note import PrivateKey
from services.signals.store.database import LogMovedError, SignalDatabase
from services.signals.store.reader import AuditReader
from services.signals.store.writer import SignalWriter

_ATTEMPTS: Final = 20
"""How often to sign again because the leader added an entry meanwhile; it adds one every few seconds."""


class RotationError(ValueError):
    """The key can't be changed from this one to that one."""


async def change_key(database: SignalDatabase, old: PrivateKey, new: PrivateKey) -> int:
    """Add the entry of a key change, beside a leader that may run; return its number.

    From then on checkpoints are signed by `new` alone: whoever still has `old` signs nothing any more.

    Raises:
        RotationError: they are the same, of other logs, or `old` is not the key in force.
        LogMovedError: the leader adds entries without a pause.
    """
    if old.public.key == new.public.key:
        raise RotationError("the new key is the old one")
    if old.public.name != new.public.name:
        raise RotationError(f"the new key is of {new.public.name}, and the log is {old.public.name}")
    in_force = await AuditReader(database).read_newest_key()
    if in_force is not None and in_force != str(old.public):
        raise RotationError(f"the key in force is {in_force}")
    writer = SignalWriter(database)
    await writer.join_epoch()
    names = str(old.public), str(new.public)
    for attempt in range(1, _ATTEMPTS + 1):
        state = await writer.read_state()
        number, at_ms = state.size, max(round(1000 * time.time()), state.newest_at_ms)
        statement = make_key_statement(old.public.name, number, *names)
        lines = [each.sign(statement).rstrip("\n") for each in (old, new)]
        try:
            await writer.write_key_change(at_ms, *names, lines)
        except LogMovedError:
            if attempt == _ATTEMPTS:
                raise
        else:
            return number
    raise AssertionError("unreachable")
