"""Run a process that sends beats for a whole fleet at any rate, with garbage among the beats.

It is faster than `fleet.Beater`: commands are made from parts that stay the same, so the healer is the limit,
and not this process.
"""

import multiprocessing
import os
import random
import time
from typing import Any, Final

import hiredis

from bench.fleet import name_services
from bench.server import connect, pack_publish, send_commands, wait_until
from marketswarm.beat import encode_beat

CHUNK_COMMANDS: Final = 250
"""How many commands are sent at once."""
HUGE_BYTES: Final = 64 * 1024
FIRST_I: Final = 1_000_000
"""The `i` of the first beats: so large that all have the same number of digits."""


def make_garbage(chance: random.Random, svc: str, real: bytes) -> bytes:
    """Return a payload that is not a beat of `svc`; `real` is one of its beats, to resemble."""
    kind = chance.random()
    if kind < 0.002:
        return os.urandom(16) * (HUGE_BYTES // 16)
    if kind < 0.05:
        return real[:-1] + b',"pad":"' + b"x" * 5000 + b'"}'
    if kind < 0.2:
        return os.urandom(64)
    if kind < 0.4:
        return real[: chance.randrange(len(real))]
    if kind < 0.6:
        return real.replace(svc.encode(), b"someone_else")
    if kind < 0.8:  # with the same beginning, end and length as the beat, but a wrong `ts`
        at = real.index(b'"ts":') + 8
        return real[:at] + b"x" + real[at + 1 :]
    return real.replace(b'"i":', b'"i":-')


class Storm:
    """A process that sends beats for a fleet.

    Args:
        rate: beats a second of all services; 0 for as many as the server accepts.
        reboots: after so many beats a service gets another `boot`; 0 for never.
        replays: whether an old beat follows each garbage payload.

    `last` holds the time of each service's last beat in monotonic seconds, `sent` counts all payloads, and
    `junk` the garbage.
    """

    def __init__(
        self, port: int, services: int, rate: float, *, reboots: int = 0, replays: bool = False
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.last: Any = context.Array("d", services, lock=False)
        self.sent: Any = context.Value("q", 0, lock=False)
        self.junk: Any = context.Value("q", 0, lock=False)
        self._share: Any = context.Value("d", 0.0, lock=False)
        # what is silenced (rest, of), the number of that request, and the number of the last one in force
        self._silent: Any = context.Array("i", [-1, 1, 0, 0], lock=False)
        self._is_running: Any = context.Value("i", 1, lock=False)
        self._process = context.Process(
            target=self._run, args=(port, services, rate, reboots, replays), daemon=True
        )
        self._process.start()

    def set_garbage_share(self, share: float) -> None:
        """From now on make this share of the payloads garbage, 0.0 to 0.9."""
        self._share.value = share

    def silence_services(self, rest: int, of: int) -> None:
        """Send no beats of every `of`th service any more, beginning with number `rest`; -1: send all.

        Return when that is in force, and the server has answered all beats from before.
        """
        self._silent[0], self._silent[1] = rest, of
        self._silent[2] += 1
        wait_until(lambda: self._silent[3] == self._silent[2], "the process that beats to be silent")

    def behind_sec(self) -> float:
        """Return the seconds since the oldest last beat of the services that are not silenced."""
        silent, of = self._silent[:2]
        now = time.monotonic()
        return float(max(now - at for n, at in enumerate(self.last) if silent < 0 or n % of != silent))

    def stop(self) -> None:
        self._is_running.value = 0
        self._process.join(10)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_process"}

    def _run(self, port: int, services: int, rate: float, reboots: int, replays: bool) -> None:
        """Send beats and garbage until `stop`. The main function of the process."""
        sock, reader, chance = connect(port), hiredis.Reader(), random.Random(1)
        svcs = name_services(services)
        heads = [_build_head(svc) for svc in svcs]
        started, n, junk = time.monotonic(), 0, 0
        while self._is_running.value:
            now, wall = time.monotonic(), b"%.3f" % time.time()
            request = self._silent[2]  # read first: a request counts when the chunk after it was answered
            share, (silent, of) = self._share.value, self._silent[:2]
            packed = []
            for k in range(n, n + CHUNK_COMMANDS):
                who, i = k % services, FIRST_I + k // services
                if silent >= 0 and who % of == silent:
                    continue
                boot = (k // services // reboots if reboots else 0) + 0xB00700B
                packed.append(
                    b'%b%d,"ts":%b,"boot":"%x","rev":3,"every":10.0}\r\n' % (heads[who], i, wall, boot)
                )
                self.last[who] = now
            n += CHUNK_COMMANDS
            wanted = round((len(packed) + chance.random()) * share / (1 - share) - 0.5) if share else 0
            for _ in range(wanted):
                who = chance.randrange(services)
                real = encode_beat(
                    svcs[who], FIRST_I + n // services, time.time(), boot="b00700b", rev=3, every=10.0
                )
                packed.append(pack_publish(f"{svcs[who]}:heartbeat", make_garbage(chance, svcs[who], real)))
                if replays:
                    old = encode_beat(svcs[who], 1, 1.0, boot="b00700b", rev=3, every=10.0)
                    packed.append(pack_publish(f"{svcs[who]}:heartbeat", old))
            junk += wanted
            if packed:
                send_commands(sock, reader, packed)
            self._silent[3] = request
            self.sent.value, self.junk.value = self.sent.value + len(packed), junk
            if rate:
                _pause(started + n / rate - time.monotonic())
        sock.close()


def _pause(sec: float) -> None:
    if sec > 0:
        time.sleep(sec)


def _build_head(svc: str) -> bytes:
    """Return the part of a packed beat that stays the same: up to the value of `i`."""
    beat = encode_beat(svc, FIRST_I, time.time(), boot="b00700b", rev=3, every=10.0)
    packed = pack_publish(f"{svc}:heartbeat", beat)
    return packed[: packed.index(b'"i":') + 4]
