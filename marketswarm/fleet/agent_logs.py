"""Keep the log of each agent in `<data folder>/logs/`, bounded in size.

`up` writes `<agent>.log`: one JSON object a line, as agents write them; other text is the `line` of an event
`program.output`. A file that would grow beyond `MAX_BYTES` becomes `<agent>.log.1`, that one `<agent>.log.2`,
and the oldest is deleted, so that an agent never takes more than `FILES` times `MAX_BYTES`. The second
process of a service has its own file, `rss_agg@2.log`, since `@` is in no service's name. A server writes its
log itself, in its own folder, where it is bounded in the same way. Not here: how the files are read
(`marketswarm/log_follower.py`), and how a line looks to a person (`output.py`).
"""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from marketswarm.fleet.data_folder import make_private_folder, open_private_file
from marketswarm.log_follower import FILES, SUFFIX, find_log_files, find_rotated

MAX_BYTES: Final = 5_000_000
"""The size, in bytes, from which a log file is rotated."""
LOGS_FOLDER: Final = "logs"
"""The folder of the log files in the data folder of a fleet."""


def find_logs(data: Path) -> dict[str, Path]:
    """Return the current log file of each agent, by agent, sorted by file name."""
    return find_log_files(data / LOGS_FOLDER)


def bound_log(path: Path, max_bytes: int = MAX_BYTES) -> None:
    """Rotate a log file of over `max_bytes` whose program opens it anew for each line; its oldest is deleted.

    A file that does not exist is none to rotate. Raises OSError if the files can't be renamed.
    """
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > max_bytes:
            _rename_files(path)


def _rename_files(path: Path) -> None:
    """Give each file of a log the name of the next older one; what was the oldest is gone."""
    for number in range(FILES - 1, 0, -1):
        older = find_rotated(path, number - 1)
        if older.exists():
            older.replace(find_rotated(path, number))


class LogFiles:
    """Write and rotate the log files of all agents of one data folder.

    A line that can't be written is lost; the next line opens the file again, and begins on a line of its own
    if a part of the lost one is there. `on_failure` is called with the error when writing begins to fail, and
    not again until a line was written.
    """

    def __init__(
        self, data: Path, on_failure: Callable[[OSError], object], max_bytes: int = MAX_BYTES
    ) -> None:
        self._folder, self._on_failure, self._max_bytes = data / LOGS_FOLDER, on_failure, max_bytes
        self._open_files: dict[str, BinaryIO] = {}
        self._torn: set[str] = set()  # names whose file ends with a part of a line
        self._failed = False
        make_private_folder(self._folder)

    def append(self, name: str, line: bytes) -> None:
        try:
            file = self._open_files.get(name) or self._open_file(name)
            size = file.tell()  # it is written at its end only
            if size and size + len(line) + 1 > self._max_bytes:
                file = self._rotate(name)
            self._write_line(name, file, line)
        except OSError as error:
            self._close(name)
            if not self._failed:
                self._failed = True
                self._on_failure(error)
        else:
            self._failed = False

    def _write_line(self, name: str, file: BinaryIO, line: bytes) -> None:
        data = b"\n" + line + b"\n" if name in self._torn else line + b"\n"
        if file.write(data) < len(data):  # a disk that is nearly full takes a part, and says nothing
            self._torn.add(name)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)
        self._torn.discard(name)

    def close(self) -> None:
        for name in list(self._open_files):
            self._close(name)

    def _current_path(self, name: str) -> Path:
        return self._folder / f"{name.replace('/', '@')}{SUFFIX}"

    def _open_file(self, name: str) -> BinaryIO:
        handle = open_private_file(self._current_path(name), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        file = self._open_files[name] = os.fdopen(handle, "ab", buffering=0)
        return file

    def _rotate(self, name: str) -> BinaryIO:
        """Rename an agent's files, the current one to `.log.1`, the oldest away; open a new one."""
        self._close(name)
        self._torn.discard(name)
        _rename_files(self._current_path(name))
        return self._open_file(name)

    def _close(self, name: str) -> None:
        if (file := self._open_files.pop(name, None)) is not None:
            with contextlib.suppress(OSError):
                file.close()
