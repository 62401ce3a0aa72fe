"""Who wants to hear of a new truth; what they can't bear is a trouble, not an end."""

from collections.abc import Callable
from typing import Any

from marketswarm.bus import BusError
from marketswarm.exit import Exit
from marketswarm.truth import Truth


class Reseeding:
    """The callbacks of one agent. `unfit` says which of them could not go by the truth in force, and why."""

    def __init__(self, log: Any) -> None:
        self.unfit: str | None = None
        self._log = log
        self._callbacks: list[Callable[[Truth], None]] = []
        self._checks: list[Callable[[Truth], object]] = []

    def add(self, callback: Callable[[Truth], None], check: Callable[[Truth], object] | None = None) -> None:
        """Have it called with each new truth, and the check before that truth is in force."""
        self._callbacks.append(callback)
        if check is not None:
            self._checks.append(check)

    def refusal(self, truth: Truth) -> str | None:
        """Return why a check does not accept a truth, or None if all of them do."""
        for check in self._checks:
            try:
                check(truth)
            except (BusError, Exit, ValueError) as error:
                return str(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, the agent works on by the last truth
                self._log.exception("truth.unchecked")
                return type(error).__name__
        return None

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
