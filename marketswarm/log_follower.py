"""Read the log files that `marketswarm up` keeps of its agents: their last lines, then each new one.

The current file of an agent is `rss_agg.log`, that of its second process `rss_agg@2.log`; older lines are in
`rss_agg.log.1` and `rss_agg.log.2`. `marketswarm/fleet/agent_logs.py` writes them. A process of the fleet may
put something else in their place, so only regular files are read, never through a link.
"""

import contextlib
import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

FILES: Final = 3
"""The largest number of files of an agent: the current one and two older ones."""
SUFFIX: Final = ".log"
_BLOCK_BYTES: Final = 65_536
_REFUSALS: Final = {errno.ELOOP: "it is a link", errno.ENXIO: "it is a socket"}
"""Why a file can't be opened as a log, by the number of the error."""


def find_log_files(folder: Path) -> dict[str, Path]:
    """Return the current log file of each agent, by agent (`rss_agg`, `rss_agg/2`), sorted by file name."""
    try:
        names = sorted(each for each in os.listdir(folder) if each.endswith(SUFFIX))  # noqa: PTH208 - quicker
    except FileNotFoundError:
        return {}
    found = {}
    for name in names:
        svc, at, number = name.removesuffix(SUFFIX).partition("@")
        found[f"{svc}/{number}" if at else svc] = folder / name
    return found


def find_rotated(path: Path, number: int) -> Path:
    """Return the file that the current one, `path`, was `number` rotations ago."""
    return path.with_name(f"{path.name}.{number}") if number else path


@dataclass(slots=True)
class LogFollower:
    """Reads the log of one agent, first its last lines, then each new one, across rotations.

    `path` is the current file, which need not exist yet. A file that became shorter is read from its
    beginning. `skipped_bytes` counts what was left out because more was written than `read_new` may read.
    `refused` has what could not be read the last time, with the reason: a pipe, a link, another's file.
    """

    path: Path
    skipped_bytes: int = 0
    refused: dict[Path, str] = field(default_factory=dict)
    _inode: int = 0
    _position: int = 0
    _rest: bytes = field(default=b"", repr=False)
    _is_in_skipped_line: bool = False

    def read_tail(self, lines: int) -> list[bytes]:
        """Return the last `lines` whole lines. `read_new` continues after them."""
        found: list[bytes] = []
        self.refused = {}
        for number in range(FILES):
            with self._open_to_read(find_rotated(self.path, number)) as file:
                if file is None:
                    continue
                text = _read_last_lines(file, lines - len(found) + 1)
                if number == 0:
                    whole, _, self._rest = text.rpartition(b"\n")
                    self._inode, self._position = os.fstat(file.fileno()).st_ino, file.tell()
                    text = whole
            here = [line for line in text.split(b"\n") if line]
            found = [*here, *found][-lines:] if lines else []
            if len(found) == lines:
                break
        return found

    def read_new(self, most_bytes: int | None = None) -> list[bytes]:
        """Return the whole lines that were written since the last call of `read_new` or `read_tail`.

        Of each file only the last `most_bytes` are read, and a longer line is left out.
        """
        found: list[bytes] = []
        self.refused = {}
        for path in self._unread_files():
            with self._open_to_read(path) as file:
                if file is not None:
                    found += self._read_on(file, most_bytes)
        return found

    def _read_on(self, file: BinaryIO, most_bytes: int | None) -> list[bytes]:
        """Return the lines of a file from the position on, if it was read before, otherwise all of them."""
        info = os.fstat(file.fileno())
        if info.st_ino != self._inode:
            self._inode, self._position = info.st_ino, 0
        elif info.st_size < self._position:  # emptied in place
            self._position, self._rest, self._is_in_skipped_line = 0, b"", False
        if most_bytes is not None and info.st_size - self._position > most_bytes:
            self._skip(info.st_size - most_bytes - self._position)
        file.seek(self._position)
        *whole, self._rest = (self._rest + file.read(-1 if most_bytes is None else most_bytes)).split(b"\n")
        self._position = file.tell()
        if whole and self._is_in_skipped_line:
            self.skipped_bytes += len(whole.pop(0)) + 1
            self._is_in_skipped_line = False
        if most_bytes is not None and len(self._rest) > most_bytes:
            self._skip(0)
        return whole

    def _skip(self, count: int) -> None:
        """Leave out the next `count` bytes, and the line in which that begins and ends."""
        self.skipped_bytes += count + len(self._rest)
        self._position += count
        self._rest, self._is_in_skipped_line = b"", True

    def _unread_files(self) -> list[Path]:
        """Return the file that was read last, perhaps rotated since, and all newer ones, the oldest first."""
        if not self._inode:
            return [self.path]
        newer: list[Path] = []
        for number in range(FILES):
            path = find_rotated(self.path, number)
            newer.insert(0, path)
            with contextlib.suppress(OSError):
                info = path.lstat()
                if info.st_ino == self._inode:
                    return [] if number == 0 and info.st_size == self._position else newer
        return newer

    def _open_to_read(self, path: Path) -> contextlib.AbstractContextManager[BinaryIO | None]:
        """Open a log file; None if there is none or it must not be read: `refused` says why."""
        try:
            return _open_regular(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            self.refused[path] = error.strerror or type(error).__name__
        return contextlib.nullcontext()


def _open_regular(path: Path) -> BinaryIO:
    """Open a regular file, never through a link, and without waiting for the writer of a pipe.

    Raises OSError.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _REFUSALS:
            raise OSError(error.errno, _REFUSALS[error.errno]) from None
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return os.fdopen(handle, "rb")


def _read_last_lines(file: BinaryIO, line_ends: int) -> bytes:
    """Return the end of a file with at least that many line ends, or all of it."""
    size = file.seek(0, os.SEEK_END)
    text = b""
    while len(text) < size and text.count(b"\n") < line_ends:
        start = max(0, size - max(_BLOCK_BYTES, 2 * len(text)))
        file.seek(start)
        text = file.read(size - start)
    file.seek(size)
    return text
