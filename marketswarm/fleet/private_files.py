"""Folders and files that are ours alone: made so from the first moment, and refused when they are not.

A folder that somebody else made or may write to can hold links to our files and passwords of his choice.
What is wrong is a PermissionError with the path and the remedy. Not here: what is kept in them.
"""

import errno
import os
import stat
from pathlib import Path
from typing import Final

OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def own_folder(folder: Path, *, closed: bool = True) -> None:
    """Make a folder of ours with mode 0700, or see to it that the one that is there is ours.

    Args:
        folder: the folder; those above it are made with the usual mode.
        closed: whether one of ours that others may look into is closed to them.

    Raises:
        PermissionError: it is a link, somebody else's, or others may write to it.
        OSError: it can't be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise _refused(folder, "is no folder but a link or a file: remove it") from None
        _check(folder, found)
        if closed and found.st_mode & 0o077:
            folder.chmod(0o700)


def open_own(path: Path, flags: int) -> int:
    """Open a file of ours, never through a link; one that is made has mode 0600.

    Raises:
        PermissionError: it is a link or no file, somebody else's, or others may write to it.
        OSError: it can't be opened.
    """
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _refused(path, "is a link: remove it") from None
        raise
    try:
        _check_file(path, os.fstat(handle))
    except BaseException:
        os.close(handle)
        raise
    return handle


def require_own_files(folder: Path) -> None:
    """Raise PermissionError when a file in a folder is a link, somebody else's, or writable by others."""
    for path in folder.iterdir():
        os.close(open_own(path, os.O_RDONLY | os.O_NONBLOCK))


def is_own_folder(folder: Path) -> bool:
    """Whether a folder is there, ours, and nobody else's to write to."""
    try:
        found = folder.lstat()
        _check(folder, found)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode)


def _check_file(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise _refused(path, "is no file of its own: remove it")
    _check(path, found)


def _check(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise _refused(path, "belongs to another user: remove it, or choose another folder (--data DIR)")
    if found.st_mode & OTHERS_WRITE:
        raise _refused(path, f"others may write to it: look at what is there, then chmod go-w {path}")


def _refused(path: Path, why: str) -> PermissionError:
    return PermissionError(errno.EPERM, why, str(path))
