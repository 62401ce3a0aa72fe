"""Know how much the votes of two voters go together, from the last votes that both gave. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Final

import numpy as np

from services.signals.consensus.consensus import DIGITS, UNIT, Correlations, compute_opinion
from services.signals.log.entries import DECIDED
from services.tables.signal_places import parse_place

LEAST_COMMON: Final = 30
"""The votes that both voters of a pair must have given until their correlation counts."""
KEPT: Final = 1000
"""The evaluations that are kept."""
PLACES: Final = 6
"""The places to which a correlation is rounded."""
_STEP: Final = 10 ** (DIGITS - PLACES)


class CommonVotes:
    """Keep the opinions of the last KEPT evaluations, of whatever symbol, and correlate them by pairs."""

    def __init__(self, voters: Iterable[str]) -> None:
        self.voters = tuple(sorted(voters))
        self._opinions = np.full((KEPT, len(self.voters)), np.nan)
        self._next = 0

    def add(self, evaluations: Sequence[Mapping[str, int]]) -> None:
        """Add the opinions of evaluations, each by voter in UNIT; a voter that is missing abstained."""
        for opinions in evaluations[-KEPT:]:
            row = [opinions.get(name) for name in self.voters]
            self._opinions[self._next] = [np.nan if each is None else each / UNIT for each in row]
            self._next = (self._next + 1) % KEPT

    def correlate(self) -> dict[frozenset[str], int]:
        """Return the correlation of each pair with at least LEAST_COMMON common votes, to PLACES places.

        A pair of which one always had the same opinion has none.
        """
        found: dict[frozenset[str], int] = {}
        is_known = ~np.isnan(self._opinions)
        for first, second in combinations(range(len(self.voters)), 2):
            both = is_known[:, first] & is_known[:, second]
            if np.count_nonzero(both) < LEAST_COMMON:
                continue
            left, right = (self._opinions[both, column] for column in (first, second))
            left, right = left - left.mean(), right - right.mean()
            size = float(np.sqrt((left @ left) * (right @ right)))
            if size > 0:
                share = min(1.0, max(-1.0, float(left @ right) / size))
                pair = frozenset((self.voters[first], self.voters[second]))
                found[pair] = round(share * 10**PLACES) * _STEP
        return found


def list_opinions(places: Iterable[str], voters: Collection[str]) -> list[dict[str, int]]:
    """Return the opinions of stored evaluations, the oldest first, as `CommonVotes.add` takes them.

    `places` are the texts of places, the newest first. They are read up to the first one with other voters
    than `voters`: a change of the voters begins the votes anew. A place that can't be read is left out.
    """
    wanted, found = frozenset(voters), list[dict[str, int]]()
    for content in places:
        place = parse_place(content)
        if place is None or place.outcome not in DECIDED:
            continue
        if place.votes.keys() != wanted:
            break
        found.append(
            {
                name: compute_opinion(vote.direction, vote.strength, vote.confidence)
                for name, vote in place.votes.items()
                if vote.has_voted
            }
        )
    return found[::-1]


def name_pairs(correlations: Correlations) -> dict[str, int]:
    """Return correlations by a pair's text: both names in order, with a plus between."""
    return {"+".join(sorted(pair)): value for pair, value in correlations.items()}
