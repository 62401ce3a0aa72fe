"""What may be missing, with a clock moved by hand; against a world that knows what was told to whom."""

from hypothesis import given
from hypothesis import strategies as st

from services.massive.market.bars import MINUTE_MS, Bar
from services.massive.market.gaps import NOWHERE, Gap, Gaps, Mark

M = MINUTE_MS
T0 = 29_900_000 * M
REACH = 1000 * M


def bar(n, sym="A"):
    return Bar(sym, T0 + n * M, 1, 1, 1, 1, 1, None, "ws")


def where(marks):
    return [(mark.sym, mark.upto) for mark in marks]


def held(line, mark, now, sym="A"):
    return line.held(sym, mark, now, now)


def gaps(delay_ms=0.0, settle_ms=1000.0, reach_ms=REACH):
    return Gaps(delay_ms, settle_ms, reach_ms)


def test_a_symbol_that_is_new_has_missed_nothing():
    line = gaps()
    assert held(line, None, T0 + 30_000) == Mark("A", NOWHERE, T0 - M)
    assert line.open == 0
    assert where(line.heard([bar(0), bar(1)])) == [("A", T0 + M)]


def test_of_a_new_symbol_all_is_owed_that_was_told_since_it_was_asked_for():
    """Its first bars may wait to be read while the bus is away, and then we may be killed."""
    line = gaps()
    assert line.held("A", None, T0 + 5 * M, T0 + 30_000) == Mark("A", NOWHERE, T0 - M)
    line = gaps()
    assert line.held("A", None, T0 + 500, T0 + 500) == Mark("A", NOWHERE, T0 - 2 * M)  # a minute just ended


def test_what_ended_since_the_mark_is_a_gap_once_it_has_settled():
    line = gaps()
    assert held(line, T0 - M, T0 + 5 * M + 30_000) is None
    assert (line.open, line.due(T0 + 5 * M + 30_000), line.next_sec(T0 + 5 * M + 30_000)) == (1, [], 2.0)
    assert line.due(T0 + 5 * M + 32_000) == [Gap("A", T0, T0 + 4 * M)]


def test_a_bar_that_ends_within_the_settling_belongs_to_it():
    """Their clock may be ahead of ours: they may have told it just before we were there."""
    line = gaps()
    held(line, T0 - M, T0 + M - 500)
    assert line.due(T0 + 2 * M) == [Gap("A", T0, T0)]


def test_a_delayed_feed_is_asked_for_what_it_would_have_told():
    line = gaps(delay_ms=15 * M)
    held(line, T0 - 20 * M, T0 + 30_000)
    assert line.due(T0 + M)[0].last == T0 - 16 * M


def test_the_mark_stands_still_while_a_gap_is_open():
    line = gaps()
    held(line, T0 - M, T0 + 3 * M)
    assert line.heard([bar(3)]) == []
    gap = line.due(T0 + 4 * M)[0]
    assert where(line.filled(gap)) == [("A", T0 + 2 * M)]
    assert where(line.heard([bar(4)])) == [("A", T0 + 4 * M)]
    assert (line.open, line.next_sec(T0)) == (0, None)


def test_what_fails_is_due_again_after_its_pause():
    line = gaps()
    held(line, T0 - M, T0 + 3 * M)
    gap = line.due(T0 + 4 * M)[0]
    line.failed(gap, T0 + 4 * M, 5.0)
    assert (line.due(T0 + 4 * M), line.tries(gap)) == ([], 1)
    assert line.due(T0 + 4 * M + 5000) == [gap]
    line.filled(gap)
    assert line.tries(gap) == 0


def test_a_gap_is_not_longer_than_what_may_be_asked_for_and_says_so():
    line = gaps(reach_ms=10 * M)
    held(line, T0 - 100 * M, T0)
    assert line.due(T0 + M) == [Gap("A", T0 - 9 * M, T0 - M, cut=True)]


def test_what_is_no_longer_wanted_is_no_longer_missing():
    line = gaps()
    held(line, T0 - M, T0 + 3 * M)
    gap = line.due(T0 + 4 * M)[0]
    line.forget(["A", "B"])
    line.failed(gap, T0, 1.0)
    assert (line.open, line.filled(gap), line.heard([bar(5)]), line.tries(gap)) == (0, [], [], 0)


def test_a_gap_that_was_opened_anew_is_not_closed_by_the_old_answer():
    line = gaps()
    held(line, T0 - M, T0 + 3 * M)
    old = line.due(T0 + 4 * M)[0]
    held(line, T0 - M, T0 + 9 * M)
    assert line.filled(old) == []
    assert line.open == 1


