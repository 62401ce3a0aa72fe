import contextlib

from services.board.market.correlations import MAX_SYMBOLS, make_heat_map, read_heat_map
from services.board.market.pictures import find_heat

PAIRS = [("2026-01-05", "A", "B", 0.5, 60, False), ("2026-01-06", "A", "C", -1.0, 9, True)]


class Archive:
    """Pairs of a symbol with many others."""

    def __init__(self, count):
        self.names = [f"S{number:03}" for number in range(count)]

    @contextlib.asynccontextmanager
    async def limit_answer(self):
        yield

    async def read_correlated_symbols(self, limit, _as_of_ms=None):
        return self.names[:limit]

    async def read_correlations(self, _day, symbols, _limit, *, as_of_ms):
        assert as_of_ms is None
        return [("2026-01-05", symbols[0], other, 0.5, 60, False) for other in symbols[1:]]


def test_a_heat_map_is_symmetric_and_says_what_is_of_a_replay():
    heat = make_heat_map(["A", "B", "C"], PAIRS, has_more=False)
    values = [[cell.value for cell in row.cells] for row in heat.rows]
    assert values == [[1.0, 0.5, -1.0], [0.5, 1.0, None], [-1.0, None, 1.0]]
    assert [[cell.symbol for cell in row.cells] for row in heat.rows] == [["A", "B", "C"]] * 3
    assert [cell.replay for cell in heat.rows[2].cells] == [True, False, False]
    assert [cell.day for cell in heat.rows[0].cells] == [None, "2026-01-05", "2026-01-06"]
    assert (heat.day, heat.is_replay, heat.has_more) == ("2026-01-06", True, False)
    assert [find_heat(each) for each in (-1.0, 0.05, 0.95, None)] == ["h-5", "h0", "h5", "h-none"]


def test_pairs_of_different_days_stand_under_the_range_of_their_days():
    assert make_heat_map(["A", "B", "C"], PAIRS, has_more=False).days == (
        "each pair up to its newest day (2026-01-05 to 2026-01-06)"
    )
    assert make_heat_map(["A", "B"], PAIRS[:1], has_more=False).days == "up to 2026-01-05"
    assert make_heat_map([], [], has_more=False).days == ""


async def test_a_heat_map_has_the_first_symbols_and_says_that_there_are_more():
    archive = Archive(100)
    heat = await read_heat_map(archive)
    assert [row.symbol for row in heat.rows] == archive.names[:MAX_SYMBOLS]
    assert heat.has_more
    assert not (await read_heat_map(Archive(MAX_SYMBOLS))).has_more
