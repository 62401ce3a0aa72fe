"""What may be missing, with a clock moved by hand; against a world that knows what was told to whom."""

from hypothesis import given
from hypothesis import strategies as st

from services.market.massive import UnreadBar
from services.market.records import MINUTE_MS, Bar
from services.massive.market.gaps import NO_MARK, GapTracker, Mark, MissingBars, RevisionSchedule

M = MINUTE_MS
T0 = 29_900_000 * M
REACH = 1000 * M


def bar(n, sym="A"):
    return Bar(sym, "1m", T0 + n * M, 1, 1, 1, 1, 1)


def where(marks):
    return [(mark.sym, mark.upto) for mark in marks]


def start(tracker, mark, now, sym="A"):
    return tracker.start_symbol(sym, mark, now, now)


def make_tracker(delay_ms=0.0, settle_ms=1000.0, reach_ms=REACH):
    return GapTracker(delay_ms, settle_ms, reach_ms)


def with_a_gap():
    """Return a tracker that lacks three minutes, and the gap of these."""
    tracker = make_tracker()
    start(tracker, T0 - M, T0 + 3 * M)
    (gap,) = tracker.due_gaps(T0 + 4 * M)
    return tracker, gap


def test_a_symbol_that_is_new_has_missed_nothing():
    tracker = make_tracker()
    assert start(tracker, None, T0 + 30_000) == Mark("A", NO_MARK, T0 - M)
    assert tracker.open_count == 0
    assert where(tracker.record_bars([bar(0), bar(1)])) == [("A", T0 + M)]


def test_of_a_new_symbol_all_is_owed_that_was_told_since_it_was_asked_for():
    """Its first bars may wait to be read while the bus is away, and then we may be killed."""
    tracker = make_tracker()
    assert tracker.start_symbol("A", None, T0 + 5 * M, T0 + 30_000) == Mark("A", NO_MARK, T0 - M)
    tracker = make_tracker()
    assert tracker.start_symbol("A", None, T0 + 500, T0 + 500) == Mark(
        "A", NO_MARK, T0 - 2 * M
    )  # a minute just ended


def test_what_ended_since_the_mark_is_a_gap_once_it_has_settled():
    tracker = make_tracker()
    assert start(tracker, T0 - M, T0 + 5 * M + 30_000) is None
    assert (tracker.open_count, tracker.due_gaps(T0 + 5 * M + 31_999)) == (1, [])
    assert tracker.due_gaps(T0 + 5 * M + 32_000) == [MissingBars("A", T0, T0 + 4 * M)]


def test_a_bar_that_ends_within_the_settling_belongs_to_it():
    """Their clock may be ahead of ours: they may have told it just before we were there."""
    tracker = make_tracker()
    start(tracker, T0 - M, T0 + M - 500)
    assert tracker.due_gaps(T0 + 2 * M) == [MissingBars("A", T0, T0)]


def test_a_delayed_feed_is_asked_for_what_it_would_have_told():
    tracker = make_tracker(delay_ms=15 * M)
    start(tracker, T0 - 20 * M, T0 + 30_000)
    assert tracker.due_gaps(T0 + M)[0].last == T0 - 16 * M


def test_the_mark_stands_still_while_a_gap_is_open():
    tracker, gap = with_a_gap()
    assert tracker.record_bars([bar(3)]) == []
    assert where(tracker.close_gap(gap)) == [("A", T0 + 2 * M)]
    assert where(tracker.record_bars([bar(4)])) == [("A", T0 + 4 * M)]
    assert tracker.open_count == 0


def test_what_fails_is_due_again_after_its_pause():
    tracker, gap = with_a_gap()
    tracker.postpone_gap(gap, T0 + 4 * M, 5.0)
    assert (tracker.due_gaps(T0 + 4 * M), tracker.failures(gap)) == ([], 1)
    assert tracker.due_gaps(T0 + 4 * M + 5000) == [gap]
    tracker.close_gap(gap)
    assert tracker.failures(gap) == 0


