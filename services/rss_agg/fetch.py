"""Fetch one feed over HTTP: a conditional request, limited in time and size, with every redirect checked.

Everything a server sends is hostile, so a header that is too long or malformed counts as not sent. Each
failure is a `FeedError` with one word.
"""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urldefrag, urljoin, urlsplit

from marketswarm.net.address_guard import AddressGuard, Resolver, resolve_by_system
from marketswarm.net.addresses import is_web_url
from marketswarm.net.http import HttpClient, HttpError, HttpResponse
from services.rss_agg.settings import ReadSettings

MAX_RETRY_AFTER_SEC: Final = 86_400.0
VALIDATOR_LENGTH: Final = 500
URL_LENGTH: Final = 2000
PERMANENT_REDIRECTS: Final = frozenset({301, 308})
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS: Final = 5
HEADERS: Final = {
    "Accept": (
        "application/atom+xml, application/rss+xml, application/rdf+xml, application/feed+json, "
        "application/xml;q=0.9, text/xml;q=0.9, application/json;q=0.8, */*;q=0.1"
    )
}


class FeedError(Exception):
    """A feed could not be read; `str()` is one word or status, such as timeout, 404 or not_a_feed.

    `retry_after_sec` is for how long the server at `host` (`host_and_port`) asked for no further request: the
    feed's own, or that of a redirect. `gone` means that the feed will not come back, by 410.
    """

    def __init__(
        self, reason: str, retry_after_sec: float | None = None, *, host: str = "", gone: bool = False
    ) -> None:
        super().__init__(reason)
        self.retry_after_sec, self.host, self.gone = retry_after_sec, host, gone


# -- headers and URLs


@dataclass(frozen=True, slots=True)
class Validators:
    """Hold the ETag and Last-Modified of a response for the next request; empty if it had none."""

    etag: str = ""
    modified: str = ""

    def to_headers(self) -> dict[str, str]:
        both = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {name: value for name, value in both.items() if value}


NO_VALIDATORS: Final = Validators()


def read_validators(headers: Mapping[str, str]) -> Validators:
    return Validators(_usable_value(headers.get("etag")), _usable_value(headers.get("last-modified")))


def _usable_value(value: str | None) -> str:
    """Strip a header's value; return an empty text if it is missing, too long, or not printable ASCII."""
    usable = value and len(value) <= VALIDATOR_LENGTH and value.isascii() and value.isprintable()
    return value.strip() if value and usable else ""


def resolve_redirect(url: str, location: str) -> str | None:
    """Return the absolute URL that a redirect from `url` points to; None if it is not usable."""
    try:
        target = urldefrag(urljoin(url, location.strip())).url
        # the server's would be sent by us to a host of its choice; our own stay with a relative redirect
        has_credentials = "@" in urlsplit(location.strip()).netloc
    except ValueError:
        return None
    if has_credentials or not is_web_url(target) or len(target) > URL_LENGTH or not target.isprintable():
        return None
    return target


def make_base_url(url: str, *, is_secret: bool) -> str:
    """Return the URL against which the relative links of a document at `url` are resolved.

    It is without what must not be published: user and password, and all but the host if the URL is secret.
    """
    parts = urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    return (bare._replace(path="/", query="", fragment="") if is_secret else bare).geturl()


def host_and_port(url: str) -> str:
    """Return `host:port` of a URL, by which requests to one host are limited; empty for an invalid URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return f"{(parts.hostname or '').rstrip('.')}:{port}" if parts.hostname else ""
    except ValueError:
        return ""


def hash_url(url: str) -> str:
    """Return a hash to store and compare, because the URL itself may be a secret."""
    return hashlib.sha256(url.encode("utf-8", "replace")).hexdigest()[:24]


# -- fetching


@dataclass(frozen=True, slots=True)
class FeedResponse:
    """Hold a feed's document, found at `url`; `body` is None if it has not changed.

    `moved_to` is where the feed has permanently moved to, empty if the truth's URL holds.
    """

    body: bytes | None
    content_type: str
    url: str
    moved_to: str
    validators: Validators


class Fetcher:
    """Fetch feeds with one HTTP client for all."""

    def __init__(self, resolve: Resolver = resolve_by_system) -> None:
        self._guard = AddressGuard(resolve)
        self._http = HttpClient(
            "rss_agg", headers=HEADERS, encodings="gzip, br", by_proxy=False, guard=self._guard
        )

    async def aclose(self) -> None:
        await self._http.aclose()

    async def fetch(
        self,
        own_url: str,
        settings: ReadSettings,
        *,
        moved_to: str = "",
        validators: Validators = NO_VALIDATORS,
        validators_of: str = "",
    ) -> FeedResponse:
        """Return the feed's document within `timeout_sec`, after at most MAX_REDIRECTS. Raises FeedError.

        Args:
            own_url: the feed's URL in the truth.
            moved_to: the URL that it has permanently moved to, or empty. That of the response changes only by
                redirects that are all permanent.
            validators: sent only to the URL whose hash (`hash_url`) is `validators_of`.
        """
        self._guard.allowances = settings.allowances
        until = time.monotonic() + settings.timeout_sec
        url, permanent, is_own = moved_to or own_url, True, not moved_to
        for _ in range(MAX_REDIRECTS + 1):
            sent = validators if validators_of == hash_url(url) else NO_VALIDATORS
            try:
                answer = await self._http.fetch(
                    "GET",
                    url,
                    within_sec=until - time.monotonic(),
                    max_bytes=settings.max_bytes,
                    headers=sent.to_headers(),
                    body_of={200},
                    own_url=own_url,
                )
            except HttpError as error:
                raise FeedError(error.reason) from None
            if answer.status not in REDIRECTS:
                return _make_response(answer, url, moved_to, sent, may_be_gone=is_own and permanent)
            permanent = permanent and answer.status in PERMANENT_REDIRECTS
            target = resolve_redirect(url, answer.headers.get("location", ""))
            if target is None:
                raise FeedError("bad_redirect")
            url, moved_to = target, target if permanent else moved_to
        raise FeedError("too_many_redirects")


def _make_response(
    answer: HttpResponse, url: str, moved_to: str, validators: Validators, *, may_be_gone: bool
) -> FeedResponse:
    """Return the document that was found at `url`. Raises FeedError for a status that has none.

    `may_be_gone` is False where 410 is final for that address alone: after a redirect that is not permanent,
    and at one to which the feed has moved, which is forgotten after some failures.
    """
    if answer.status == 304 and validators != NO_VALIDATORS:
        return FeedResponse(None, "", url, moved_to, validators)
    if answer.status != 200:
        raise FeedError(
            str(answer.status),
            answer.find_retry_after(MAX_RETRY_AFTER_SEC),
            host=host_and_port(url),
            gone=may_be_gone and answer.status == 410,
        )
    content_type = answer.headers.get("content-type", "")[:200]
    return FeedResponse(answer.body, content_type, url, moved_to, read_validators(answer.headers))
