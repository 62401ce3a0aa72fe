"""What is said of a command to the bus: beats while it runs, or one when it has done well.

Each speaks from a thread of its own, so that no bus holds up the command, and bounds how long its end may
wait for one. Both leave the run in `run:<svc>`.
"""

import signal
import threading
import time
from collections.abc import Callable
from typing import Final

from marketswarm.cli.last_run import KEPT_SEC, Run
from marketswarm.cli.post import Post
from marketswarm.cli.wire import AwayError
from marketswarm.exit import Exit

GOODBYE_SEC: Final = 1.0
SHORT_GOODBYE_SEC: Final = 0.25  # to a bus that did not take the last beat either
LAST_WORD_SEC: Final = (
    10.0  # the one beat of a success is worth some waiting: without it there will be a miss
)
_AGAIN_SEC: Final = 0.5


class Throughout:
    """Beats from `begin` to `end`, then a goodbye with how it ended."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._over = threading.Event()
        self._trouble: str | None = None
        self._run: Run | None = None
        self._runs = False  # it did, if it could be started
        self._thread = threading.Thread(target=self._speak, name="beats", daemon=True)

    def begin(self) -> None:
        """The command runs."""
        self._runs = True
        self._thread.start()

    def end(self, run: Run) -> str | None:
        """The command has ended; why that could not be told, or None."""
        self._run = run
        self._over.set()
        if not self._runs:
            self._thread.start()
        self._thread.join(GOODBYE_SEC if self._trouble is None else SHORT_GOODBYE_SEC)
        return self._trouble or ("no answer in time" if self._thread.is_alive() else None)

    def _speak(self) -> None:
        _leave_signals_to_the_main_thread()
        due = time.monotonic()
        while self._runs:
            self._trouble = _tried(self._beat, self._post)
            due = max(due + self._post.to.interval_sec, time.monotonic())
            if self._over.wait(due - time.monotonic()):
                break
        self._post.reconnect()
        self._trouble = _tried(self._last_words, self._post)

    def _beat(self) -> None:
        self._post.look()
        self._post.beat(every_sec=self._post.to.interval_sec)

    def _last_words(self) -> None:
        assert self._run is not None  # noqa: S101 - it is over
        if self._runs:
            self._post.beat("stopping", self._run.said)
        else:
            self._post.look()
        _keep(self._post, self._run)


class Once:
    """One beat if the command ends well, and none otherwise."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._trouble: str | None = None

    def begin(self) -> None:
        """The command runs; that is nobody's business."""

    def end(self, run: Run) -> str | None:
        """The command has ended; why that could not be told, or None."""
        thread = threading.Thread(target=self._speak, args=(run,), name="beat", daemon=True)
        thread.start()
        thread.join(LAST_WORD_SEC)
        return self._trouble or ("no answer in time" if thread.is_alive() else None)

    def _speak(self, run: Run) -> None:
        _leave_signals_to_the_main_thread()
        until = time.monotonic() + LAST_WORD_SEC - _AGAIN_SEC
        while True:
            self._trouble = _tried(lambda: _outcome(self._post, run), self._post)
            if self._trouble is None or time.monotonic() > until:
                return
            time.sleep(_AGAIN_SEC)


def _outcome(post: Post, run: Run) -> None:
    post.look()
    if run.ok:
        post.beat(detail=run.said)
    _keep(post, run)


def _keep(post: Post, run: Run) -> None:
    post.keep(f"run:{post.svc}", run.encode(post.svc), max(KEPT_SEC, 2 * post.to.timeout_sec))


def _tried(work: Callable[[], object], post: Post) -> str | None:
    """Why it did not work, or None."""
    try:
        work()
    except AwayError as error:
        return f"{post.to.bus} at {error}"
    except Exit as error:
        return error.message
    return None


def _leave_signals_to_the_main_thread() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
