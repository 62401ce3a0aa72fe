"""Arithmetic of stretches of time: pairs of a start and an end in seconds. Pure; merged lists are sorted."""

import bisect
from collections.abc import Iterable, Iterator

Stretch = tuple[float, float]


def merged(found: Iterable[Stretch]) -> list[Stretch]:
    """The same time as few stretches, none of which touch."""
    out: list[Stretch] = []
    for start, end in sorted(found):
        if out and start <= out[-1][1]:
            out[-1] = out[-1][0], max(out[-1][1], end)
        elif end > start:
            out.append((start, end))
    return out


def without(whole: Iterable[Stretch], holes: list[Stretch]) -> list[Stretch]:
    """What is left of `whole`; both are merged."""
    out: list[Stretch] = []
    for start, end in whole:
        at = start
        for hole_start, hole_end in touching(holes, start, end):
            if hole_start > at:
                out.append((at, hole_start))
            at = max(at, hole_end)
        if at < end:
            out.append((at, end))
    return out


def common(one: list[Stretch], other: list[Stretch]) -> list[Stretch]:
    """What lies in both; both are merged."""
    return [
        (max(start, begin), min(end, finish))
        for start, end in one
        for begin, finish in touching(other, start, end)
        if max(start, begin) < min(end, finish)
    ]


def touching(found: list[Stretch], start: float, end: float) -> Iterator[Stretch]:
    """Those of a merged list that have something in common with start..end."""
    first = max(0, bisect.bisect_left(found, (start, start)) - 1)
    for stretch in found[first:]:
        if stretch[0] > end:
            return
        if stretch[1] >= start:
            yield stretch


def around(found: list[Stretch], at: float) -> Stretch | None:
    """The stretch of a merged list in which that moment lies."""
    return next(touching(found, at, at), None)


def total(found: Iterable[Stretch]) -> float:
    return sum(end - start for start, end in found)


def longest(found: Iterable[Stretch]) -> float:
    return max((end - start for start, end in found), default=0.0)