def test_a_bar_that_could_not_be_read_is_a_gap_and_the_mark_stays_before_it():
    tracker = make_tracker()
    start(tracker, None, T0 + 30_000)
    start(tracker, None, T0 + 30_000, "B")
    tracker.open_gap(UnreadBar("A", T0), T0 + M)
    tracker.open_gap(UnreadBar("X", T0), T0 + M)  # which nobody wants any more
    assert where(tracker.record_bars([bar(1), bar(1, "B")])) == [("B", T0 + M)]
    assert tracker.due_gaps(T0 + M + 1999) == []
    (gap,) = tracker.due_gaps(T0 + M + 2000)
    assert gap == MissingBars("A", T0, T0)
    assert where(tracker.close_gap(gap)) == [("A", T0)]
    assert where(tracker.record_bars([bar(2)])) == [("A", T0 + 2 * M)]


def test_if_even_its_start_could_not_be_read_it_is_the_last_one_there_is():
    tracker = make_tracker(delay_ms=15 * M)
    start(tracker, None, T0)
    tracker.open_gap(UnreadBar("A", None), T0 + 3 * M + 5000)
    assert tracker.due_gaps(T0 + 4 * M) == [MissingBars("A", T0 - 16 * M, T0 - 13 * M)]


def test_a_gap_becomes_longer_and_is_due_when_it_was():
    tracker, gap = with_a_gap()
    tracker.postpone_gap(gap, T0 + 4 * M, 600.0)
    tracker.open_gap(UnreadBar("A", T0 + 9 * M), T0 + 10 * M)
    assert tracker.due_gaps(T0 + 13 * M) == []
    assert tracker.due_gaps(T0 + 14 * M) == [MissingBars("A", T0, T0 + 9 * M)]
    assert tracker.close_gap(gap) == []  # the answer to the shorter one


def test_a_bar_before_the_mark_is_requested_alone_and_the_mark_stays():
    tracker = make_tracker()
    start(tracker, None, T0 + 30_000)
    tracker.record_bars([bar(5)])
    tracker.open_gap(UnreadBar("A", T0 + 3 * M), T0 + 6 * M)
    (gap,) = tracker.due_gaps(T0 + 7 * M)
    assert gap == MissingBars("A", T0 + 3 * M, T0 + 3 * M)
    tracker.open_gap(UnreadBar("A", T0 + 2 * M), T0 + 7 * M)
    assert tracker.close_gap(gap) == []
    (gap,) = tracker.due_gaps(T0 + 8 * M)
    assert (gap.first, tracker.close_gap(gap), tracker.open_count) == (T0 + 2 * M, [], 0)


def test_a_gap_is_not_longer_than_what_may_be_asked_for_and_says_so():
    tracker = make_tracker(reach_ms=10 * M)
    start(tracker, T0 - 100 * M, T0)
    assert tracker.due_gaps(T0 + M) == [MissingBars("A", T0 - 9 * M, T0 - M, truncated=True)]


def test_what_is_no_longer_wanted_is_no_longer_missing():
    tracker, gap = with_a_gap()
    tracker.remove_symbols(["A", "B"])
    tracker.postpone_gap(gap, T0, 1.0)
    assert (
        tracker.open_count,
        tracker.close_gap(gap),
        tracker.record_bars([bar(5)]),
        tracker.failures(gap),
    ) == (0, [], [], 0)


def test_a_gap_that_was_opened_anew_is_not_closed_by_the_old_answer():
    tracker, old = with_a_gap()
    start(tracker, T0 - M, T0 + 9 * M)
    assert tracker.close_gap(old) == []
    assert tracker.open_count == 1


def test_what_is_hardly_traded_is_whole_for_as_long_as_nothing_is_told():
    tracker = make_tracker()
    start(tracker, None, T0 + 30_000)
    start(tracker, T0 - 5 * M, T0, "B")
    assert tracker.advance_quiet(T0 + 9 * M) == []
    assert where(tracker.advance_quiet(T0 + 30 * M + 5)) == [("A", T0 + 20 * M)]  # B has a gap
    assert tracker.advance_quiet(T0 + 30 * M + 5) == []
    assert tracker.record_bars([bar(15)]) == []
    assert where(tracker.record_bars([bar(25)])) == [("A", T0 + 25 * M)]


