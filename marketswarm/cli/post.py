"""The way of one service's beats: finds the truth and the bus it names, and mends what breaks.

For `beat` and `exec`, which are no agents. It blocks, but never long: two seconds a request.
"""

import hashlib
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from marketswarm import beat
from marketswarm.beat import Sender, Status
from marketswarm.bus_url import place
from marketswarm.cli.whereto import (
    MARKET,
    SYSTEM,
    TIMEOUT_SEC,
    Whereto,
    document,
    given,
    url_of,
    whereto,
)
from marketswarm.cli.wire import AwayError, Wire
from marketswarm.exit import Code, Exit
from marketswarm.fleet import folder

_META: Final = ("HMGET", "truth:meta", "revision", "sha256")


class Post:
    """Beats of `svc`, by the truth that the buses hold; by defaults while none does.

    With a `boot` they are those of a process: counted, and with the revision of the truth that it goes by.
    """

    def __init__(self, svc: str, data: Path, boot: str | None = None) -> None:
        """Reads the environment; connects to nothing. Raises Exit, code 2, when that won't do."""
        self.svc, self.boot = svc, boot
        fleet = folder.running(data)
        self._embedded = fleet.buses if fleet else {}
        self._sender = Sender(host=socket.gethostname(), started=time.time()) if boot else None
        self._key = os.environ.get("TRUTH_REDIS_KEY") or "truth:doc"
        self._default_timeout_sec = _default_timeout_sec(os.environ)
        self._truth: dict[str, Any] | None = None
        self._held: object = None  # what the truth's bus said of the document that was read
        self._revision: int | None = None
        self._wires: dict[str, Wire] = {}
        self._away: dict[str, AwayError] = {}
        self._i = 0
        self._places()
        self.to: Whereto = whereto(None, svc, self._default_timeout_sec)

    @property
    def where(self) -> str:
        """The bus that beats go to, and where it is, in words."""
        return f"{self.to.bus} at {place(self._bus_url())}"

    def look(self) -> bool:
        """Reads the truth, if it is another than the last time; whether any bus holds one."""
        self._away.clear()
        for url in self._places():
            try:
                found = self._read(url)
            except AwayError as error:
                self._away[url] = error
                continue
            if found:
                self.to = whereto(self._truth, self.svc, self._default_timeout_sec)
                return True
        return False

    def beat(
        self,
        status: Status = "ok",
        detail: str | None = None,
        every_sec: float | None = None,
        within_sec: float = 2.0,
    ) -> int:
        """Sends one beat; how many heard it.

        Raises:
            AwayError: the bus did not take it.
            Exit: code 2, when where that is can't be had.
        """
        self._i += 1  # tried counts: one that got no answer may have arrived
        said = beat.make(
            self.svc,
            self._i,
            time.time(),
            boot=self.boot,
            rev=self._revision if self.boot else None,
            status=status,
            detail=detail,
            every=every_sec,
            sender=self._sender,
        )
        key, life_ms = f"beat:{self.svc}", max(1, round(2000 * self.to.timeout_sec))
        # a goodbye is no life: the key stays as old as the last living beat
        life: tuple[str | int, ...] = ("XX", "KEEPTTL") if status == "stopping" else ("PX", life_ms)
        heard, _ = self._ask(
            ("PUBLISH", self.to.channel, said), ("SET", key, said, *life), within_sec=within_sec
        )
        return heard if isinstance(heard, int) else 0

    def keep(self, key: str, value: bytes, life_sec: float, within_sec: float = 2.0) -> None:
        """Leaves a value beside the beats. Raises as `beat`."""
        self._ask(("SET", key, value, "PX", round(1000 * life_sec)), within_sec=within_sec)

    def reconnect(self) -> None:
        """Forgets all connections, and which bus was away: the next request finds out anew."""
        self._away.clear()
        for wire in self._wires.values():
            wire.close()

    def _ask(self, *commands: tuple[str | bytes | int, ...], within_sec: float) -> list[Any]:
        url = self._bus_url()
        if url in self._away:  # just now
            raise self._away[url]
        try:
            return self._wire(url).ask(*commands, within_sec=within_sec)
        except AwayError as error:
            self._away[url] = error
            raise

    def _bus_url(self) -> str:
        return url_of(self.to.bus, self.to.url, os.environ, self._embedded)

    def _places(self) -> list[str]:
        """The URLs of the buses that may hold the truth, in the order of CONTRACTS §2, each once."""
        told = [given(variable, os.environ) for variable in ("TRUTH_REDIS_URL", "REDIS_URL")]
        buses = self._truth.get("buses") if self._truth else None
        for name in (SYSTEM, MARKET):
            entry = buses.get(name) if isinstance(buses, dict) else None
            said = entry.get("url") if isinstance(entry, dict) else None
            told.append(url_of(name, said if isinstance(said, str) else None, os.environ, self._embedded))
        return list(dict.fromkeys(url for url in told if url))

    def _read(self, url: str) -> bool:
        """Reads the truth from there; whether there is one."""
        wire = self._wire(url)
        glance = [url, *wire.ask(("STRLEN", self._key), _META)]
        if self._truth is not None and self._held == glance:
            return True
        raw, meta = wire.ask(("GET", self._key), _META)
        found = document(raw)
        if found is None:
            return False
        self._truth, self._held, self._revision = found, [url, len(raw), meta], _revision(meta, raw)
        return True

    def _wire(self, url: str) -> Wire:
        return self._wires.setdefault(url, Wire(url))


def _revision(meta: Any, raw: bytes) -> int | None:
    """What `truth:meta` says, if it is about that document."""
    text, of = meta if isinstance(meta, list) and len(meta) == 2 else (None, None)
    if of is not None and of != hashlib.sha256(raw).hexdigest().encode():
        return None
    return int(text) if isinstance(text, bytes) and text.isdigit() and len(text) < 16 else None


def _default_timeout_sec(environ: Mapping[str, str]) -> float:
    text = environ.get("DEFAULT_TIMEOUT_SEC")
    try:
        value = float(text) if text else TIMEOUT_SEC
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise Exit(Code.CONFIGURATION, "DEFAULT_TIMEOUT_SEC: should be a number of seconds above 0")
    return value
