"""Copy what a command writes to where our own output goes, and keep the end of it.

The copier is a process of its own, forked before the command starts. So what the command and its children
write arrives in full, and they meet no closed pipe, also if `marketswarm exec` is killed or has ended. It
ends when no process can write to its pipes any more.

Only what is not a terminal is copied: a program that finds a terminal must find it with us, too.
"""

import contextlib
import errno
import gc
import math
import os
import select
import signal
import socket
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from marketswarm.tail_buffer import TailBuffer

GRACE_SEC: Final = 0.5
"""How long after the end of a command its children may write what belongs to it, as a `tee` does."""
_ANSWER_SEC: Final = 2.0  # after that long the end of the output is given although more is coming
_WAIT_SEC: Final = 3.0  # how long we wait for it
_READ_BYTES: Final = 65_536
_SIZE_BYTES: Final = 8
_OUTPUTS: Final = (1, 2)
_IS_CLOSED: Final = select.POLLERR | select.POLLHUP | select.POLLNVAL
_NO_READER: Final = (errno.EPIPE, errno.ECONNRESET)
_IGNORED: Final = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGALRM")
"""Signals to all of a group or a control group are for the command: its last words must still be copied."""


@dataclass(frozen=True, slots=True)
class KeptOutput:
    """The last bytes of an output, and how many there were of all of it."""

    tail: bytes = b""
    size: int = 0


class OutputCopier:
    """The copier of one command's output; `stdout` and `stderr` are the command's, None for our own.

    `start` forks it. Call `release` once the command has them, and `finish` when the command has ended.
    """

    def __init__(self, pid: int, control: socket.socket, outputs: dict[int, int]) -> None:
        self._pid, self._control = pid, control
        self.stdout, self.stderr = outputs.get(1), outputs.get(2)

    @classmethod
    def start(cls) -> Self | None:
        """Fork the copier; return None if there is nothing to copy, or no process or pipe is to be had."""
        streams: list[_Stream] = []
        outputs: dict[int, int] = {}  # of stdout and stderr: where the command writes
        try:
            for group in _group_outputs():
                source, sink = os.pipe()
                streams.append(_Stream(source, group[0]))
                outputs |= dict.fromkeys(group, sink)
            if not streams:
                return None
            ours, its = socket.socketpair()
            pid = os.fork()
        except OSError:  # the command is run all the same
            for number in {*(stream.source for stream in streams), *outputs.values()}:
                os.close(number)
            return None
        if pid == 0:
            _run(streams, its)
        its.close()
        for stream in streams:
            os.close(stream.source)
        return cls(pid, ours, outputs)

    def release(self) -> None:
        """Close our copies of the command's outputs: they end when it and its children close theirs."""
        for number in {number for number in (self.stdout, self.stderr) if number is not None}:
            os.close(number)
        self.stdout = self.stderr = None

    def finish(self) -> KeptOutput:
        """Return the end of the output once all that the command wrote is copied; wait for a limited time.

        If there are children that may write, or our reader is slow, the copier continues without us.
        """
        until = time.monotonic() + _WAIT_SEC
        found = bytearray()
        with self._control, contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
            while (left_sec := until - time.monotonic()) > 0:
                self._control.settimeout(left_sec)
                piece = self._control.recv(_READ_BYTES)
                if not piece:
                    break
                found += piece
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, os.WNOHANG)
        return KeptOutput(bytes(found[_SIZE_BYTES:]), int.from_bytes(found[:_SIZE_BYTES]))


def _group_outputs() -> list[list[int]]:
    """Return which of stdout and stderr are to be copied; those that are the same file stand together.

    They share a pipe then, so that the order in which they are written to stays.
    """
    found: dict[tuple[int, int], list[int]] = {}
    for number in _OUTPUTS:
        with contextlib.suppress(OSError):  # one that is closed
            state = os.fstat(number)
            if not os.isatty(number):
                found.setdefault((state.st_dev, state.st_ino), []).append(number)
    return list(found.values())


