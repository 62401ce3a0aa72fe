"""Probe a host name: which name server answers, with which values, and how fast.

The name servers are asked one after the other until one has an answer; "no such name" is an answer, too. The
hosts file and the search list of this machine are not used.
"""

import asyncio
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
import dns.resolver
import dns.reversename

from marketswarm.net.addresses import parse_address
from services.massive.probes.probers.context import ProbeContext
from services.massive.probes.probers.trace import ProbeError, Trace, error_reason
from services.massive.probes.result import ProbeResult
from services.massive.targets import Dns, split_host_port

PORT = 53
MAX_DATAGRAM_BYTES = 1232
"""The largest datagram that no network fragments; a longer answer is requested by TCP."""
SHOWN = 8


async def probe(target: Dns, context: ProbeContext) -> ProbeResult:
    """Return whether the name is known, and whether the expected values are among the answers."""
    trace = Trace(target.kind, f"{target.record} {target.host}")
    async with trace.within(context.timeout_sec):
        query = _make_query(target)
        servers = _name_servers(target.resolvers or context.resolvers)
        with trace.step("dns"):
            answer = await _query_servers(query, servers, context.timeout_sec, trace)
        groups = [group for group in answer.answer if group.rdtype == query.question[0].rdtype]
        found = sorted(_normalize(data.to_text()) for group in groups for data in group)
        trace.facts["answers"] = ", ".join(found[:SHOWN])
        if not found:
            raise ProbeError("no_answer")
        if not {_normalize(text) for text in target.expect} <= set(found):
            raise ProbeError("unexpected")
    return trace.result()


def _make_query(target: Dns) -> dns.message.QueryMessage:
    """Return the query for a target; a PTR target may be an address. Raises ProbeError."""
    try:
        if target.record == "PTR" and (address := parse_address(target.host)):
            name = dns.reversename.from_address(str(address))
        else:
            name = dns.name.from_text(target.host)
    except dns.exception.DNSException:
        raise ProbeError("bad_name") from None
    return dns.message.make_query(name, target.record, use_edns=0, payload=MAX_DATAGRAM_BYTES)


def _name_servers(named: Sequence[str]) -> list[tuple[str, int]]:
    """Return the address and port of each name server: the named ones, otherwise the system's.

    Raises ProbeError.
    """
    if named:
        return [split_host_port(each, PORT) for each in named]
    try:
        system = dns.resolver.Resolver()
    except dns.resolver.NoResolverConfiguration:
        raise ProbeError("no_resolver") from None
    return [(str(each), system.port) for each in system.nameservers]


async def _query_servers(
    query: dns.message.QueryMessage, servers: Sequence[tuple[str, int]], timeout_sec: float, trace: Trace
) -> dns.message.Message:
    """Return the first answer that knows the name. Raises ProbeError of the last server asked."""
    reason = "no_resolver"
    until = time.monotonic() + timeout_sec
    for at, (server, port) in enumerate(servers):
        trace.facts["resolver"] = f"{server}:{port}"
        share_sec = (until - time.monotonic()) / (len(servers) - at)
        try:
            async with asyncio.timeout(share_sec if at + 1 < len(servers) else None):
                answer = await _query_server(query, server, port)
        except (OSError, EOFError, dns.exception.DNSException) as error:
            reason = "unreachable" if isinstance(error, ConnectionError) else error_reason(error)
            continue
        code = answer.rcode()
        if code == dns.rcode.NOERROR:
            return answer
        reason = dns.rcode.to_text(code).lower()
        if code == dns.rcode.NXDOMAIN:
            break
    raise ProbeError(reason)


async def _query_server(query: dns.message.QueryMessage, server: str, port: int) -> dns.message.Message:
    """Return the answer of one server, by TCP if it is too long; forged and malformed datagrams are skipped.

    Raises OSError, EOFError or DNSException.
    """
    backend = dns.asyncbackend.get_default_backend()
    family = dns.inet.af_for_address(server)
    # a connected socket reports that no program listens there
    udp_socket = await backend.make_socket(  # type: ignore[no-untyped-call]  # the library has no types here
        family, socket.SOCK_DGRAM, 0, None, (server, port)
    )
    async with udp_socket:
        answer, _ = await dns.asyncquery.udp_with_fallback(
            query, server, port=port, udp_sock=udp_socket, ignore_unexpected=True, ignore_errors=True
        )
    return answer


def _normalize(text: str) -> str:
    """Drop quotes, final dot and case, so that values can be compared."""
    return text.strip('"').removesuffix(".").lower()
