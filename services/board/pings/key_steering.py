"""Make and revoke ping keys for clients with a token, and list them without their secrets.

What a key is, and where it is kept, is `marketswarm/operator/tokens.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

from marketswarm.bus import Bus
from marketswarm.operator.audit import Act, Action, AuditOutcome
from marketswarm.operator.fields import Name
from marketswarm.operator.tokens import (
    MAX_PING_KEYS,
    PingKey,
    Scope,
    create_ping_key,
    read_ping_keys,
    revoke_ping_key,
    write_ping_key,
)
from marketswarm.truth import Truth, describe_unknown
from marketswarm.web.audit import AuditLog
from marketswarm.web.limits import RefusedError, refuse_without_bus
from marketswarm.web.tokens import Client
from services.board.actions.steering import Line, VerbBody
from services.board.pings.directory import NOT_PINGED

MAX_LIFE_SEC: Final = 10 * 366 * 86_400.0
"""The longest life of a key that has an end, in seconds."""


class PingKeyBody(VerbBody):
    """A new ping key: what it is for, its service (None: every service), and its life in seconds.

    `author` is by default the token's name.
    """

    name: Line
    svc: Name | None = None
    for_sec: Annotated[float, Field(gt=0, le=MAX_LIFE_SEC, allow_inf_nan=False)] | None = None
    author: Line | None = None


@dataclass(frozen=True, slots=True)
class KeySteering:
    """Change the ping keys on the bus that `get_bus` returns; each change is in the audit log first.

    `may_add_services` says whether a ping with a key for every service can add one to the truth.
    """

    get_bus: Callable[[], Bus]
    audit: AuditLog
    get_truth: Callable[[], Truth]
    may_add_services: Callable[[], bool]

    def list_services(self) -> list[str]:
        """Return the services that can be pinged, by name."""
        return sorted({watch.svc for watch in self.get_truth().watched()} - NOT_PINGED)

    async def read(self) -> list[PingKey]:
        """Return all keys, the newest first. Raises RefusedError if their bus does not answer."""
        with refuse_without_bus("keeps the ping keys"):
            found = await read_ping_keys(self.get_bus())
        return sorted(found, key=lambda key: key.created_at, reverse=True)

    async def create(self, client: Client, body: PingKeyBody, now: float) -> tuple[PingKey, str]:
        """Write a new key at `now` (epoch seconds); return it, and its secret, which is kept nowhere.

        Raises RefusedError.
        """
        self._require_right(client, body.svc)
        author = body.author or client.name
        key, secret = create_ping_key(body.name, body.svc, author=author, now=now, for_sec=body.for_sec)
        act = Act(Action.CREATE_KEY, key.id, client.token, client.address, _describe(key))
        async with self.audit.around(act):
            is_written = await write_ping_key(self.get_bus(), key)
        if not is_written:
            await self.audit.end(act, AuditOutcome.FAILED, "too many")
            raise RefusedError(409, f"there are {MAX_PING_KEYS} ping keys already: delete some")
        await self.audit.end(act, AuditOutcome.DONE)
        return key, secret

    async def revoke(self, client: Client, ident: str) -> PingKey:
        """Delete a key, whose pings are refused from then on; return it. Raises RefusedError."""
        key = next((each for each in await self.read() if each.id == ident), None)
        if key is None:
            raise RefusedError(404, "there is no such key, or not any more")
        act = Act(Action.REVOKE_KEY, key.id, client.token, client.address, _describe(key))
        async with self.audit.around(act):
            await revoke_ping_key(self.get_bus(), ident)
        await self.audit.end(act, AuditOutcome.DONE)
        return key

    def _require_right(self, client: Client, svc: str | None) -> None:
        scopes = () if client.token is None else client.token.scopes
        if svc is None and self.may_add_services() and Scope.SEED not in scopes:
            reason = "a ping with a key for every service can add one to the truth: the token lacks the scope"
            raise RefusedError(403, f"{reason} {Scope.SEED}")
        if svc in NOT_PINGED:
            raise RefusedError(422, f"{svc} can't be pinged: a key must not hide that monitoring has ended")
        known = self.list_services()
        if svc is not None and svc not in known:
            raise RefusedError(422, describe_unknown(svc, known))


def _describe(key: PingKey) -> str:
    return f"{key.name}, for {key.svc or 'every service'} ({key.author})"