def test_what_is_hardly_traded_is_whole_for_as_long_as_nothing_is_told():
    line = gaps()
    held(line, None, T0 + 30_000)
    held(line, T0 - 5 * M, T0, "B")
    assert line.quiet(T0 + 9 * M) == []
    assert where(line.quiet(T0 + 30 * M + 5)) == [("A", T0 + 20 * M)]  # B has a gap
    assert line.quiet(T0 + 30 * M + 5) == []
    assert line.heard([bar(15)]) == []
    assert where(line.heard([bar(25)])) == [("A", T0 + 25 * M)]


def test_a_delayed_feed_is_quiet_by_so_much_later():
    line = gaps(delay_ms=15 * M)
    held(line, None, T0)
    assert where(line.quiet(T0 + 30 * M)) == [("A", T0 + 5 * M)]


def test_a_mark_of_a_clock_that_was_wrong_is_not_believed():
    """Everything within reach is asked for again; what is there is known."""
    line = gaps(reach_ms=10 * M)
    held(line, T0 + 1440 * M, T0)
    assert line.due(T0 + M) == [Gap("A", T0 - 9 * M, T0 - M, cut=True)]
    held(line, T0 + M, T0)  # that may be
    assert line.open == 0


def test_a_gap_that_is_out_of_reach_as_a_whole_asks_for_nothing():
    line = gaps(reach_ms=0)
    held(line, T0 - 5 * M, T0)
    (gap,) = line.due(T0 + M)
    assert gap.is_empty
    assert gap.cut
    assert where(line.filled(gap)) == [("A", T0 - M)]


def test_who_wants_to_be_left_alone_is_asked_for_nothing():
    line = gaps()
    held(line, T0 - M, T0 + 3 * M)
    line.put_off(T0 + 4 * M, 5.0)
    held(line, T0 - M, T0 + 3 * M, "B")
    assert (line.due(T0 + 4 * M), line.next_sec(T0 + 4 * M)) == ([], 5.0)
    assert len(line.due(T0 + 4 * M + 5000)) == 2


def test_a_mark_says_where_it_was():
    """A bus that has it further back forgot something."""
    line = gaps()
    held(line, T0 - M, T0 + 3 * M)
    (gap,) = line.due(T0 + 4 * M)
    assert line.filled(gap) == [Mark("A", T0 - M, T0 + 2 * M)]
    assert line.heard([bar(3), bar(5), bar(4)]) == [Mark("A", T0 + 2 * M, T0 + 5 * M)]
    assert line.quiet(T0 + 30 * M) == [Mark("A", T0 + 5 * M, T0 + 20 * M)]


class World:
    """One symbol: a bar each minute, connections that come and go, processes that die anywhere."""

    def __init__(self):
        self.now, self.made, self.there = T0 + 10_000.0, [], set()
        self.mark = self.first = self.line = None

    def minute(self):
        """A bar is made, told to who is here, and put on the stream with the mark that it moves."""
        self.unheard()
        if self.line is not None:
            self.there.add(self.made[-1])
            self.keep(self.line.heard([Bar("A", self.made[-1], 1, 1, 1, 1, 1, None, "ws")]))

    def unheard(self):
        self.now += M
        self.made.append(int(self.now // M) * M - M)

    def lost(self):
        """The connection, and all that was known on it."""
        self.line = None

    def missed(self):
        """A bar is told into the void before the connection is known to be lost."""
        self.unheard()
        self.line = None

    def back(self):
        self.line = gaps(settle_ms=1.0)
        fresh = held(self.line, self.mark, self.now)
        if fresh is not None:
            self.first = fresh.upto
            self.keep([fresh])

    def fill(self):
        for gap in self.line.due(self.now + 10) if self.line is not None else ():
            self.there |= {start for start in self.made if gap.first <= start <= gap.last}
            self.keep(self.line.filled(gap))

    def keep(self, marks):
        for mark in marks:
            assert mark.was == (NOWHERE if self.mark is None else self.mark)
            assert mark.upto > mark.was
            self.mark = mark.upto

    def owed(self, upto):
        return {start for start in self.made if self.first is not None and self.first < start <= upto}


@given(st.lists(st.sampled_from(["minute", "minute", "lost", "missed", "back", "fill"]), max_size=40))
def test_whatever_happens_no_bar_is_lost_and_no_mark_promises_too_much(steps):
    world = World()
    for step in [*steps, "back", "minute", "fill", "minute"]:
        getattr(world, step)()
        assert world.owed(world.mark or 0) <= world.there
    assert world.owed(world.now) <= world.there
    assert world.mark == world.made[-1]
