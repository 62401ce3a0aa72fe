"""Commands as a user runs them, and a notifier that gives scripted answers."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import orjson

from marketswarm.keys import NOTIFIER_REQUESTS, answers_key
from marketswarm.operator.requests import Answer, OperatorRequest
from support.leftovers import TAG
from support.rig import Server, forkserver

SERVICES = {"rss_agg": {"heartbeat": {"timeout_sec": 30}}, "mesh": {}, "healer": {}}


class Shell:
    """A folder with a truth.json, and an environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {"PATH": os.environ["PATH"], TAG: os.environ[TAG], "COLUMNS": "80"}
        self.write({"services": SERVICES})

    def write(self, truth: Any) -> None:
        (self.folder / "truth.json").write_bytes(truth if isinstance(truth, bytes) else orjson.dumps(truth))

    def said(self, *words: str, **env: str) -> str:
        """Run a command that must succeed; return what it prints."""
        done = self(*words, **env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def __call__(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        environ = self.env | env
        if forkserver.startable(environ):
            return forkserver.run("marketswarm", words, env=environ, cwd=self.folder, timeout=30)
        return subprocess.run(
            [sys.executable, "-m", "marketswarm", *words],
            cwd=self.folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    @contextlib.contextmanager
    def start(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [sys.executable, "-m", "marketswarm", *words],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as command:
            try:
                yield command
            finally:
                command.kill()


class AnswersAsks:
    """Reads `notifier:asks` of some servers, and gives each request once the same answers on each of them."""

    def __init__(self, servers: Sequence[Server], *answers: Answer) -> None:
        self.servers, self.answers = servers, answers
        self.asked: dict[str, OperatorRequest] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._end.is_set():
            for server in self.servers:
                for _, fields in server.cmd("XRANGE", NOTIFIER_REQUESTS, "-", "+"):
                    ask = OperatorRequest.parse(fields["ask"].encode())
                    if ask is not None and ask.id not in self.asked:
                        self.asked[ask.id] = ask
                        self.answer(ask)
            time.sleep(0.01)

    def answer(self, ask: OperatorRequest) -> None:
        """Put the answers to one ask on every server."""
        for server in self.servers:
            server.cmd("RPUSH", answers_key(ask.id), *(answer.encode() for answer in self.answers))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