def test_a_delayed_feed_is_quiet_by_so_much_later():
    tracker = make_tracker(delay_ms=15 * M)
    start(tracker, None, T0)
    assert where(tracker.advance_quiet(T0 + 30 * M)) == [("A", T0 + 5 * M)]


def test_a_mark_of_a_clock_that_was_wrong_is_not_believed():
    """Everything within reach is asked for again; what is there is known."""
    tracker = make_tracker(reach_ms=10 * M)
    start(tracker, T0 + 1440 * M, T0)
    assert tracker.due_gaps(T0 + M) == [MissingBars("A", T0 - 9 * M, T0 - M, truncated=True)]
    start(tracker, T0 + M, T0)  # that may be
    assert tracker.open_count == 0


def test_a_gap_that_is_out_of_reach_as_a_whole_asks_for_nothing():
    tracker = make_tracker(reach_ms=0)
    start(tracker, T0 - 5 * M, T0)
    (gap,) = tracker.due_gaps(T0 + M)
    assert gap.first > gap.last
    assert gap.truncated
    assert where(tracker.close_gap(gap)) == [("A", T0 - M)]


def test_who_wants_to_be_left_alone_is_asked_for_nothing():
    tracker = make_tracker()
    start(tracker, T0 - M, T0 + 3 * M)
    tracker.pause_requests(T0 + 4 * M, 300.0)
    start(tracker, T0 - M, T0 + 4 * M, "B")
    assert tracker.due_gaps(T0 + 9 * M - 1) == []
    assert len(tracker.due_gaps(T0 + 9 * M)) == 2


def test_a_mark_says_where_it_was():
    """A bus that has it further back forgot something."""
    tracker, gap = with_a_gap()
    assert tracker.close_gap(gap) == [Mark("A", T0 - M, T0 + 2 * M)]
    assert tracker.record_bars([bar(3), bar(5), bar(4)]) == [Mark("A", T0 + 2 * M, T0 + 5 * M)]
    assert tracker.advance_quiet(T0 + 30 * M) == [Mark("A", T0 + 5 * M, T0 + 20 * M)]


def test_what_is_whole_is_asked_for_again_each_hour_and_who_waits_longest_is_first():
    schedule, marks = RevisionSchedule(), {"A": T0, "B": T0 + M}
    both = [MissingBars("A", T0 - 9 * M, T0), MissingBars("B", T0 - 9 * M, T0 + M)]
    assert schedule.find_due(marks, T0 + M + 5, 10 * M) == both
    schedule.postpone("B", T0 + M)
    schedule.postpone("A", T0 + 2 * M)
    assert schedule.find_due(marks, T0 + 50 * M, 100 * M) == []
    assert [each.sym for each in schedule.find_due(marks, T0 + 51 * M, 100 * M)] == ["B"]
    assert [each.sym for each in schedule.find_due(marks, T0 + 52 * M, 100 * M)] == ["B", "A"]
    assert schedule.find_due(marks, T0 + 52 * M, 10 * M) == []  # all of it is too old


def test_a_symbol_with_a_gap_is_not_whole_nor_is_anything_while_no_one_may_ask():
    tracker, gap = with_a_gap()
    start(tracker, None, T0 + 30_000, "B")
    assert tracker.list_complete(T0) == {"B": T0 - M}
    tracker.close_gap(gap)
    tracker.pause_requests(T0, 5.0)
    assert tracker.list_complete(T0 + 4999) == {}
    assert tracker.list_complete(T0 + 5000) == {"A": T0 + 2 * M, "B": T0 - M}


def test_a_clock_that_is_set_back_makes_no_pause_of_requests_longer_or_shorter():
    tracker = make_tracker()
    start(tracker, T0 - M, T0 + 3 * M)
    ahead, now = T0 + 60 * M, T0 + 30 * M
    tracker.pause_requests(ahead, 3600.0)
    assert tracker.list_complete(ahead + M) == {}
    for passed in (0, 30 * M, 59 * M - 1):
        assert (tracker.due_gaps(now + passed), tracker.list_complete(now + passed)) == ([], {})
    assert len(tracker.due_gaps(now + 59 * M)) == 1
    tracker.pause_requests(now + 59 * M, 5.0)
    tracker.pause_requests(now, 1.0)  # set back once more: the longer pause counts
    assert tracker.due_gaps(now + 4999) == []
    assert len(tracker.due_gaps(now + 5000)) == 1


