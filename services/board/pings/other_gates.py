"""Take pings of Uptime Kuma, Gatus and Alertmanager: parse them, find their service, write them, answer."""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.types import Receive, Scope

from marketswarm import log as logs
from marketswarm.bus.stored_values import get_object, parse_object
from marketswarm.operator.tokens import is_key_text, normalize_uuid
from marketswarm.pings import JobPing, PingForm, PingKind
from marketswarm.tasks import gather_all
from marketswarm.text import extract_line
from marketswarm.truth import Watch
from marketswarm.web.limits import RateLimiter
from marketswarm.web.tokens import find_address
from services.board.pings.answers import AMBIGUOUS, BAD_METHOD, NOT_FOUND, PingAnswer, RefusedPingError
from services.board.pings.desk import PingDesk
from services.board.pings.key_ring import KnownKey
from services.board.pings.requests import (
    MAX_BYTES,
    announces_body,
    cut_body,
    find_header,
    make_ping,
    parse_query,
    read_body,
)

KUMA_PREFIX: Final = "/api/push/"
ALERTMANAGER_PATH: Final = "/webhook/alertmanager"
MAX_KUMA_PING_MSEC: Final = 100_000_000_000
MAX_ALERTS: Final = 1_000
ALERTS_NAMED: Final = 5  # how many of those that fire the first line of a ping names
_GATUS_PATH: Final = re.compile(r"/api/v1/endpoints/([^/]{1,200})/external/?")
_JSON: Final = b"application/json"
_DURATION: Final = re.compile(r"([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+")
_BEARER: Final = "Bearer "
NAMES_LOGGED: Final = 10  # how many unknown names a line of the log has
MAX_NAME_CHARS: Final = 100
_INVALID_TOKEN: Final = PingAnswer(401, b"invalid token")
log = logs.get("board")


@dataclass(frozen=True, slots=True)
class FormPing:
    """What a ping of another form says: its kind, the slug of its service if it names one, and its text."""

    kind: PingKind
    slug: str | None = None
    text: str = ""


def parse_kuma(fields: Mapping[str, str]) -> FormPing:
    """Return what a push says: anything but `up` is a failure; without a status, or an empty one, it is up.

    Raises RefusedPingError, with Kuma's words, for a response time out of bounds.
    """
    try:
        is_wrong = not 0 <= float(fields.get("ping") or 0) <= MAX_KUMA_PING_MSEC
    except ValueError:
        is_wrong = False  # Kuma ignores what is not a number
    if is_wrong:
        raise RefusedPingError(
            PingAnswer(404, f"Invalid ping value. Must be between 0 and {MAX_KUMA_PING_MSEC} ms.".encode())
        )
    kind = PingKind.SUCCESS if (fields.get("status") or "up") == "up" else PingKind.FAIL
    said = [fields.get("msg") or ("OK" if kind is PingKind.SUCCESS else "")]
    if fields.get("ping"):
        said.append(f"ping {fields['ping']} ms")
    return FormPing(kind, text="\n".join(filter(None, said)))


def find_gatus_key(path: str) -> str | None:
    match = _GATUS_PATH.fullmatch(path)
    return None if match is None else match[1]


def parse_gatus(fields: Mapping[str, str]) -> FormPing:
    """Return what a result says. Raise RefusedPingError, with Gatus' words, if it says nothing."""
    success = fields.get("success")
    if success not in ("true", "false"):
        raise RefusedPingError(PingAnswer(400, b"missing or invalid success query parameter"))
    duration = fields.get("duration", "")
    if duration and _DURATION.fullmatch(duration) is None:
        raise RefusedPingError(PingAnswer(400, b"invalid duration"))
    said = [fields.get("error", ""), f"duration {duration}" if duration else ""]
    kind = PingKind.SUCCESS if success == "true" else PingKind.FAIL
    return FormPing(kind, text="\n".join(filter(None, said)))


def list_gatus_slugs(key: str) -> list[str]:
    """Return the slugs that a key of Gatus may mean: all of it, or what follows its group (`<group>_`)."""
    key = key.lower()
    _, _, rest = key.partition("_")
    return [key, rest] if rest else [key]


def parse_bearer(header: str) -> str:
    """Return the secret in a header `Authorization`. Raise RefusedPingError, with Gatus' words."""
    if not header.startswith(_BEARER):
        raise RefusedPingError(PingAnswer(401, b"invalid Authorization header"))
    text = header.removeprefix(_BEARER).strip()
    if not text:
        raise RefusedPingError(PingAnswer(401, b"bearer token must not be empty"))
    secret = text if is_key_text(text) else normalize_uuid(text)
    if secret is None:
        raise RefusedPingError(_INVALID_TOKEN)
    return secret


def parse_alertmanager(body: bytes) -> list[FormPing]:
    """Return what the alerts of a webhook say, one for each. Raise RefusedPingError for another body.

    The label `svc` names the service, or `alertname` if `svc` is missing. The slug is empty if both are, or
    the status. An alert that is resolved is a success.
    """
    alerts = parse_object(body).get("alerts")
    if not isinstance(alerts, list) or len(alerts) > MAX_ALERTS:
        raise RefusedPingError(PingAnswer(400, b"not a webhook of version 4: it has no list of alerts"))
    return [_parse_alert(alert) for alert in alerts]


