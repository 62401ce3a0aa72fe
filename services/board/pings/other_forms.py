"""Read pings of Uptime Kuma, Gatus and Alertmanager, and answer them in their words. Pure.

/api/push/<uuid>?status=up&msg=OK&ping=          Uptime Kuma: a push monitor
POST /api/v1/endpoints/<key>/external?success=   Gatus: an external endpoint
POST /webhook/alertmanager                       Alertmanager: a webhook of version 4
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from marketswarm.operator.ping_key import is_key_text, normalize_uuid
from marketswarm.pings import PingKind
from services.board.pings.answers import NOT_FOUND, PingAnswer, RefusedPingError

KUMA_PREFIX: Final = "/api/push/"
ALERTMANAGER_PATH: Final = "/webhook/alertmanager"
MAX_KUMA_PING_MSEC: Final = 100_000_000_000
MAX_ALERTS: Final = 1_000
_GATUS_PATH: Final = re.compile(r"/api/v1/endpoints/([^/]{1,200})/external/?")
_JSON: Final = b"application/json"
_DURATION: Final = re.compile(r"([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+")
_BEARER: Final = "Bearer "

KUMA_OK: Final = PingAnswer(200, b'{"ok":true}', content_type=_JSON)
GATUS_OK: Final = PingAnswer(200, b"")


@dataclass(frozen=True, slots=True)
class FormPing:
    """What a ping of another form says: of which service, if it names one, what, and in which words."""

    kind: PingKind
    slug: str | None = None
    text: str = ""


def make_kuma_answer(answer: PingAnswer) -> PingAnswer:
    """Return an answer to a refused ping in Uptime Kuma's form."""
    reason = "Monitor not found or not active." if answer is NOT_FOUND else answer.body.decode()
    body = orjson.dumps({"ok": False, "msg": reason})
    return PingAnswer(answer.status, body, answer.retry_sec, _JSON)


def parse_kuma(fields: Mapping[str, str]) -> FormPing:
    """Return what a push says: anything but `up` is a failure; without a status, or an empty one, it is up.

    Raises RefusedPingError, with Kuma's words, for a response time out of bounds.
    """
    try:
        is_wrong = not 0 <= float(fields.get("ping") or 0) <= MAX_KUMA_PING_MSEC
    except ValueError:
        is_wrong = False  # Kuma passes over what is no number
    if is_wrong:
        raise RefusedPingError(
            PingAnswer(404, f"Invalid ping value. Must be between 0 and {MAX_KUMA_PING_MSEC} ms.".encode())
        )
    kind = PingKind.SUCCESS if (fields.get("status") or "up") == "up" else PingKind.FAIL
    said = [fields.get("msg") or "OK"]
    if fields.get("ping"):
        said.append(f"ping {fields['ping']} ms")
    return FormPing(kind, text="\n".join(said))


def find_gatus_key(path: str) -> str | None:
    """Return the key of an endpoint in a path of Gatus; None if it is none."""
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
        raise RefusedPingError(PingAnswer(401, b"invalid token"))
    return secret


def parse_alertmanager(body: bytes) -> list[FormPing]:
    """Return what the alerts of a webhook say, one for each. Raise RefusedPingError if it is none.

    The label `svc` names the service, or else `alertname`; the slug of an alert that names none, or that has
    no status, is empty. An alert that is resolved is a success.
    """
    try:
        found: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    alerts = found.get("alerts") if isinstance(found, dict) else None
    if not isinstance(alerts, list) or len(alerts) > MAX_ALERTS:
        raise RefusedPingError(PingAnswer(400, b"not a webhook of version 4: it has no list of alerts"))
    return [_parse_alert(alert) for alert in alerts]


def _parse_alert(alert: Any) -> FormPing:
    """Return what one alert says."""
    if not isinstance(alert, dict) or alert.get("status") not in ("firing", "resolved"):
        return FormPing(PingKind.LOG, "")
    labels, notes = _keep_texts(alert.get("labels")), _keep_texts(alert.get("annotations"))
    kind = PingKind.FAIL if alert["status"] == "firing" else PingKind.SUCCESS
    said = [labels.get("alertname", ""), notes.get("summary", ""), notes.get("description", "")]
    name = labels.get("svc") or labels.get("alertname") or ""
    return FormPing(kind, name.lower(), "\n".join(filter(None, said)))


def join_alerts(alerts: Sequence[FormPing]) -> FormPing:
    """Return the one ping that the alerts of a service are: a failure while one of them fires."""
    firing = [each for each in alerts if each.kind is PingKind.FAIL]
    found = firing or alerts
    return FormPing(found[0].kind, found[0].slug, "\n".join(filter(None, (each.text for each in found))))


def _keep_texts(value: Any) -> dict[str, str]:
    """Return the texts in an object; none if it is no object."""
    items = value.items() if isinstance(value, dict) else ()
    return {key: text for key, text in items if isinstance(text, str)}


def make_alertmanager_answer(taken: int, unknown: list[str]) -> PingAnswer:
    """Return the answer to a webhook: how many alerts were taken, and which names are no service."""
    body = orjson.dumps({"taken": taken, "unknown": unknown[:100]})
    return PingAnswer(200 if taken or not unknown else 404, body, content_type=_JSON)
