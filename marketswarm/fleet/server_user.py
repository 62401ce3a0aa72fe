"""Run a command as a user without rights where we are root: PostgreSQL refuses to run as root.

This file runs as a script in front of the real command (see `run_as`): it gives up the rights of root, then
replaces itself by the command (exec, so the pid stays the same). The kernel forgets the request of
`parent_death_guard` when a process changes its user, so it is made again here.
"""

import os
import pwd
import signal
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_NAMES = ("marketswarm", "postgres", "nobody")
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ServerUser:
    """Hold a user of this machine: its name and the ids of it and its group."""

    name: str
    uid: int
    gid: int


def find_server_user() -> ServerUser | None:
    """Return the user to run a server as, None for ourselves. Raises LookupError if root finds none."""
    if os.geteuid() != 0:
        return None
    for name in _NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return ServerUser(name, entry.pw_uid, entry.pw_gid)
    raise LookupError(f"none of the users {', '.join(_NAMES)} exists")


def run_as(user: ServerUser | None, command: Sequence[str]) -> list[str]:
    """Return the command line that runs `command` as `user`; the command itself for None."""
    if user is None:
        return list(command)
    return [sys.executable, "-I", "-S", __file__, str(user.uid), str(user.gid), *command]


def can_reach(user: ServerUser | None, path: Path) -> bool:
    """Return True if a user may enter every folder above `path`; None stands for ourselves, who may."""
    if user is None:
        return True
    return all(_may_enter(user, parent.stat()) for parent in path.absolute().parents)


def give_folder(user: ServerUser | None, folder: Path) -> None:
    """Make `folder` belong to a user alone (mode 0700); None stands for ourselves. It must exist.

    Raises PermissionError if it is a link, or belongs to somebody else than us or that user.
    """
    status = folder.lstat()
    owners = {os.geteuid()} | ({user.uid} if user else set())
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in owners:
        raise PermissionError(1, "is a link, or somebody else's: remove it", str(folder))
    folder.chmod(0o700)
    if user is not None:
        os.chown(folder, user.uid, user.gid, follow_symlinks=False)


def _may_enter(user: ServerUser, status: os.stat_result) -> bool:
    if status.st_uid == user.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == user.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _main(uid: str, gid: str, program: str, *rest: str) -> None:
    """Become a user without rights, then `program`. End with code 1 if the parent has died meanwhile."""
    import ctypes  # noqa: PLC0415 - needed in the child alone; that user may not be able to read it

    parent = os.getppid()
    os.setgroups([int(gid)])
    os.setresgid(int(gid), int(gid), int(gid))
    os.setresuid(int(uid), int(uid), int(uid))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    os.execvp(program, [program, *rest])  # noqa: S606 - becoming that program is the point


if __name__ == "__main__":
    _main(*sys.argv[1:])