def _parse_alert(alert: Any) -> FormPing:
    if not isinstance(alert, dict) or alert.get("status") not in ("firing", "resolved"):
        return FormPing(PingKind.LOG, "")
    labels, notes = _keep_texts(alert.get("labels")), _keep_texts(alert.get("annotations"))
    kind = PingKind.FAIL if alert["status"] == "firing" else PingKind.SUCCESS
    name, svc = labels.get("alertname", ""), labels.get("svc", "")
    notes_said = [notes.get(key, "").strip() for key in ("summary", "message", "description")]
    first, *more = [*filter(None, notes_said), ""]
    text = "\n".join(filter(None, (": ".join(filter(None, (name, first))), *more)))
    return FormPing(kind, (svc or name).lower(), text)


def join_alerts(alerts: Sequence[FormPing]) -> FormPing:
    """Return one ping for the alerts of a service: a failure while one of them fires.

    Of several that fire, the first line of its text has their number and what the first of them say.
    """
    firing = [each for each in alerts if each.kind is PingKind.FAIL]
    found = firing or alerts
    texts = [each.text for each in found if each.text]
    if len(firing) > 1:
        heads = [*dict.fromkeys(extract_line(text) or "" for text in texts)][:ALERTS_NAMED]
        texts.insert(0, f"{len(firing)} alerts: {'; '.join(heads)}")
    return FormPing(found[0].kind, found[0].slug, "\n".join(texts))


def _keep_texts(value: Any) -> dict[str, str]:
    return {key: text for key, text in get_object(value).items() if isinstance(text, str)}


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
            to = await self._desk.find_destination(secret, None, find_address(scope))
            said = parse_kuma(parse_query(scope["query_string"]))
            await self._desk.take(_make_ping(scope, said, PingForm.KUMA), to)
        except RefusedPingError as refused:
            answer = refused.answer
            reason = "Monitor not found or not active." if answer is NOT_FOUND else answer.body.decode()
            body = orjson.dumps({"ok": False, "msg": reason})
            return PingAnswer(answer.status, body, answer.retry_sec, _JSON)
        return PingAnswer(200, b'{"ok":true}', content_type=_JSON)

    async def answer_gatus(self, scope: Scope, receive: Receive) -> PingAnswer:
        if scope["method"] != "POST":
            raise RefusedPingError(BAD_METHOD)
        said = parse_gatus(parse_query(scope["query_string"]))
        secret = parse_bearer(find_header(scope["headers"], b"authorization"))
        if announces_body(scope["headers"]):
            await read_body(receive, 0)
        key = await self._check_secret(secret, scope)
        for slug in list_gatus_slugs(find_gatus_key(scope["path"]) or ""):
            try:
                to = self._desk.find_by_key(key, slug)
            except RefusedPingError as refused:
                if refused.answer is not NOT_FOUND:
                    raise
            else:
                await self._desk.take(_make_ping(scope, said, PingForm.GATUS), to)
                return PingAnswer(200, b"")
        raise RefusedPingError(NOT_FOUND)

    async def answer_alertmanager(self, scope: Scope, receive: Receive) -> PingAnswer:
        """Answer a webhook of Alertmanager: the alerts of a service are one ping. Raises RefusedPingError.

        Alerts without a known service are left out. If one of the pings is not taken, the whole webhook is
        refused, and Alertmanager sends it again.
        """
        if scope["method"] != "POST":
            raise RefusedPingError(BAD_METHOD)
        secret = parse_bearer(find_header(scope["headers"], b"authorization"))
        await self._check_secret(secret, scope)
        body = await read_body(receive, MAX_BYTES)
        key = await self._check_secret(secret, scope)  # it may have been revoked meanwhile
        found: dict[Watch, list[FormPing]] = {}
        unknown: list[str] = []
        for said in parse_alertmanager(body):
            try:
                found.setdefault(self._desk.find_by_key(key, said.slug or ""), []).append(said)
            except RefusedPingError as refused:
                if refused.answer not in (NOT_FOUND, AMBIGUOUS):
                    raise
                unknown.append(said.slug or "")
        self._log_unknown(unknown, find_address(scope))
        takes = (
            self._desk.take(_make_ping(scope, join_alerts(alerts), PingForm.ALERTMANAGER), to)
            for to, alerts in found.items()
        )
        await gather_all(takes)
        answer = orjson.dumps({"taken": sum(map(len, found.values())), "unknown": unknown[:100]})
        return PingAnswer(200 if found or not unknown else 404, answer, content_type=_JSON)

    def _log_unknown(self, names: Iterable[str], client: str) -> None:
        """Log the names in a webhook that are unknown: each name once a day, because webhooks come again."""
        now = time.monotonic()
        new = [name for name in dict.fromkeys(names) if not self._unknown.take(name, now)]
        if new:
            shown = [name[:MAX_NAME_CHARS] for name in new[:NAMES_LOGGED]]
            log.warning("board.alerts_unknown", names=shown, client=client)

    async def _check_secret(self, secret: str, scope: Scope) -> KnownKey:
        """Return the key of a secret. Raise RefusedPingError, with Gatus' words, if it is not known."""
        try:
            return await self._desk.check_secret(secret, find_address(scope))
        except RefusedPingError as refused:
            raise RefusedPingError(
                _INVALID_TOKEN if refused.answer is NOT_FOUND else refused.answer
            ) from None


def _make_ping(scope: Scope, said: FormPing, form: PingForm) -> JobPing:
    """Return the ping that a request says; its text is the ping's body."""
    return make_ping(scope, said.kind, cut_body(said.text.encode("utf-8", "replace")), form=form)
