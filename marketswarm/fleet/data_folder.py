"""The data folder of an embedded fleet: its lock, its record for other terminals, and its file permissions.

The running fleet holds a lock on `fleet.pid`, so a file that an ended fleet left is not an obstacle.
`fleet.json` has the URLs of its buses, and is valid only while the fleet answers on its control socket. A
folder that another user made or may write to could hold links to our files, or passwords that they know: it
is refused by a PermissionError with the remedy.
"""

import contextlib
import errno
import fcntl
import os
import shlex
import socket
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

import orjson
from pydantic import TypeAdapter

DEFAULT = Path(".marketswarm")
"""The data folder if the user names none."""
# bytes in the address of a Unix socket, which must be shorter than a path may be
_MAX_ADDRESS_BYTES = 100


OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
"""The bits of a mode that let others write."""


class FolderTakenError(Exception):
    """Another fleet runs in this folder. `pid` is its process id; None if unknown."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(f"pid {pid}" if pid else "pid unknown")
        self.pid = pid


@dataclass(frozen=True, slots=True)
class RunningFleet:
    """A fleet that runs: its pid, the path of its control socket, the URLs of its buses by name.

    `keys` has, by bus, the files with the operator's URLs; it is empty for a fleet without users.
    `find_fleet` reads these files and puts the URLs into `buses`. `board` is the URL of the board, empty if
    the fleet was started without one. `shared_board` is the one for other machines, and `certificate` the
    path of the certificate that it shows there; they are empty for a fleet that listens for no others.
    """

    pid: int
    control: str
    buses: Mapping[str, str]
    keys: Mapping[str, str] = field(default_factory=dict)
    board: str = ""
    shared_board: str = ""
    certificate: str = ""


@contextlib.contextmanager
def claim_folder(folder: Path) -> Iterator[None]:
    """Lock the folder and write our pid to `fleet.pid`, while the context lasts.

    The folder is made if it is missing. If this process dies, the kernel unlocks the folder. Raises
    FolderTakenError if another fleet runs in it, PermissionError if it is not ours alone to write to.
    """
    make_private_folder(folder, closed=False)
    handle = open_private_file(folder / "fleet.pid", os.O_RDWR | os.O_APPEND | os.O_CREAT)
    with open(handle, "a+", encoding="ascii") as file:  # noqa: PTH123 - a descriptor, not a path
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid = file.read().strip()
            raise FolderTakenError(int(pid) if pid.isdigit() else None) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
        file.truncate(0)


def choose_control_address(folder: Path) -> str:
    """Return a path for the control socket: in the folder, or in a temporary one if that path is too long."""
    path = (folder / "control.sock").absolute()
    if len(os.fsencode(path)) <= _MAX_ADDRESS_BYTES:
        return str(path)
    return str(Path(tempfile.mkdtemp(prefix="marketswarm-"), "control.sock"))


def publish_fleet(folder: Path, running: RunningFleet) -> None:
    """Write `fleet.json` in one step; other terminals find the fleet by it."""
    write_private_file(folder / "fleet.json", orjson.dumps(asdict(running)))


def withdraw_fleet(folder: Path) -> None:
    """Delete `fleet.json`, by which others find the fleet of this folder."""
    (folder / "fleet.json").unlink(missing_ok=True)


def format_data_option(folder: Path) -> str:
    """Return ` --data DIR` to be typed by a person; an empty text for the default folder."""
    if folder.absolute() == DEFAULT.absolute():
        return ""
    return f" --data {shlex.quote(str(folder))}"


def has_stale_record(folder: Path) -> bool:
    """Return True for a claimed folder whose last fleet ended without removing its `fleet.json`."""
    return (folder / "fleet.json").exists()


def find_fleet(folder: Path) -> RunningFleet | None:
    """Return the fleet that runs in `folder` and accepts connections to its control socket, or None."""
    if not is_private_folder(folder):
        return None
    try:
        with os.fdopen(open_private_file(folder / "fleet.json", os.O_RDONLY), "rb") as file:
            fleet = TypeAdapter(RunningFleet).validate_json(file.read())
        urls = {bus: Path(key).read_text("utf-8").strip() for bus, key in fleet.keys.items()}
    except (OSError, ValueError):
        return None
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(fleet.control)
        except OSError:
            return None
    return replace(fleet, buses={**fleet.buses, **urls})


def make_private_folder(folder: Path, *, closed: bool = True) -> None:
    """Make a folder with mode 0700, or check that an existing one belongs to us and only we may write to it.

    Its parents are made with the usual mode. With `closed`, an existing folder gets mode 0700, too. Raises
    PermissionError if it is a link, somebody else's, or others may write to it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode):
            why = "is a link or a file, not a folder: remove it"
            raise PermissionError(errno.EPERM, why, str(folder)) from None
        _require_private(folder, status)
        if closed and status.st_mode & 0o077:
            folder.chmod(0o700)


def open_private_file(path: Path, flags: int) -> int:
    """Open a file that is ours and that only we may write to, never through a link; return its descriptor.

    A new file gets mode 0600; `flags` are those of `os.open`. Raises PermissionError for a link or a file
    with a second name, one that is somebody else's, or that others may write to.
    """
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise PermissionError(errno.EPERM, "is a link: remove it", str(path)) from None
        raise
    try:
        _require_private_file(path, os.fstat(handle))
    except BaseException:
        os.close(handle)
        raise
    return handle


def write_private_file(path: Path, content: bytes) -> None:
    """Write a file that is ours alone in one step: it is a draft beside it until then.

    A draft that was left there is deleted.
    """
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(open_private_file(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(content)
    draft.replace(path)


def require_private_files(folder: Path) -> None:
    """Raise PermissionError unless each file in the folder is one that `open_private_file` opens."""
    for path in folder.iterdir():
        os.close(open_private_file(path, os.O_RDONLY | os.O_NONBLOCK))


def is_private_folder(folder: Path) -> bool:
    try:
        status = folder.lstat()
        _require_private(folder, status)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode)


def _require_private_file(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        raise PermissionError(errno.EPERM, "is not a file of its own: remove it", str(path))
    _require_private(path, status)


def _require_private(path: Path, status: os.stat_result) -> None:
    """Raise PermissionError unless `path` is ours by its `status`, and only we may write to it."""
    if status.st_uid != os.geteuid():
        why = "belongs to another user: remove it, or choose another folder (--data DIR)"
        raise PermissionError(errno.EPERM, why, str(path))
    if status.st_mode & OTHERS_WRITE:
        why = f"others may write to it: look at what is there, then chmod go-w {path}"
        raise PermissionError(errno.EPERM, why, str(path))
