"""What an answer says beside its body: when to come again, what to ask with next time, where to. Pure.

Everything a server says is hostile: what is too long or malformed was not said.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urldefrag, urljoin, urlsplit

LONGEST_RETRY_SEC: Final = 86_400.0
VALIDATOR_LENGTH: Final = 500
URL_LENGTH: Final = 2000
PERMANENT: Final = frozenset({301, 308})
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
BUSY: Final = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class Validators:
    """What a conditional request shows; empty: it is not one."""

    etag: str = ""
    modified: str = ""

    def headers(self) -> dict[str, str]:
        """The headers of a request that wants an answer only if there is something new."""
        both = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {name: value for name, value in both.items() if value}


NO_VALIDATORS: Final = Validators()


def validators(headers: Mapping[str, str]) -> Validators:
    """What to ask with the next time."""
    return Validators(_kept(headers.get("etag")), _kept(headers.get("last-modified")))


def _kept(value: str | None) -> str:
    good = value and len(value) <= VALIDATOR_LENGTH and value.isascii() and value.isprintable()
    return value.strip() if value and good else ""


def retry_after_sec(headers: Mapping[str, str], now: float) -> float | None:
    """For how long, in seconds, the server wants to be left alone: a day at most; None when it does not say.

    `now` is in epoch seconds; the server may give a date instead of a number.
    """
    said = headers.get("retry-after", "").strip()[:50]
    if said.isascii() and said.isdigit():
        return min(float(said), LONGEST_RETRY_SEC)
    try:
        when = parsedate_to_datetime(said)
        at = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return max(0.0, min(at - now, LONGEST_RETRY_SEC))


def target(url: str, location: str) -> str | None:
    """Where a redirect from `url` leads; None when that is no web address."""
    try:
        found = urldefrag(urljoin(url, location.strip())).url
        parts = urlsplit(found)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    # a redirect that brings credentials along would have us show them to whom it likes
    good = good and len(found) <= URL_LENGTH and "@" not in parts.netloc
    return found if good and found.isprintable() else None


def origin(url: str) -> str:
    """`host:port` of a URL: whom a reading bothers; empty for what is no URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return f"{(parts.hostname or '').rstrip('.')}:{port}" if parts.hostname else ""
    except ValueError:
        return ""


def shown(url: str) -> str:
    """A URL fit for a log line: without credentials, query and fragment."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "?"
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"[:200]


def mark(url: str) -> str:
    """A URL that may hold a secret, as something to be stored and compared."""
    return hashlib.sha256(url.encode("utf-8", "replace")).hexdigest()[:24]
