"""A process that beats for a whole fleet as fast as it is told to, and puts garbage among the beats.

Faster than `fleet.Beater`: commands are put together from parts that stay, so that what is measured is the
healer.
"""

import multiprocessing
import os
import random
import time
from typing import Any, Final

import hiredis

from bench.fleet import names
from bench.ground import call, connect, publish
from marketswarm.beat import make

CHUNK: Final = 250
"""Commands sent in one go."""
HUGE: Final = 64 * 1024
FIRST_I: Final = 1_000_000
"""Keeps the counter at one length."""


def garbage(chance: random.Random, svc: str, real: bytes) -> bytes:
    """Something that is no beat of that service; `real` is one, to look like."""
    kind = chance.random()
    if kind < 0.002:
        return os.urandom(16) * (HUGE // 16)
    if kind < 0.05:
        return real[:-1] + b',"pad":"' + b"x" * 5000 + b'"}'
    if kind < 0.2:
        return os.urandom(64)
    if kind < 0.4:
        return real[: chance.randrange(len(real))]
    if kind < 0.6:
        return real.replace(svc.encode(), b"someone_else")
    if kind < 0.8:  # of the same beginning, end and length as a beat, and greater
        at = real.index(b'"ts":') + 8
        return real[:at] + b"x" + real[at + 1 :]
    return real.replace(b'"i":', b'"i":-')


class Storm:
    """The process. `rate` is in beats a second, 0 for as many as the server takes.

    Each service's boot is a new one every `reboots` beats; 0 for never. Of all that is published,
    `share` is garbage, and as much again an old beat if `replays`.
    """

    def __init__(
        self, port: int, services: int, rate: float, *, reboots: int = 0, replays: bool = False
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.last: Any = context.Array("d", services, lock=False)
        self.sent: Any = context.Value("q", 0, lock=False)
        self.junk: Any = context.Value("q", 0, lock=False)
        self._share: Any = context.Value("d", 0.0, lock=False)
        self._silent: Any = context.Array("i", [-1, 1], lock=False)
        self._going: Any = context.Value("i", 1, lock=False)
        self._process = context.Process(
            target=self._run, args=(port, services, rate, reboots, replays), daemon=True
        )
        self._process.start()

    def litter(self, share: float) -> None:
        """From now on so much of what is published is garbage, 0.0 to 0.9."""
        self._share.value = share

    def silence(self, rest: int, of: int) -> None:
        """From now on every `of`th service says nothing, beginning with `rest`; -1 lets all beat."""
        self._silent[1] = of
        self._silent[0] = rest
        time.sleep(0.2)  # what is on its way

    def behind_sec(self) -> float:
        """Seconds since the beat that is the longest ago, of those who beat."""
        silent, of = self._silent
        now = time.monotonic()
        return max(now - at for n, at in enumerate(self.last) if silent < 0 or n % of != silent)

    def stop(self) -> None:
        """Ends the process."""
        self._going.value = 0
        self._process.join(10)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_process"}

    def _run(self, port: int, services: int, rate: float, reboots: int, replays: bool) -> None:
        sock, reader, chance = connect(port), hiredis.Reader(), random.Random(1)
        svcs = names(services)
        heads = [_head(svc) for svc in svcs]
        started, n, junk = time.monotonic(), 0, 0
        while self._going.value:
            now, wall = time.monotonic(), b"%.3f" % time.time()
            share, (silent, of) = self._share.value, self._silent
            packed = []
            for k in range(n, n + CHUNK):
                who, i = k % services, FIRST_I + k // services
                if silent >= 0 and who % of == silent:
                    continue
                boot = (k // services // reboots if reboots else 0) + 0xB00700B
                packed.append(
                    b'%b%d,"ts":%b,"boot":"%x","rev":3,"every":10.0}\r\n' % (heads[who], i, wall, boot)
                )
                self.last[who] = now
            n += CHUNK
            wanted = round((len(packed) + chance.random()) * share / (1 - share) - 0.5) if share else 0
            for _ in range(wanted):
                who = chance.randrange(services)
                real = make(
                    svcs[who], FIRST_I + n // services, time.time(), boot="b00700b", rev=3, every=10.0
                )
                packed.append(publish(f"{svcs[who]}:heartbeat", garbage(chance, svcs[who], real)))
                if replays:
                    old = make(svcs[who], 1, 1.0, boot="b00700b", rev=3, every=10.0)
                    packed.append(publish(f"{svcs[who]}:heartbeat", old))
            junk += wanted
            call(sock, reader, packed)
            self.sent.value, self.junk.value = self.sent.value + len(packed), junk
            if rate:
                _pause(started + n / rate - time.monotonic())
        sock.close()


def _pause(sec: float) -> None:
    if sec > 0:
        time.sleep(sec)


def _head(svc: str) -> bytes:
    """The part of a packed beat that stays."""
    beat = make(svc, FIRST_I, time.time(), boot="b00700b", rev=3, every=10.0)
    packed = publish(f"{svc}:heartbeat", beat)
    return packed[: packed.index(b'"i":') + 4]
