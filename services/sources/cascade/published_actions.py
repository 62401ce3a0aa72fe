"""Decide which actions of an answer are published, and which that were published are withdrawn. Pure.

The actions of a share are a list that must be right as a whole: one too many is a return that nobody had. So
each answer has all of them, and what an answer does not name any more is withdrawn. Sources date the same
dividend differently, so a source adds nothing to the time that one before it in the cascade has settled.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from services.market.actions import find_day, find_day_ms
from services.market.records import DAY_MS, ActionKind, CorporateAction
from services.sources.cascade.series import Series, is_wrong_as_whole
from services.sources.cascade.state import SeriesState, SourceFinding

ActionKey = tuple[date, ActionKind]
"""By which an action of a share is known."""
_KINDS: Final = tuple(ActionKind)
_OF_ALL_SOURCES: Final = frozenset({ActionKind.SPLIT, ActionKind.DIVIDEND})
"""The kinds that every source has: only of these does it say something that a source does not name one."""
_STORED: Final = re.compile(rb"([0-9a-f]{1,14})([0-9a-f])\|([^|;]{1,40})\|([^|;]{1,40});")


@dataclass(frozen=True, slots=True)
class ChosenActions:
    """Hold what an answer changes.

    Attributes:
        records: the actions to publish; those that are known already change nothing.
        withdrawn: those that are none any more, without a value.
        unexplained: how many of those that were published the answer lacks, although they stay: so many that
            it is most likely the answer that is wrong.
    """

    records: tuple[CorporateAction, ...]
    withdrawn: tuple[CorporateAction, ...] = ()
    unexplained: int = 0


def encode_identity(action: CorporateAction, width_ms: int) -> str:
    """Return by what an action is known in its bucket: hexadecimal digits, the last of which is its kind."""
    return f"{find_day_ms(action.ex_day) % width_ms:x}{_KINDS.index(action.kind):x}"


def parse_bucket(name: bytes, stored: bytes, width_ms: int) -> Iterator[tuple[ActionKey, str, str]]:
    """Yield the key, the short name of the source, and the digest of each action of a bucket."""
    if re.fullmatch(rb"-?\d{1,6}", name) is None:
        return
    for match in _STORED.finditer(stored):
        kind = int(match[2], 16)
        if kind < len(_KINDS):
            day = find_day(int(name) * width_ms + int(match[1], 16) % width_ms)
            yield (
                (day, _KINDS[kind]),
                match[3].decode("ascii", "replace"),
                match[4].decode("ascii", "replace"),
            )


def choose_actions(
    series: Series, state: SeriesState, served: SourceFinding, published: Mapping[ActionKey, str]
) -> ChosenActions:
    """Return which actions of the source that serves are published, and which others are withdrawn.

    `published` has the source of each action that was published and not withdrawn; one that the cascade does
    not name any more is after all others.
    """
    earlier = series.sources[: series.sources.index(served.source)]
    attempts = (state.attempts.get(source) for source in earlier)
    known_until = (attempt.newest_ms for attempt in attempts if attempt and attempt.newest_ms is not None)
    settled_ms = max(known_until, default=None)
    actions = [each for each in served.records if isinstance(each, CorporateAction)]
    records = tuple(
        each for each in actions if settled_ms is None or find_day_ms(each.ex_day) + DAY_MS > settled_ms
    )
    since_ms = served.answer.since_ms
    answer = served.answer
    is_whole = not (answer.misfits or served.set_aside or answer.parts_left or answer.lacks_optional)
    if since_ms is None or not is_whole:
        return ChosenActions(records)
    named = {(each.ex_day, each.kind) for each in actions}
    within = {key: source for key, source in published.items() if find_day_ms(key[0]) >= since_ms}
    own = [key for key, source in within.items() if source == served.source]
    gone = [key for key in own if key not in named]
    later = [key for key, source in within.items() if source not in (served.source, *earlier)]
    others = [key for key in later if key not in named and key[1] in _OF_ALL_SOURCES]
    unexplained = 0
    if is_wrong_as_whole(len(gone), len(own)):
        gone, unexplained = [], len(gone)
    if not actions:
        others, unexplained = [], unexplained + len(others)
    withdrawn = (CorporateAction(series.symbol, kind, day) for day, kind in sorted([*gone, *others]))
    return ChosenActions(records, tuple(withdrawn), unexplained)