class _Stream:
    """One pipe of the command, and where its bytes go: `target` is a descriptor of ours, `pending` waits."""

    def __init__(self, source: int, target: int) -> None:
        self.source, self.target = source, target
        self.is_open = True
        self.pending = memoryview(b"")
        # a pipe that is ready takes so much at once, and a write to it does not wait
        self._most = _READ_BYTES if stat.S_ISREG(os.fstat(target).st_mode) else select.PIPE_BUF

    def read(self) -> bytes:
        """Read what the command wrote; close the stream at its end."""
        piece = os.read(self.source, _READ_BYTES)
        self.pending = memoryview(piece)
        if not piece:
            self.close()
        return piece

    def write(self) -> None:
        """Write some of what is pending; close the stream if nobody reads it any more.

        After any other error, such as a full disk, the pending output is dropped, and the command continues.
        """
        try:
            written = os.write(self.target, self.pending[: self._most])
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in _NO_READER:
                self.close()
            written = len(self.pending)
        self.pending = self.pending[written:]

    def close(self) -> None:
        """Close both ends: the command gets SIGPIPE if it writes more, our reader sees the end."""
        self.is_open = False
        self.pending = memoryview(b"")
        os.close(self.source)
        os.close(self.target)


def _run(streams: list[_Stream], control: socket.socket) -> None:
    """Be the copier until all streams have ended; then end this process."""
    try:
        os.setsid()
        for name in _IGNORED:
            signal.signal(signal.Signals[name], signal.SIG_IGN)
        gc.disable()  # pages that nothing writes to stay shared
        kept = {control.fileno(), *(number for each in streams for number in (each.source, each.target))}
        _close_others(kept)
        _Copy(streams, control).run()
    finally:
        os._exit(0)


def _close_others(kept: set[int]) -> None:
    """Close all files but these: a lock or a connection of ours must not live as long as the copier."""
    for number in [int(path.name) for path in Path("/dev/fd").iterdir()]:
        if number not in kept:
            with contextlib.suppress(OSError):
                os.close(number)


class _Copy:
    """Copy streams until they end, and give the end of all they had to the process that started us.

    That is done when they have ended; or GRACE_SEC after the command has, once they are empty. The command
    has ended when the other side of `control` closes.
    """

    def __init__(self, streams: list[_Stream], control: socket.socket) -> None:
        self._streams, self._control = streams, control
        self._tail = TailBuffer()
        self._ended_at: float | None = None
        self._is_answered = False

    def run(self) -> None:
        while self._streams:
            ready = self._wait()
            is_idle = not sum(_step(stream, ready, self._tail) for stream in self._streams)
            self._streams = [stream for stream in self._streams if stream.is_open]
            if self._ended_at is None and self._control.fileno() in ready:
                self._ended_at = time.monotonic()
            elif self._ended_at is not None and not self._is_answered:
                passed_sec = time.monotonic() - self._ended_at
                if passed_sec >= (GRACE_SEC if is_idle else _ANSWER_SEC):
                    self._answer()
        if not self._is_answered:
            self._answer()

    def _wait(self) -> dict[int, int]:
        """Return which files are ready for what is next; wait until one is, or until an answer is due."""
        poller = select.poll()
        for stream in self._streams:
            poller.register(stream.target, select.POLLOUT if stream.pending else 0)
            if not stream.pending:
                poller.register(stream.source, select.POLLIN)
        if self._ended_at is None:
            poller.register(self._control, select.POLLIN)
        if self._ended_at is None or self._is_answered:
            return dict(poller.poll())
        passed_sec = time.monotonic() - self._ended_at
        is_pending = any(stream.pending for stream in self._streams)
        left_sec = (GRACE_SEC if passed_sec < GRACE_SEC or not is_pending else _ANSWER_SEC) - passed_sec
        return dict(poller.poll(max(0, math.ceil(1000 * left_sec))))

    def _answer(self) -> None:
        self._is_answered = True
        with self._control, contextlib.suppress(OSError):  # it may be gone
            self._control.sendall(self._tail.size.to_bytes(_SIZE_BYTES) + self._tail.read())


def _step(stream: _Stream, ready: dict[int, int], tail: TailBuffer) -> bool:
    """Do what a stream is ready for; return True if bytes of it are still on their way."""
    if stream.pending:
        if stream.target in ready:
            stream.write()
        return True
    if ready.get(stream.target, 0) & _IS_CLOSED:  # at once: the command's next write fails, as it would
        stream.close()
        return False
    if stream.source not in ready:
        return False
    tail.add(stream.read())
    return True
