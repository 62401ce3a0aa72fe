"""A folder to type commands in, with two real servers or without."""

import contextlib
import gc
import io
import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from unittest.mock import patch

import pytest
import structlog

from marketswarm.cli import app, event_loop
from support.postgres import archive_url, postgres
from support.rig import Server, forkserver
from support.rig.shell import Shell

__all__ = ["archive_url", "postgres"]

OWN_PROCESS = ("exec", "alerts", "open")
"""Commands that end with their process: they set handlers of signals, or start another program."""


class InProcessShell(Shell):
    """A shell whose commands run in this process; `start` gives one a process of its own.

    So do `OWN_PROCESS`, and an environment that is the interpreter's business, such as a locale.
    """

    def __call__(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        environ = self.env | env
        if words[0] in OWN_PROCESS or not forkserver.startable(environ.keys() - {"TZ", "PYTHONIOENCODING"}):
            return super().__call__(*words, **env)
        letters = environ.get("PYTHONIOENCODING", "utf-8")
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding=letters) for _ in range(2))
        with (
            patch.dict(os.environ, environ, clear=True),
            patch.object(sys, "argv", ["marketswarm", *words]),
            patch.object(sys, "path", [*sys.path]),
            patch.object(event_loop, "end_process", sys.exit),  # the real one ends this process
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
            _logging_put_back(),
        ):
            warnings.simplefilter("ignore", ResourceWarning)  # a process ends with its connections
            time.tzset()
            code = _run()
            gc.collect()
        time.tzset()
        for stream in (out, err):
            stream.flush()
        shown = (stream.buffer.getvalue().decode(letters) for stream in (out, err))
        return subprocess.CompletedProcess(words, code, *shown)

    @contextlib.contextmanager
    def start(self, *words: str) -> "Iterator[subprocess.Popen[str] | forkserver.Forked]":
        if not forkserver.startable(self.env):
            with super().start(*words) as command:
                yield command
            return
        (out, their_out), (err, their_err) = os.pipe(), os.pipe()
        with open(out, encoding="utf-8") as stdout, open(err, encoding="utf-8") as stderr:  # noqa: PTH123
            with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - descriptors are wanted
                descriptors = nothing.fileno(), their_out, their_err
                command = forkserver.start(
                    "marketswarm", words, env=self.env, cwd=self.folder, descriptors=descriptors
                )
            os.close(their_out)
            os.close(their_err)
            command.stdout, command.stderr = stdout, stderr
            try:
                yield command
            finally:
                command.kill()
                command.wait(10)


@contextlib.contextmanager
def _logging_put_back() -> Iterator[None]:
    root, config = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    try:
        yield
    finally:
        root.handlers, root.level = handlers, level
        structlog.configure(**config)


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
        server.password = None
        if server.running:
            server.thaw()
        else:
            server.start()
        server.cmd("CONFIG", "SET", "min-replicas-to-write", "0")
        server.cmd("FLUSHALL")
    system, market = servers
    shell.env |= {"SYSTEM_REDIS_URL": system.url, "MARKET_REDIS_URL": market.url}
    return servers


@pytest.fixture
def seeded(shell, buses):
    assert shell("seed").returncode == 0
    return buses
