"""Keep the log of each agent in `<data folder>/logs/`, bounded in size, and read it again.

`up` writes `<agent>.log`: one JSON object a line, as agents write them; other text is the `line` of an event
`program.output`. A file that would grow beyond `MAX_BYTES` becomes `<agent>.log.1`, that one `<agent>.log.2`,
and the oldest is deleted, so that an agent never takes more than `FILES` times `MAX_BYTES`. The second
process of a service has its own file, `rss_agg@2.log`, since `@` is in no service's name. Not here: how a
line looks to a person (`output.py`).
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from marketswarm.fleet.data_folder import make_private_folder, open_private_file

MAX_BYTES: Final = 5_000_000
"""The size, in bytes, from which a log file is rotated."""
FILES: Final = 3
"""The largest number of files of an agent: the current one and two older ones."""
_FOLDER: Final = "logs"
_SUFFIX: Final = ".log"
_BLOCK_BYTES: Final = 65_536


def find_logs(data: Path) -> dict[str, Path]:
    """Return the current log file of each agent, by agent, sorted by file name."""
    found = {}
    for path in sorted((data / _FOLDER).glob(f"*{_SUFFIX}")):
        svc, at, number = path.name.removesuffix(_SUFFIX).partition("@")
        found[f"{svc}/{number}" if at else svc] = path
    return found


@dataclass(slots=True)
class _LogFile:
    """An open log file and its size in bytes."""

    file: BinaryIO
    size: int


class LogFiles:
    """Write and rotate the log files of all agents of one data folder.

    A line that can't be written is lost; the next line opens the file again. `on_failure` is called with the
    error when writing begins to fail, and not again until a line was written.
    """

    def __init__(
        self, data: Path, on_failure: Callable[[OSError], object], max_bytes: int = MAX_BYTES
    ) -> None:
        self._folder, self._on_failure, self._max_bytes = data / _FOLDER, on_failure, max_bytes
        self._open_files: dict[str, _LogFile] = {}
        self._failed = False
        make_private_folder(self._folder)

    def append(self, name: str, line: bytes) -> None:
        try:
            log = self._open_files.get(name) or self._open_file(name)
            if log.size and log.size + len(line) + 1 > self._max_bytes:
                log = self._rotate(name)
            log.file.write(line + b"\n")
            log.size += len(line) + 1
        except OSError as error:
            self._close(name)
            if not self._failed:
                self._failed = True
                self._on_failure(error)
        else:
            self._failed = False

    def close(self) -> None:
        for name in list(self._open_files):
            self._close(name)

    def _current_path(self, name: str) -> Path:
        return self._folder / f"{name.replace('/', '@')}{_SUFFIX}"

    def _open_file(self, name: str) -> _LogFile:
        handle = open_private_file(self._current_path(name), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        log = _LogFile(os.fdopen(handle, "ab", buffering=0), os.fstat(handle).st_size)
        self._open_files[name] = log
        return log

    def _rotate(self, name: str) -> _LogFile:
        """Rename an agent's files, the current one to `.log.1`, the oldest away; open a new one."""
        self._close(name)
        path = self._current_path(name)
        for number in range(FILES - 1, 0, -1):
            older = _rotated_path(path, number - 1)
            if older.exists():
                older.replace(_rotated_path(path, number))
        return self._open_file(name)

    def _close(self, name: str) -> None:
        if (log := self._open_files.pop(name, None)) is not None:
            with contextlib.suppress(OSError):
                log.file.close()


@dataclass(slots=True)
class LogFollower:
    """Reads the log of one agent, first its last lines, then each new one, across rotations.

    `path` is the current file, which need not exist yet.
    """

    path: Path
    _inode: int = 0
    _position: int = 0
    _rest: bytes = field(default=b"", repr=False)

    def read_tail(self, lines: int) -> list[bytes]:
        """Return the last `lines` whole lines. `read_new` goes on after them."""
        found: list[bytes] = []
        for number in range(FILES):
            with _open_to_read(_rotated_path(self.path, number)) as file:
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

    def read_new(self) -> list[bytes]:
        """Return the whole lines that were written since the last call of `read_new` or `read_tail`."""
        found: list[bytes] = []
        for path in self._unread_files():
            with _open_to_read(path) as file:
                if file is None:
                    continue
                inode = os.fstat(file.fileno()).st_ino
                if inode != self._inode:
                    self._inode, self._position = inode, 0
                file.seek(self._position)
                *whole, self._rest = (self._rest + file.read()).split(b"\n")
                self._position = file.tell()
                found += whole
        return found

    def _unread_files(self) -> list[Path]:
        """Return the file that was read last, perhaps rotated since, and all newer ones, the oldest first."""
        files = [_rotated_path(self.path, number) for number in range(FILES)]
        for number, path in enumerate(files):
            with contextlib.suppress(OSError):
                if path.stat().st_ino == self._inode:
                    return files[number::-1]
        return files[::-1] if self._inode else files[:1]


def _rotated_path(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path


@contextlib.contextmanager
def _open_to_read(path: Path) -> Iterator[BinaryIO | None]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield None
        return
    with file:
        yield file


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
