"""Probe a name: which name server answers, with what, how fast.

The servers are asked one after the other until one knows; that there is no such name is an answer, too. The
hosts file and the search list of this machine are not used here.
"""

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections.abc import Sequence

import dns.asyncbackend
import dns.asyncquery
import dns.exception
import dns.inet
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.reversename

from services.massive.probes.probers.context import ProbeContext
from services.massive.probes.probers.trace import ProbeError, Trace, error_word
from services.massive.probes.result import Result
from services.massive.probes.targets import Dns, place_of

PORT = 53
PAYLOAD = 1232
"""What a datagram may hold without being cut to pieces on its way; what is longer comes over TCP."""
SHOWN = 8


async def probe(target: Dns, means: ProbeContext) -> Result:
    """Return whether the name is known, and whether the expected values are among the answers."""
    trace = Trace(target.kind, f"{target.record} {target.host}")
    async with trace.within(means.within_sec):
        question = _question(target)
        servers = _servers(target.resolvers or means.resolvers)
        with trace.step("dns"):
            answer = await _asked(question, servers, means.within_sec, trace)
        found = _texts(answer, question.question[0].rdtype)
        trace.facts["answers"] = ", ".join(found[:SHOWN])
        if not found:
            raise ProbeError("no_answer")
        if not {_plain(text) for text in target.expect} <= set(found):
            raise ProbeError("unexpected")
    return trace.result()


def _question(target: Dns) -> dns.message.QueryMessage:
    try:
        if target.record == "PTR" and (address := _address(target.host)):
            name = dns.reversename.from_address(address)
        else:
            name = dns.name.from_text(target.host)
    except dns.exception.DNSException:
        raise ProbeError("bad_name") from None
    return dns.message.make_query(name, target.record, use_edns=0, payload=PAYLOAD)


def _servers(named: Sequence[str]) -> list[tuple[str, int]]:
    if named:
        return [place_of(each, PORT) for each in named]
    try:
        system = dns.resolver.Resolver()
    except dns.resolver.NoResolverConfiguration:
        raise ProbeError("no_resolver") from None
    return [(str(each), system.port) for each in system.nameservers]


async def _asked(
    question: dns.message.QueryMessage, servers: Sequence[tuple[str, int]], within_sec: float, trace: Trace
) -> dns.message.Message:
    """Return the first answer that says something about the name.

    Raises ProbeError with the last server's reason.
    """
    word = "no_resolver"
    until = time.monotonic() + within_sec
    for at, (server, port) in enumerate(servers):
        trace.facts["resolver"] = f"{server}:{port}"
        share_sec = (until - time.monotonic()) / (len(servers) - at)
        try:
            async with asyncio.timeout(share_sec if at + 1 < len(servers) else None):
                answer = await _exchanged(question, server, port)
        except (OSError, EOFError, dns.exception.DNSException) as error:
            word = "unreachable" if isinstance(error, ConnectionError) else error_word(error)
            continue
        code = answer.rcode()
        if code == dns.rcode.NOERROR:
            return answer
        word = dns.rcode.to_text(code).lower()
        if code == dns.rcode.NXDOMAIN:
            break
    raise ProbeError(word)


async def _exchanged(question: dns.message.QueryMessage, server: str, port: int) -> dns.message.Message:
    """Return the answer of one server. A forged or broken one is skipped: the right one may still come."""
    backend = dns.asyncbackend.get_default_backend()
    family = dns.inet.af_for_address(server)
    # connected, so that a host where nobody listens says so
    line = await backend.make_socket(  # type: ignore[no-untyped-call]  # the library has no types here
        family, socket.SOCK_DGRAM, 0, None, (server, port)
    )
    with contextlib.suppress(dns.message.Truncated):
        async with line:
            return await dns.asyncquery.udp(
                question,
                server,
                port=port,
                sock=line,
                ignore_unexpected=True,
                ignore_errors=True,
                raise_on_truncation=True,
            )
    return await dns.asyncquery.tcp(question, server, port=port)


def _texts(answer: dns.message.Message, kind: dns.rdatatype.RdataType) -> list[str]:
    return sorted(_plain(data.to_text()) for group in answer.answer if group.rdtype == kind for data in group)


def _plain(text: str) -> str:
    """Return a value without the final dot, the quotes and the case, none of which matter."""
    return text.strip('"').removesuffix(".").lower()


def _address(host: str) -> str | None:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None
