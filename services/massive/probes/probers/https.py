"""Probe a page: the right status, the right text in it, in time.

Each probe is a new visitor: its own connection, no cookies, no proxy, no credentials.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from marketswarm import __version__
from marketswarm.net.addresses import is_inside
from services.massive.probes.probers.context import ProbeContext
from services.massive.probes.probers.tls import look_at, trusting
from services.massive.probes.probers.trace import ProbeError, Trace
from services.massive.probes.result import Result
from services.massive.probes.targets import Https

PORTS: Final = {"http": 80, "https": 443}
HEADERS: Final = {
    "User-Agent": f"marketswarm-massive/{__version__}",
    "Accept": "*/*",
    # what is packed may unpack to anything
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
    """One probe of a page in progress, over all its redirects.

    `first` is the address of the target itself.
    """

    target: Https
    means: ProbeContext
    trace: Trace
    first: str = ""  # the address that the target itself has

    async def follow(self) -> None:
        """Request the page, and follow redirects as far as that is allowed. Raises what is wrong."""
        try:
            url = httpx.URL(self.target.url)
        except httpx.InvalidURL:
            raise ProbeError("bad_name") from None
        for left in range(self.target.redirects, -1, -1):
            sent_to = await self._ask(url, may_go_on=left > 0)
            if sent_to is None:
                return
            url = sent_to
        raise ProbeError("too_many_redirects")

    async def _ask(self, url: httpx.URL, *, may_go_on: bool) -> httpx.URL | None:
        port = url.port or PORTS[url.scheme]
        with self.trace.step("dns"):
            addresses = await self.means.look_up(url.host, port)
        self.may_be_visited(addresses)
        for at, address in enumerate(addresses, 1):
            share_sec = self.means.within_sec / (len(addresses) + 1) if at < len(addresses) else None
            try:
                return await self._ask_at(url, address, share_sec, may_go_on=may_go_on)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if at == len(addresses):
                    raise
        raise ProbeError("unknown_name")

    async def _ask_at(
        self, url: httpx.URL, address: str, connect_sec: float | None, *, may_go_on: bool
    ) -> httpx.URL | None:
        self.trace.facts["address"] = address
        encrypted = url.scheme == "https"
        transport = httpx.AsyncHTTPTransport(verify=trusting(self.target.ca_file) if encrypted else False)
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
            if encrypted:
                self._look_at_certificate(response)
            self.trace.facts["status"] = response.status_code
            if may_go_on and response.has_redirect_location:
                return _next(url, response.headers["location"])
            await self._judge(response)
        self.trace.leave()
        return None

    async def _trace(self, event: str, _info: Any) -> None:
        if event in STAGES:
            self.trace.enter(STAGES[event])

    def _look_at_certificate(self, response: httpx.Response) -> None:
        tls = response.extensions["network_stream"].get_extra_info("ssl_object")
        if tls is not None:
            look_at(tls, self.trace, self.target.warn_days, self.means.wall())

    def may_be_visited(self, addresses: Sequence[str]) -> None:
        """Raise ProbeError if a page outside redirects to an address inside."""
        if not self.first:
            self.first = next(iter(addresses), "")
        elif _outside(self.first) and not all(map(_outside, addresses)):
            raise ProbeError("redirected_inside")

    async def _judge(self, response: httpx.Response) -> None:
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
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) >= self.target.max_bytes:
                break
        del body[self.target.max_bytes :]
        self.trace.facts["bytes"] = len(body)
        return bytes(body)


async def probe(target: Https, means: ProbeContext) -> Result:
    """Return whether the page is as it should be."""
    trace = Trace(target.kind, shown(target.url))
    async with trace.within(means.within_sec):
        await Visit(target, means, trace).follow()
    return trace.result()


def shown(url: str) -> str:
    """Return a URL without the parts that may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _next(url: httpx.URL, location: str) -> httpx.URL:
    try:
        found = url.join(location)
    except (httpx.InvalidURL, ValueError):
        raise ProbeError("bad_redirect") from None
    if found.scheme not in PORTS or not found.host or (url.scheme, found.scheme) == ("https", "http"):
        raise ProbeError("bad_redirect")
    return found


def _outside(address: str) -> bool:
    try:
        return not is_inside(ipaddress.ip_address(address))
    except ValueError:
        return False
