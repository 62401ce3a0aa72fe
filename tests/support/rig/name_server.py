"""A name server, over UDP and TCP, that answers as a test says."""

import socket
import threading
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from support.rig.closes import Closes
from support.rig.process import HOST, free_port

TTL_SEC = 30


class Names(Closes):
    """`Names({("shop.example", "A"): ["192.0.2.7"]})`; a name that is not there is NXDOMAIN.

    Instead of records there may be a word: `servfail`, `refused`, `silent`, `garbled`, `cut` (answered over
    TCP alone) and `forged` (answers to other questions first).
    """

    def __init__(self, known: dict[tuple[str, str], list[str] | str] | None = None) -> None:
        self.known: dict[tuple[str, str], list[str] | str] = known or {}
        self.asked: list[tuple[str, str]] = []  # ("udp", "shop.example A")
        self.port = free_port()  # for both: what the kernel gives for one may be taken for the other
        self._streams = socket.create_server((HOST, self.port))
        self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._datagrams.bind((HOST, self.port))
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._udp, self._tcp)]
        for thread in self._threads:
            thread.start()

    @property
    def place(self) -> str:
        return f"{HOST}:{self.port}"

    def close(self) -> None:
        # a thread that waits in a call does not notice that its socket is closed
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", (HOST, self.port))
        with socket.create_connection((HOST, self.port)):
            pass
        for thread in self._threads:
            thread.join(5)
        self._datagrams.close()
        self._streams.close()

    def _udp(self) -> None:
        while True:
            raw, peer = self._datagrams.recvfrom(4096)
            if not raw:
                return
            for reply in self._replies(raw, "udp"):
                self._datagrams.sendto(reply, peer)

    def _tcp(self) -> None:
        while True:
            line, _peer = self._streams.accept()
            with line, line.makefile("rb") as reader:
                raw = reader.read(int.from_bytes(reader.read(2), "big"))
                if not raw:
                    return
                for reply in self._replies(raw, "tcp"):
                    line.sendall(len(reply).to_bytes(2, "big") + reply)

    def _replies(self, raw: bytes, way: str) -> list[bytes]:
        query = dns.message.from_wire(raw)
        asked = query.question[0]
        name, record = asked.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(asked.rdtype)
        self.asked.append((way, f"{name} {record}"))
        found = self.known.get((name, record), "nxdomain")
        reply: Any = dns.message.make_response(query)
        if isinstance(found, list):
            if found:
                reply.answer.append(dns.rrset.from_text(asked.name, TTL_SEC, "IN", record, *found))
            return [reply.to_wire()]
        if found in ("nxdomain", "servfail", "refused"):
            reply.set_rcode(dns.rcode.from_text(found))
        elif found == "silent":
            return []
        elif found == "garbled":
            return [raw[:2] + b"\xff" * 40]
        elif found == "cut" and way == "udp":
            reply.flags |= dns.flags.TC
        elif found == "cut":
            reply.answer.append(dns.rrset.from_text(asked.name, TTL_SEC, "IN", record, "192.0.2.9"))
        elif found == "forged":
            other = dns.message.make_response(dns.message.make_query("other.example", "A", id=query.id))
            another = dns.message.make_response(dns.message.make_query(asked.name, record, id=query.id ^ 1))
            reply.answer.append(dns.rrset.from_text(asked.name, TTL_SEC, "IN", record, "192.0.2.9"))
            return [other.to_wire(), another.to_wire(), b"", reply.to_wire()]
        return [reply.to_wire()]
