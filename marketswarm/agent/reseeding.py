"""Who wants to hear of a new truth; what they can't bear is a trouble, not an end."""

from collections.abc import Callable
from typing import Any

from marketswarm.exit import Exit
from marketswarm.truth import Truth


class Reseeding:
    """The callbacks of one agent. `unfit` says which of them could not go by the truth in force, and why."""

    def __init__(self, log: Any) -> None:
        self.unfit: str | None = None
        self._log = log
        self._callbacks: list[Callable[[Truth], None]] = []

    def add(self, callback: Callable[[Truth], None]) -> None:
        """Have it called with each new truth."""
        self._callbacks.append(callback)

    def tell(self, truth: Truth, revision: int | None) -> None:
        """Call them all, in the order in which they came."""
        self.unfit = None
        for callback in self._callbacks:
            try:
                callback(truth)
            except Exit as refusal:
                self._log.warning("truth.unfit", revision=revision, why=refusal.message)
                self.unfit = f"can't go by revision {revision}: {refusal.message}"
            except Exception as error:  # noqa: BLE001 - whatever it is, the agent works on
                self._log.exception("truth.unfit", revision=revision)
                self.unfit = f"can't go by revision {revision}: {type(error).__name__}"