def test_a_clock_that_is_set_back_makes_no_pause_of_a_gap_longer():
    tracker, gap = with_a_gap()
    ahead, now = T0 + 60 * M, T0 + 10 * M
    tracker.postpone_gap(gap, ahead, 5.0)
    assert tracker.due_gaps(now) == []
    assert tracker.due_gaps(now + 4999) == []
    assert tracker.due_gaps(now + 5000) == [gap]


def test_a_gap_settles_that_is_opened_after_the_clock_was_set_back():
    tracker = make_tracker()
    assert tracker.due_gaps(T0 + 60 * M) == []
    start(tracker, T0 - M, T0 + 3 * M)
    assert tracker.due_gaps(T0 + 3 * M) == []


def test_a_clock_that_is_set_back_makes_no_pause_of_a_revision_longer_or_shorter():
    schedule, marks = RevisionSchedule(), {"A": T0, "B": T0}
    ahead, now = T0 + 60 * M, T0 + M
    schedule.postpone("A", ahead, 60.0)
    assert [each.sym for each in schedule.find_due(marks, ahead + 1000, 100 * M)] == ["B"]
    schedule.postpone("B", now)
    assert schedule.find_due(marks, now + M - 1001, 100 * M) == []
    assert [each.sym for each in schedule.find_due(marks, now + M - 1000, 100 * M)] == ["A"]


class World:
    """One symbol: a bar each minute, connections that come and go, processes that die anywhere."""

    def __init__(self):
        self.now, self.made, self.there = T0 + 10_000.0, [], set()
        self.mark = self.first = self.tracker = None

    def minute(self):
        """A bar is made, told to who is here, and put on the stream with the mark that it moves."""
        self.unheard()
        if self.tracker is not None:
            self.there.add(self.made[-1])
            self.keep(self.tracker.record_bars([Bar("A", "1m", self.made[-1], 1, 1, 1, 1, 1)]))

    def damaged(self):
        """A bar is told and makes no sense."""
        self.unheard()
        if self.tracker is not None:
            self.tracker.open_gap(
                UnreadBar("A", self.made[-1] if self.made[-1] % (2 * M) else None), self.now
            )

    def unheard(self):
        self.now += M
        self.made.append(int(self.now // M) * M - M)

    def lost(self):
        """The connection, and all that was known on it."""
        self.tracker = None

    def missed(self):
        """A bar is told into the void before the connection is known to be lost."""
        self.unheard()
        self.tracker = None

    def back(self):
        self.tracker = make_tracker(settle_ms=1.0)
        fresh = start(self.tracker, self.mark, self.now)
        if fresh is not None:
            self.first = fresh.upto
            self.keep([fresh])

    def fill(self):
        for gap in self.tracker.due_gaps(self.now + 10) if self.tracker is not None else ():
            self.there |= {start for start in self.made if gap.first <= start <= gap.last}
            self.keep(self.tracker.close_gap(gap))

    def keep(self, marks):
        for mark in marks:
            assert mark.previous == (NO_MARK if self.mark is None else self.mark)
            assert mark.upto > mark.previous
            self.mark = mark.upto

    def owed(self, upto):
        return {start for start in self.made if self.first is not None and self.first < start <= upto}


@given(
    st.lists(st.sampled_from(["minute", "minute", "damaged", "lost", "missed", "back", "fill"]), max_size=40)
)
def test_whatever_happens_no_bar_is_lost_and_no_mark_promises_too_much(steps):
    world = World()
    for step in [*steps, "back", "minute", "fill", "minute"]:
        getattr(world, step)()
        assert world.owed(world.mark or 0) <= world.there
    assert world.owed(world.now) <= world.there
    assert world.mark == world.made[-1]
