"""Do something in a thread while a `with` block runs."""

import threading
from abc import ABC, abstractmethod
from typing import Final, Self

END_SEC: Final = 15.0
"""How long the thread may take to end, in seconds."""


class Background(ABC):
    """A thread that runs while the `with` block does. `_run` returns soon after `_is_over` is set."""

    def __init__(self) -> None:
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(END_SEC)

    @abstractmethod
    def _run(self) -> None:
        """Do the work of the thread."""
