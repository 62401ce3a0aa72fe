"""Run a process that sends the beats of a whole fleet at any rate, with garbage among them.

Commands are made from parts that stay the same, so the healer is the limit, and not this process.
"""

import multiprocessing
import os
import random
import time
from collections.abc import Sequence
from typing import Any, Final, Self

import hiredis

from bench.programs import wait_until
from bench.server import connect, pack_command, send_commands
from marketswarm.beat import Beat, encode_beat

MAX_AT_ONCE: Final = 250
"""How many commands are sent at once, at most."""
BATCHES_PER_SEC: Final = 1000
"""A fleet does not beat in step: what comes in large batches wakes its reader less often than real beats."""
HUGE_BYTES: Final = 64 * 1024
FIRST_I: Final = 1_000_000
"""The `i` of the first beats: so large that all have the same number of digits."""


def name_services(services: int) -> list[str]:
    return [f"svc{n:06d}" for n in range(services)]


def pack_beat(svc: str, i: int, ts: float) -> bytes:
    payload = encode_beat(Beat(svc, i, ts, boot="b00700b", rev=3, every=10.0))
    return pack_command("PUBLISH", f"{svc}:heartbeat", payload)


def publish_beats(port: int, services: Sequence[str], beats: int, *, first: int = 1) -> None:
    """Publish `beats` beats of the services in turn, in our agents' format, and wait for all replies.

    `first` is the `i` of each service's first beat.
    """
    reader, started, count = hiredis.Reader(), time.time(), len(services)
    with connect(port) as sock:
        for start in range(0, beats, 2000):
            numbers = range(start, min(start + 2000, beats))
            packed = [
                pack_beat(services[n % count], n // count + first, started + 10 * (n // count + first))
                for n in numbers
            ]
            send_commands(sock, reader, packed)


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


class Beats:
    """A process that sends beats for a fleet while a `with` block runs.

    Args:
        rate: beats a second of all services, evenly spread; 0 for as many as the server accepts.
        reboots: after so many beats a service gets another `boot`; 0 for never.
        replays: whether an old beat follows each garbage payload.
        life_sec: for how long a beat is kept under `beat:<svc>`, as agents do; 0 for not at all.

    `last` holds the time of each service's last beat in monotonic seconds, and `sent` counts all payloads.
    """

    def __init__(
        self,
        port: int,
        services: int,
        rate: float,
        *,
        reboots: int = 0,
        replays: bool = False,
        life_sec: float = 0.0,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.services = services
        self.last: Any = context.Array("d", services, lock=False)
        self.sent: Any = context.Value("q", 0, lock=False)
        self._share: Any = context.Value("d", 0.0, lock=False)
        # which services are silent (start, stop, step), the number of that request, of the last in force
        self._silent: Any = context.Array("i", [0, 0, 1, 0, 0], lock=False)
        self._life_msec = str(round(1000 * life_sec)) if life_sec else ""
        self._is_running: Any = context.Value("i", 1, lock=False)
        self._process = context.Process(target=self._run, args=(port, rate, reboots, replays), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_running.value = 0
        self._process.join(10)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_process"}

    def set_garbage_share(self, share: float) -> None:
        """From now on make this share of the payloads garbage, 0.0 to 0.9."""
        self._share.value = share

    def silence_services(self, numbers: range) -> dict[str, float]:
        """Send no beats of these services, and those of all others.

        Returns:
            The silent services, and when each sent its last beat. The server has answered all of those.
        """
        self._silent[:3] = numbers.start, numbers.stop, numbers.step
        self._silent[3] += 1
        wait_until(lambda: self._silent[4] == self._silent[3], "the process that beats to be silent")
        names = name_services(self.services)
        return {names[n]: self.last[n] for n in numbers}

    def _run(self, port: int, rate: float, reboots: int, replays: bool) -> None:
        """Send beats and garbage until the end of the block. The main function of the process."""
        sock, reader, chance = connect(port), hiredis.Reader(), random.Random(1)
        svcs = name_services(self.services)
        heads = [self._make_head(svc) for svc in svcs]
        at_once = min(MAX_AT_ONCE, max(1, round(rate / BATCHES_PER_SEC))) if rate else MAX_AT_ONCE
        started, n = time.monotonic(), 0
        while self._is_running.value:
            request = self._silent[3]  # read first: it counts when the batch after it was answered
            silent = range(*self._silent[:3])
            packed = self._pack_batch(heads, range(n, n + at_once), silent, reboots)
            n += at_once
            if share := self._share.value:
                for _ in range(round((len(packed) + chance.random()) * share / (1 - share) - 0.5)):
                    packed += self._pack_garbage(chance, svcs[chance.randrange(len(svcs))], n, replays)
            if packed:
                send_commands(sock, reader, packed)
            self._silent[4] = request
            self.sent.value += len(packed)
            if rate:
                time.sleep(max(0.0, started + n / rate - time.monotonic()))
        sock.close()

    def _pack_batch(self, heads: list[bytes], numbers: range, silent: range, reboots: int) -> list[bytes]:
        now, wall, packed = time.monotonic(), b"%.3f" % time.time(), []
        for number in numbers:
            round_, svc = divmod(number, self.services)
            if svc in silent:
                continue
            boot = (round_ // reboots if reboots else 0) + 0xB00700B
            command = b'%b%d,"ts":%b,"boot":"%x","rev":3,"every":10.0}\r\n' % (
                heads[svc], FIRST_I + round_, wall, boot
            )  # fmt: skip
            packed.append(command)
            if self._life_msec:
                key, payload = f"beat:svc{svc:06d}", command[command.index(b"{") : -2]
                packed.append(pack_command("SET", key, payload, "PX", self._life_msec))
            self.last[svc] = now
        return packed

    def _pack_garbage(self, chance: random.Random, svc: str, n: int, replays: bool) -> list[bytes]:
        real = encode_beat(
            Beat(svc, FIRST_I + n // self.services, time.time(), boot="b00700b", rev=3, every=10.0)
        )
        packed = [pack_command("PUBLISH", f"{svc}:heartbeat", make_garbage(chance, svc, real))]
        return [*packed, pack_beat(svc, 1, 1.0)] if replays else packed

    def _make_head(self, svc: str) -> bytes:
        """Return the part of a packed beat that stays the same: up to the value of `i`."""
        packed = pack_beat(svc, FIRST_I, time.time())
        return packed[: packed.index(b'"i":') + 4]
