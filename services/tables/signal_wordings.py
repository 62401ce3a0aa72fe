"""Describe how a signal was worded by a model: its row beside the log, its entry for followers. Pure.

The text is a model's: it may say anything, so it is one line, printable and short, wherever it is read.
"""

from typing import Final, NamedTuple

from marketswarm.text import escape_text
from services.market.fields import (
    MAX_COUNT,
    EntryError,
    Fields,
    cut_text,
    read_count,
    read_symbol,
    read_text,
    read_time,
)
from services.tables.rows import Time
from services.tables.signals import SIDES, parse_signal_id

MAX_WORDING: Final = 200
"""The characters of a text that are kept."""
MAX_MODEL: Final = 200
SELECT_WORDING: Final = """
select text, model, (extract(epoch from wording.at) * 1000)::bigint from signal_wordings as wording
where tick = $1::bigint and symbol = $2::text"""
"""Selects a Wording by the tick and the symbol of its signal."""


class Wording(NamedTuple):
    """The reason of a signal in a model's words; `at` is when they came, in epoch milliseconds."""

    text: str
    model: str
    at: Time

    def escape(self) -> "Wording":
        """Return it with texts that are short and printable, whatever is stored."""
        return Wording(escape_text(self.text[:MAX_WORDING]), escape_text(self.model[:MAX_MODEL]), self.at)


class WordedSignal(NamedTuple):
    """Which signal was worded, and how: an entry of `signals:wordings`."""

    id: str
    tick: int
    symbol: str
    side: str
    wording: Wording


def make_wording_fields(one: WordedSignal) -> dict[str, str]:
    """Return the fields of an entry of `signals:wordings`."""
    return {
        "id": one.id,
        "tick": str(one.tick),
        "at": str(one.wording.at),
        "sym": one.symbol,
        "side": one.side,
        "model": one.wording.model,
        "text": one.wording.text,
    }


def parse_wording_fields(fields: Fields) -> WordedSignal:
    """Return what an entry of `signals:wordings` says, its texts printable. Raises EntryError."""
    ident, side = parse_signal_id(read_text(fields, b"id", "")), read_text(fields, b"side", "")
    if ident is None:
        raise EntryError("id: no id of a signal")
    if side not in SIDES:
        raise EntryError("side: none of ours")
    tick = read_count(fields, b"tick", MAX_COUNT)
    if not tick:
        raise EntryError("tick: no number of a tick")
    text, model = cut_text(fields, b"text", MAX_WORDING), cut_text(fields, b"model", MAX_MODEL)
    if text is None or model is None:
        raise EntryError("text, model: one is missing")
    wording = Wording(text, model, read_time(fields, b"at")).escape()
    return WordedSignal(ident, tick, read_symbol(fields), side, wording)
