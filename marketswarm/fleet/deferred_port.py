"""Starts a server that lets nobody in before it has read its data, then gets out of the way.

Redis 7.0 to 8.2 and some of Valkey replay their append-only file as `default`, and ask its permissions again
for what was written in one transaction or by one script: where `default` may only look, all of that is lost
(redis/redis issue 14541). So the server begins with a `default` that may do anything and no port, only a
socket in its own folder. Once the data is read, a process beside it makes `default` what it is to be, opens
the port, and ends.

Run as a script in front of the real command (see `defer_port`), which takes its place under the same pid.
"""

import os
import signal
import socket
import sys
import time
from pathlib import Path

OPEN = "open.acl"
LINK = "gate.acl"
SOCKET = "gate.sock"
_GATE = "gate"
_LOOK_EVERY_SEC = 0.005
_ANSWER_WITHIN_SEC = 5.0


def defer_port(command: list[str], port: int, folder: Path, users: str) -> list[str]:
    """The command to start instead of `command`, a server's without port.

    It listens on `port` once it has its data, with the users of the ACL file `users` in `folder`.
    """
    mine = [sys.executable, "-I", "-S", __file__, str(folder.absolute()), str(port), users]
    closed = ["--port", "0", "--unixsocket", SOCKET, "--unixsocketperm", "700", "--aclfile", LINK]
    return [*mine, *command, *closed]


class _Refused(Exception):  # noqa: N818 - an answer
    """The server did not do as it was told."""


def _main(folder: str, port: str, users: str, *command: str) -> None:
    os.chdir(folder)
    key = os.urandom(32).hex()
    Path(OPEN).unlink(missing_ok=True)
    with os.fdopen(os.open(OPEN, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"user {name} ~* &* +@all\n" for name in ("default on nopass", f"{_GATE} on >{key}"))
    _lead_to(OPEN)
    Path(SOCKET).unlink(missing_ok=True)
    server = os.getpid()
    beside = os.fork()
    if not beside:
        if not os.fork():  # nobody's child: the server would have to see it buried
            _open(server, key, port, users)
        os._exit(0)
    os.waitpid(beside, 0)
    os.execvp(command[0], command)  # noqa: S606 - becoming that program is the point


def _open(server: int, key: str, port: str, users: str) -> None:
    """Opens the gate of a server as soon as it has its data; one that refuses to is ended."""
    try:
        _say_all(server, key, port, users)
    except (OSError, _Refused, StopIteration) as error:
        sys.stderr.write(f"the port stays closed: {type(error).__name__} {error}\n")  # the log of this start
        if _lives(server):
            os.kill(server, signal.SIGTERM)
    os._exit(0)


def _say_all(server: int, key: str, port: str, users: str) -> None:
    while (there := _loaded()) is None:
        if not _lives(server):
            return
        time.sleep(_LOOK_EVERY_SEC)
    lines = (line.split() for line in Path(users).read_text("utf-8").splitlines())
    default = next(words for words in lines if words[1:2] == ["default"])
    with there:
        _say(there, "AUTH", _GATE, key)
        _say(there, "ACL", "SETUSER", *default[1:])  # it may no more than look from here on
        _say(there, "CONFIG", "SET", "port", port)
        _lead_to(users)
        Path(OPEN).unlink()
        _say(there, "ACL", "LOAD")  # the last that this user can say


def _loaded() -> socket.socket | None:
    """A connection to the server, once it answers."""
    there = socket.socket(socket.AF_UNIX)
    there.settimeout(_ANSWER_WITHIN_SEC)
    try:
        there.connect(SOCKET)
        _say(there, "PING")
    except (OSError, _Refused):  # not there yet, or still loading
        there.close()
        return None
    return there


def _say(there: socket.socket, *words: str) -> None:
    """Raises _Refused at any answer but a good one. The last word may close the connection."""
    raw = [word.encode() for word in words]
    there.sendall(b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in raw))
    answer = there.recv(1024)
    if not answer.startswith(b"+") and (answer or words != ("ACL", "LOAD")):
        raise _Refused(f"{' '.join(words[:2])}: {answer.decode(errors='replace').strip()}")


def _lead_to(users: str) -> None:
    draft = Path(f"{LINK}.new")
    draft.unlink(missing_ok=True)
    draft.symlink_to(users)
    draft.replace(LINK)


def _lives(server: int) -> bool:
    try:
        os.kill(server, 0)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    _main(*sys.argv[1:])
