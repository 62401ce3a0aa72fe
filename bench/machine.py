"""Describe the machine and the commit that figures are made on."""

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Final

from bench.programs import ROOT
from marketswarm.fleet.server import find_binary

WRITTEN: Final = "docs/performance*"
"""The files that benches write."""


def describe_machine() -> dict[str, str]:
    """Return the processor, its cores for this process, and the versions of Python and of the server."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    server = find_binary()
    version = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout
    number = re.search(r"v=(\S+)", version)
    return {
        "processor": found[1] if found else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "Python": platform.python_version(),
        server.name: number[1] if number else version.strip(),
    }


def find_commit() -> str:
    """Return the short id of the commit, with `+` if files differ from it; `unknown` without git.

    What benches write themselves may differ, so that one run after the other is of the same commit.
    """
    try:
        commit = _ask_git("rev-parse", "--short=10", "HEAD")
        changed = _ask_git("status", "--porcelain", "--untracked-files=no", "--", ".", f":(exclude){WRITTEN}")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}+" if changed else commit


def _ask_git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
