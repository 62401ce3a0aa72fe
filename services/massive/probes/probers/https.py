"""Probe a page: its status and its text, within a time limit.

Each probe is a new visitor: its own connection, no cookies, no proxy, no credentials.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

from marketswarm import __version__
from marketswarm.net.addresses import is_inside, parse_address
from marketswarm.text import redact_url
from services.massive.probes.probers.context import ProbeContext
from services.massive.probes.probers.tls import make_tls_context, record_certificate
from services.massive.probes.probers.trace import ProbeError, Trace
from services.massive.probes.result import ProbeResult
from services.massive.targets import Https

PORTS: Final = {"http": 80, "https": 443}
HEADERS: Final = {
    "User-Agent": f"marketswarm-massive/{__version__}",
    "Accept": "*/*",
    # compressed bytes may unpack to any size
    "Accept-Encoding": "identity",
    "Connection": "close",
}
STAGES: Final = {
    "connection.connect_tcp.started": "tcp",
    "connection.start_tls.started": "tls",
    "http11.send_request_headers.started": "http",
}


@dataclass(slots=True)
class Visit:
    """Probe a page, over all its redirects.

    `first_address` is the first address of the target's own host, once that was looked up.
    """

    target: Https
    context: ProbeContext
    trace: Trace
    first_address: str = ""

    async def follow(self) -> None:
        """Follow at most `redirects`. Raises ProbeError, or an error of the client or the network."""
        try:
            url = httpx.URL(self.target.url)
        except httpx.InvalidURL:
            raise ProbeError("bad_name") from None
        for left in range(self.target.redirects, -1, -1):
            target_url = await self._request(url, may_redirect=left > 0)
            if target_url is None:
                return
            url = target_url
        raise ProbeError("too_many_redirects")

    async def _request(self, url: httpx.URL, *, may_redirect: bool) -> httpx.URL | None:
        """Request a page from the first address that answers.

        Return where it redirects to if that is to be followed, otherwise None. Raises ProbeError or an error
        of the client.
        """
        port = url.port or PORTS[url.scheme]
        with self.trace.step("dns"):
            addresses = await self.context.look_up(url.host, port)
        self.require_allowed_addresses(addresses)
        for at, address in enumerate(addresses, 1):
            share_sec = self.context.timeout_sec / (len(addresses) + 1) if at < len(addresses) else None
            try:
                return await self._request_at(url, address, share_sec, may_redirect=may_redirect)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if at == len(addresses):
                    raise
        raise ProbeError("unknown_name")

    async def _request_at(
        self, url: httpx.URL, address: str, connect_sec: float | None, *, may_redirect: bool
    ) -> httpx.URL | None:
        """Request a page from one address, and check the response.

        Return where it redirects to if that is to be followed, otherwise None. Raises ProbeError or an error
        of the client.
        """
        self.trace.facts["address"] = address
        encrypted = url.scheme == "https"
        transport = httpx.AsyncHTTPTransport(
            verify=make_tls_context(self.target.ca_file) if encrypted else False
        )
        async with (
            httpx.AsyncClient(
                transport=transport, timeout=httpx.Timeout(None, connect=connect_sec), trust_env=False
            ) as client,
            client.stream(
                self.target.method,
                url.copy_with(host=address),
                headers=HEADERS | {"Host": url.netloc.decode("ascii")},
                extensions={"sni_hostname": url.raw_host.decode("ascii"), "trace": self._trace},
            ) as response,
        ):
            tls = response.extensions["network_stream"].get_extra_info("ssl_object")
            if encrypted and tls is not None:
                record_certificate(tls, self.trace, self.target.warn_days, self.context.wall())
            self.trace.facts["status"] = response.status_code
            if may_redirect and response.has_redirect_location:
                return _resolve_redirect(url, response.headers["location"])
            await self._check_response(response)
        self.trace.end_step()
        return None

    async def _trace(self, event: str, _info: Any) -> None:
        if event in STAGES:
            self.trace.begin_step(STAGES[event])

    def require_allowed_addresses(self, addresses: Sequence[str]) -> None:
        """Raise ProbeError if a page outside redirects to an inside address.

        The first call records the first address of the target's own host. See `net.addresses.is_inside`.
        """
        if not self.first_address:
            self.first_address = next(iter(addresses), "")
        elif _is_outside(self.first_address) and not all(map(_is_outside, addresses)):
            raise ProbeError("redirected_inside")

    async def _check_response(self, response: httpx.Response) -> None:
        """Raise ProbeError if the status or the text of a response is not as the target wants."""
        status, right = response.status_code, self.target.status
        if status not in right if right else not response.is_success:
            raise ProbeError(f"status_{status}")
        if self.target.contains is None and self.target.lacks is None:
            return
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise ProbeError("encoded")
        body = await self._read(response)
        if self.target.contains is not None and self.target.contains.encode() not in body:
            raise ProbeError("no_match")
        if self.target.lacks is not None and self.target.lacks.encode() in body:
            raise ProbeError("unwanted_match")

    async def _read(self, response: httpx.Response) -> bytes:
        """Return the first `max_bytes` of a body, and record how many bytes were read."""
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) >= self.target.max_bytes:
                break
        del body[self.target.max_bytes :]
        self.trace.facts["bytes"] = len(body)
        return bytes(body)


async def probe(target: Https, context: ProbeContext) -> ProbeResult:
    trace = Trace(target.kind, redact_url(target.url))
    async with trace.within(context.timeout_sec):
        await Visit(target, context, trace).follow()
    return trace.result()


def _resolve_redirect(url: httpx.URL, location: str) -> httpx.URL:
    """Return the absolute URL of a redirect.

    Raises ProbeError if it is invalid, or leads from https to http.
    """
    try:
        found = url.join(location)
    except (httpx.InvalidURL, ValueError):
        raise ProbeError("bad_redirect") from None
    if found.scheme not in PORTS or not found.host or (url.scheme, found.scheme) == ("https", "http"):
        raise ProbeError("bad_redirect")
    return found


def _is_outside(address: str) -> bool:
    found = parse_address(address)
    return found is not None and not is_inside(found)
