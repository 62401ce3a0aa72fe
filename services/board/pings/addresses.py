"""Parse the addresses of pings, as Healthchecks' clients write them. Pure.

/ping/<uuid>              /ping/<uuid>/start  /fail  /log  /<exit code>
/ping/<ping key>/<slug>   and the same behind it
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl

from marketswarm.beat import MAX_EXIT_CODE
from marketswarm.operator.ping_key import is_key_text, normalize_uuid
from marketswarm.pings import PingKind
from services.board.pings.answers import BAD_URL, BAD_UUID, NOT_FOUND, RefusedPingError

PREFIX: Final = "/ping/"
_KINDS: Final = {"start": PingKind.START, "fail": PingKind.FAIL, "log": PingKind.LOG}
_SLUG: Final = re.compile(r"[a-z0-9._-]{1,100}", re.ASCII)
_CODE: Final = re.compile(r"\d{1,9}", re.ASCII)
_UUID_TEXT: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
MAX_QUERY_FIELDS: Final = 1_000
"""The fields of a query that are read, as by Uptime Kuma; further ones are left out."""


@dataclass(frozen=True, slots=True)
class PingAddress:
    """What the address of a ping says.

    `secret` is a UUID in its normal form, or a key for every service; then `slug` names the service.
    """

    secret: str
    slug: str | None
    kind: PingKind = PingKind.SUCCESS
    exit_code: int | None = None


@lru_cache(maxsize=1024)
def parse_ping_path(path: str) -> PingAddress:
    """Return what a path that begins with `/ping/` says. Raise RefusedPingError if it is none of a ping.

    A job pings the same path again and again, so the last thousand that were paths of pings are kept.
    """
    first, *rest = path.removeprefix(PREFIX).split("/")
    secret = normalize_uuid(first) if _UUID_TEXT.fullmatch(first) else None
    if secret is not None:
        return _add_ending(secret, None, [] if rest == [""] else rest)
    if not rest or _SLUG.fullmatch(rest[0].lower()) is None or rest[0] != rest[0].lower():
        raise RefusedPingError(BAD_URL)
    if not is_key_text(first):
        raise RefusedPingError(NOT_FOUND)
    return _add_ending(first, rest[0], rest[1:])


def _add_ending(secret: str, slug: str | None, ending: list[str]) -> PingAddress:
    """Return an address with what stands behind its secret and slug. Raise RefusedPingError."""
    if not ending:
        return PingAddress(secret, slug)
    if len(ending) > 1:
        raise RefusedPingError(BAD_URL)
    kind = _KINDS.get(ending[0])
    if kind is not None:
        return PingAddress(secret, slug, kind)
    if _CODE.fullmatch(ending[0]) is None or int(ending[0]) > MAX_EXIT_CODE:
        raise RefusedPingError(BAD_URL)
    code = int(ending[0])
    return PingAddress(secret, slug, PingKind.FAIL if code else PingKind.SUCCESS, code)


def parse_query(query: bytes) -> dict[str, str]:
    """Return the fields of a query; of two with one name, the last."""
    return dict(list_fields(query)) if query else {}


def list_fields(query: bytes) -> list[tuple[str, str]]:
    """Return the names and values of a query."""
    read = b"&".join(query.split(b"&", MAX_QUERY_FIELDS)[:MAX_QUERY_FIELDS])
    return parse_qsl(read.decode("latin-1"), keep_blank_values=True)


def parse_run_id(fields: dict[str, str]) -> str | None:
    """Return the id of the run (`rid`) in a query; None without one. Raise RefusedPingError for no UUID."""
    text = fields.get("rid")
    if text is None:
        return None
    if _UUID_TEXT.fullmatch(text) is None:
        raise RefusedPingError(BAD_UUID)
    return text.lower()
