"""Find circular dependencies. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

from marketswarm.truth.errors import format_value

NAMES_AT_MOST = 10
"""A circle of more names than this is shown with its first and last ones."""


def find_cycles(needs: Mapping[str, Iterable[str]]) -> Iterator[tuple[str, ...]]:
    """Yield each circle of dependencies as its names, each one before the one that it needs.

    `needs` are by name; what is not a name of its own is left out, and so is a name that needs itself. A
    circle begins with its first name in `needs`. The sorter reports one circle at a time: its last dependency
    is then taken out of the graph.
    """
    rank = {name: index for index, name in enumerate(needs)}
    graph = {
        name: dict.fromkeys(each for each in found if each in rank and each != name)
        for name, found in needs.items()
    }
    while True:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            cycle = error.args[1][:0:-1]  # the sorter lists a name before the ones that need it
        else:
            return
        first = min(range(len(cycle)), key=lambda index: rank[cycle[index]])
        cycle = [*cycle[first:], *cycle[:first]]
        yield tuple(cycle)
        del graph[cycle[-1]][cycle[0]]


def format_cycle(cycle: tuple[str, ...]) -> str:
    """Return `"a" → "b" → "a"`."""
    names = [format_value(name) for name in (*cycle, cycle[0])]
    return " → ".join(names if len(names) <= NAMES_AT_MOST else [*names[:5], "…", *names[-4:]])
