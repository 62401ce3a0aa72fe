"""Take pings of Uptime Kuma, Gatus and Alertmanager: find their service, write them, answer."""

import asyncio
import time
from collections.abc import Iterable
from typing import Final

from starlette.types import Receive, Scope

from marketswarm import log as logs
from marketswarm.operator.ping_key import normalize_uuid
from marketswarm.pings import MAX_BODY_BYTES, JobPing, PingForm
from services.board.pings.addresses import parse_query
from services.board.pings.answers import AMBIGUOUS, BAD_METHOD, NOT_FOUND, PingAnswer, RefusedPingError
from services.board.pings.bodies import MAX_BYTES, announces_body, find_header, read_body
from services.board.pings.desk import PingDesk
from services.board.pings.directory import PingDestination
from services.board.pings.other_forms import (
    GATUS_OK,
    KUMA_OK,
    KUMA_PREFIX,
    FormPing,
    find_gatus_key,
    join_alerts,
    list_gatus_slugs,
    make_alertmanager_answer,
    make_kuma_answer,
    parse_alertmanager,
    parse_bearer,
    parse_gatus,
    parse_kuma,
)
from services.board.rate_limit import RateLimiter

NAMES_LOGGED: Final = 10
"""How many names that are no service a line of the log has."""
MAX_NAME_CHARS: Final = 100
_INVALID_TOKEN: Final = PingAnswer(401, b"invalid token")

log = logs.get("board")


class OtherGates:
    """Answers the requests of other monitors' clients."""

    def __init__(self, desk: PingDesk) -> None:
        self._desk = desk
        self._unknown = RateLimiter(1, 1 / 86_400)

    async def answer_kuma(self, scope: Scope, _receive: Receive) -> PingAnswer:
        """Answer a push of Uptime Kuma, by any method; the key in its path is that of one service."""
        try:
            secret = normalize_uuid(scope["path"].removeprefix(KUMA_PREFIX).removesuffix("/"))
            if secret is None:
                raise RefusedPingError(NOT_FOUND)  # noqa: TRY301 - answered in Kuma's form below
            to = self._desk.find_destination(secret, None, find_client(scope))
            said = parse_kuma(parse_query(scope["query_string"]))
            await self._desk.take(make_ping(scope, said, PingForm.KUMA), to)
        except RefusedPingError as refused:
            return make_kuma_answer(refused.answer)
        return KUMA_OK

    async def answer_gatus(self, scope: Scope, receive: Receive) -> PingAnswer:
        """Answer a result of an external endpoint of Gatus. Raises RefusedPingError."""
        if scope["method"] != "POST":
            raise RefusedPingError(BAD_METHOD)
        said = parse_gatus(parse_query(scope["query_string"]))
        secret = parse_bearer(find_header(scope["headers"], b"authorization"))
        if announces_body(scope["headers"]):
            await read_body(receive, 0)
        to = self._find_by_slugs(secret, list_gatus_slugs(find_gatus_key(scope["path"]) or ""), scope)
        await self._desk.take(make_ping(scope, said, PingForm.GATUS), to)
        return GATUS_OK

    async def answer_alertmanager(self, scope: Scope, receive: Receive) -> PingAnswer:
        """Answer a webhook of Alertmanager: the alerts of a service are one ping. Raises RefusedPingError.

        Alerts that name no service are left out. If one of the pings is not taken, the whole webhook is
        refused, and Alertmanager sends it again.
        """
        if scope["method"] != "POST":
            raise RefusedPingError(BAD_METHOD)
        secret = parse_bearer(find_header(scope["headers"], b"authorization"))
        self._check_secret(secret, scope)
        body, _ = await read_body(receive, MAX_BYTES)
        found: dict[PingDestination, list[FormPing]] = {}
        unknown: list[str] = []
        for said in parse_alertmanager(body):
            try:
                found.setdefault(self._desk.find_allowed(secret, said.slug or ""), []).append(said)
            except RefusedPingError as refused:
                if refused.answer not in (NOT_FOUND, AMBIGUOUS):
                    raise
                unknown.append(said.slug or "")
        self._log_unknown(unknown, find_client(scope))
        takes = (
            self._desk.take(make_ping(scope, join_alerts(alerts), PingForm.ALERTMANAGER), to)
            for to, alerts in found.items()
        )
        for outcome in await asyncio.gather(*takes, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        return make_alertmanager_answer(sum(map(len, found.values())), unknown)

    def _log_unknown(self, names: Iterable[str], client: str) -> None:
        """Log which names in a webhook are no service: each name once a day, for webhooks come again."""
        now = time.monotonic()
        new = [name for name in dict.fromkeys(names) if not self._unknown.take(name, now)]
        if new:
            shown = [name[:MAX_NAME_CHARS] for name in new[:NAMES_LOGGED]]
            log.warning("board.alerts_unknown", names=shown, client=client)

    def _check_secret(self, secret: str, scope: Scope) -> None:
        """Raise RefusedPingError, with Gatus' words, if a secret is not known."""
        try:
            self._desk.check_secret(secret, find_client(scope))
        except RefusedPingError as refused:
            raise RefusedPingError(
                _INVALID_TOKEN if refused.answer is NOT_FOUND else refused.answer
            ) from None

    def _find_by_slugs(self, secret: str, slugs: list[str], scope: Scope) -> PingDestination:
        """Return the first service that a slug names and the secret allows. Raises RefusedPingError."""
        self._check_secret(secret, scope)
        for slug in slugs:
            try:
                return self._desk.find_allowed(secret, slug)
            except RefusedPingError as refused:
                if refused.answer is not NOT_FOUND:
                    raise
        raise RefusedPingError(NOT_FOUND)


def make_ping(scope: Scope, said: FormPing, form: PingForm) -> JobPing:
    """Return the ping that a request says; its text is the ping's body."""
    body = said.text.encode("utf-8", "replace")
    return JobPing(
        kind=said.kind,
        ts=time.time(),
        form=form,
        method=scope["method"],
        client=find_client(scope),
        user_agent=find_header(scope["headers"], b"user-agent"),
        body=body[:MAX_BODY_BYTES],
        size=len(body),
    )


def find_client(scope: Scope) -> str:
    """Return the address of a request's client; empty if it is not known."""
    return str(scope["client"][0]) if scope.get("client") else ""
