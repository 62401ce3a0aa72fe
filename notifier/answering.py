"""Who waits for an answer: each channel that an ask has something sent over is answered for once, as it goes.

Pure. The first attempt counts: what fails is tried again, but nobody waits at a terminal for that. Not here:
doing what was asked (`asking.py`).
"""

from marketswarm.attention import Answer
from notifier.deliver import Outcome


class Answering:
    """The answers that are due, by ask; `lines` hands them out."""

    def __init__(self) -> None:
        self._open: dict[str, set[tuple[str, str]]] = {}  # by ask, message and channel
        self._lines: dict[str, list[bytes]] = {}

    def expect(self, ask: str, ident: str, channel: str) -> None:
        """An ask waits for what becomes of a message over a channel."""
        self._open.setdefault(ask, set()).add((ident, channel))

    def say(self, ask: str, *, ok: bool, said: str, channel: str = "", where: str = "") -> None:
        """Answers; it is the last line if nothing else is open."""
        done = ask not in self._open
        answer = Answer(ok=ok, said=said[:1000], channel=channel[:200], where=where[:300], done=done)
        self._lines.setdefault(ask, []).append(answer.encode())

    def came(self, outcome: Outcome) -> None:
        """What became of an attempt; who waited for that hears it."""
        waited = outcome.message.id, outcome.channel
        for ask in [ask for ask, open_ones in self._open.items() if waited in open_ones]:
            self._settle(ask, *waited)
            said = _said(outcome)
            self.say(ask, ok=outcome.error is None, said=said, channel=outcome.channel, where=outcome.where)

    def put_off(self, ask: str, ident: str, channel: str, where: str, why: str) -> None:
        """A channel pauses: who asked need not wait for its end."""
        self._settle(ask, ident, channel)
        self.say(ask, ok=False, said=why, channel=channel, where=where)

    def lines(self) -> dict[str, list[bytes]]:
        """What is to be answered since this was last asked."""
        lines, self._lines = self._lines, {}
        return lines

    def _settle(self, ask: str, ident: str, channel: str) -> None:
        self._open[ask].discard((ident, channel))
        if not self._open[ask]:
            del self._open[ask]


def _said(outcome: Outcome) -> str:
    if outcome.receipt is not None:
        return outcome.receipt.answer or "accepted"
    reason = outcome.error.reason if outcome.error is not None else ""
    return reason if outcome.over else f"{reason}; it will be tried again"
