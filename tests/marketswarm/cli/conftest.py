"""A folder to type commands in, with two real servers or without."""

import contextlib
import gc
import io
import os
import subprocess
import sys
import warnings
from unittest.mock import patch

import pytest

from marketswarm.cli import app, event_loop
from support.rig import Server, forkserver
from support.rig.shell import Shell


OWN_PROCESS = ("exec", "alerts", "open")
"""Commands that end with their process: they set handlers of signals, or start another program."""


class InProcessShell(Shell):
    """A shell whose commands run in this process; `start` gives one a process of its own.

    So do `OWN_PROCESS`, and an environment that is the interpreter's business, such as a locale.
    """

    def __call__(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        environ = self.env | env
        if words[0] in OWN_PROCESS or not forkserver.startable(environ):
            return super().__call__(*words, **env)
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        with (
            patch.dict(os.environ, environ, clear=True),
            patch.object(sys, "argv", ["marketswarm", *words]),
            patch.object(sys, "path", [*sys.path]),
            patch.object(event_loop, "end_process", sys.exit),  # the real one ends this process
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", ResourceWarning)  # a process ends with its connections
            code = _run()
            gc.collect()
        for stream in (out, err):
            stream.flush()
        shown = (stream.buffer.getvalue().decode() for stream in (out, err))
        return subprocess.CompletedProcess(words, code, *shown)


def _run() -> int:
    try:
        app.main()
    except SystemExit as end:
        return int(end.code or 0)


@pytest.fixture
def shell(tmp_path):
    return InProcessShell(tmp_path)


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("buses")
    with Server(folder / "system") as system, Server(folder / "market") as market:
        yield system, market


@pytest.fixture
def buses(servers, shell):
    """Two servers that run and hold nothing; a test may stop, freeze and start them."""
    for server in servers:
        if not server.running:
            server.start()
        server.thaw()
        server.cmd("CONFIG", "SET", "min-replicas-to-write", "0")
        server.cmd("FLUSHALL")
    system, market = servers
    shell.env |= {"SYSTEM_REDIS_URL": system.url, "MARKET_REDIS_URL": market.url}
    return servers


@pytest.fixture
def seeded(shell, buses):
    assert shell("seed").returncode == 0
    return buses
