"""Start a server that opens its port only after it has read its data.

Redis 7.0 to 8.2 and some of Valkey replay their append-only file as `default`, and ask its permissions again
for what was written in one transaction or by one script: where `default` may only read, all of that is lost
(redis/redis issue 14541). So the server begins with a `default` that may do anything and no port, only a
socket in its own folder. Once the data is read, a second process sets the permissions of all users, opens the
port, and ends.

Run as a script in front of the real command (see `defer_port`), which takes its place under the same pid.
"""

import os
import signal
import socket
import sys
import time
from pathlib import Path

OPEN_ACL = "open.acl"
ACL_LINK = "gate.acl"
SOCKET_NAME = "gate.sock"
_GATE_USER = "gate"
_POLL_EVERY_SEC = 0.005
_ANSWER_WITHIN_SEC = 5.0


def defer_port(
    command: list[str], port: int, folder: Path, users: str, *, directive: str = "port"
) -> list[str]:
    """Return the command line that starts a server and opens its port after it has read its data.

    `command` runs the server without its port; `users` the name of the ACL file in its data folder.
    `directive` is `tls-port` for a port that speaks TLS alone.
    """
    guard = [sys.executable, "-I", "-S", __file__, str(folder.absolute()), f"{directive}={port}", users]
    closed = ["--port", "0", "--unixsocket", SOCKET_NAME, "--unixsocketperm", "700", "--aclfile", ACL_LINK]
    return [*guard, *command, *closed]


class _CommandRefusedError(Exception):
    """The server answered a command with an error."""


def _main(folder: str, port: str, users: str, *command: str) -> None:
    """Become the server, without a port and with a user of our own; a process beside it opens the port.

    What an earlier server left of its socket and its open ACL file is deleted. The processes between the two
    end at once.
    """
    os.chdir(folder)
    key = os.urandom(32).hex()
    Path(OPEN_ACL).unlink(missing_ok=True)
    with os.fdopen(os.open(OPEN_ACL, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(
            f"user {name} ~* &* +@all\n" for name in ("default on nopass", f"{_GATE_USER} on >{key}")
        )
    _point_link_to(OPEN_ACL)
    Path(SOCKET_NAME).unlink(missing_ok=True)
    server = os.getpid()
    helper_pid = os.fork()
    if not helper_pid:
        if not os.fork():  # a grandchild, which init reaps: the server would not
            _open_port(server, key, port, users)
        os._exit(0)
    os.waitpid(helper_pid, 0)
    os.execvp(command[0], command)  # noqa: S606 - becoming that program is the point


def _open_port(server: int, key: str, port: str, users: str) -> None:
    """Open the port once the server has read its data, then end; if that fails, end the server, too."""
    try:
        _send_commands(server, key, port, users)
    except (OSError, _CommandRefusedError) as error:
        sys.stderr.write(f"the port stays closed: {type(error).__name__} {error}\n")  # the log of this start
        if _is_running(server):
            os.kill(server, signal.SIGTERM)
    os._exit(0)


def _send_commands(server: int, key: str, port: str, users: str) -> None:
    """Wait until the server has read its data, then set its users and open its port, unless it ends first.

    `port` is the directive and the number, `key` the password of the user `gate`, `users` the name of the
    ACL file. The file by which anyone may do anything is deleted before the port is open.
    """
    while (connection := _connect_when_loaded()) is None:
        if not _is_running(server):
            return
        time.sleep(_POLL_EVERY_SEC)
    lines = [line.split() for line in Path(users).read_text("utf-8").splitlines() if line.strip()]
    if ["user", "default"] not in (words[:2] for words in lines):
        raise _CommandRefusedError(f"{users} has no line for default")
    with connection:
        _send(connection, "AUTH", _GATE_USER, key)
        # before the port is open, so that the first client needs a user, and `default` may only read
        for _, name, *rules in lines:
            _send(connection, "ACL", "SETUSER", name, "reset", *rules)
        _point_link_to(users)
        Path(OPEN_ACL).unlink()
        _send(connection, "CONFIG", "SET", *port.split("="))
        # not ACL LOAD: that disconnects everyone who is there since the port is open
        _send(connection, "ACL", "DELUSER", _GATE_USER)


def _connect_when_loaded() -> socket.socket | None:
    """Return a connection to the server's socket; None while the server starts or loads its data."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_ANSWER_WITHIN_SEC)
    try:
        connection.connect(SOCKET_NAME)
        _send(connection, "PING")
    except (OSError, _CommandRefusedError):  # not started yet, or still loading
        connection.close()
        return None
    return connection


def _send(connection: socket.socket, *words: str) -> None:
    """Send a command and read the answer. Raise _CommandRefusedError unless it is a success."""
    raw = [word.encode() for word in words]
    connection.sendall(b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in raw))
    answer = connection.recv(1024)
    if not answer.startswith((b"+", b":1")):
        raise _CommandRefusedError(f"{' '.join(words[:2])}: {answer.decode(errors='replace').strip()}")


def _point_link_to(users: str) -> None:
    """Make `gate.acl`, the server's ACL file, a link to the file `users`, in one step; drop an old draft."""
    draft = Path(f"{ACL_LINK}.new")
    draft.unlink(missing_ok=True)
    draft.symlink_to(users)
    draft.replace(ACL_LINK)


def _is_running(server: int) -> bool:
    try:
        os.kill(server, 0)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    _main(*sys.argv[1:])
