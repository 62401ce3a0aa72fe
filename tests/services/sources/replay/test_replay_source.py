"""A recording that plays: what it answers, over a bus in memory. Its clock stands where a test sets it."""

import hashlib
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from marketswarm.bus.circuit_breaker import DEFAULT_LIMITS, CircuitBreaker
from marketswarm.keys import source_breaker_key
from services.market.entries import encode_entry, parse_bar, parse_entry
from services.market.records import AssetClass, Provenance, RecordKind, VolumeKind
from services.sources.cascade.loader import SeriesLoader
from services.sources.cascade.series import Series
from services.sources.cascade.source_reader import SourceReader
from services.sources.cascade.state import SourceVerdict
from services.sources.cascade.store import SeriesStore
from services.sources.catalog.answer import AnswerStatus
from services.sources.catalog.request import Question
from services.sources.replay.recording import RecordingError, parse_line, read_recording
from services.sources.replay.replay_source import (
    ReplayClock,
    ReplaySource,
    find_offset,
    move_question,
    open_replays,
)
from services.sources.settings import WorkSettings
from support.recordings import (
    COIN_FROM_MS,
    MINUTE_MS,
    PLAY_FROM,
    PLAY_FROM_MS,
    TO_MS,
    bar,
    coin,
    header,
    iso,
    write,
)

STILL = 1e-6
"""A speed at which a clock stands where it was set, for as long as a test takes."""
ROWS = [bar(PLAY_FROM_MS + minute * MINUTE_MS, 9 + minute % 3) for minute in range(-60, 119)]
COINS = [coin(COIN_FROM_MS + minute * MINUTE_MS) for minute in range(60)]
START = iso(PLAY_FROM_MS + 60 * MINUTE_MS)
YEARS = timedelta(days=3650)
ALL = Question("SPY", AssetClass.STOCKS, RecordKind.BARS, PLAY_FROM - YEARS, PLAY_FROM + YEARS, "1m")


@pytest.fixture
def recording(tmp_path):
    return read_recording(write(tmp_path, *ROWS, *COINS))


@pytest.fixture
def play(recording, bus):
    """Make a source whose clock stands so many minutes after the beginning."""

    def make(minute, name="replay_a"):
        at = iso(PLAY_FROM_MS + minute * MINUTE_MS)
        return ReplaySource(name, recording, bus, speed=STILL, start=at)

    return make


async def test_an_answer_says_whose_volume_its_bars_have_if_the_recording_does(tmp_path, play, bus):
    assert (await play(60).ask(ALL)).volume_kind is None
    path = write(tmp_path, *ROWS, *COINS, head=header(volume_kinds={"stocks": "consolidated"}))
    source = ReplaySource("replay_b", read_recording(path), bus, speed=STILL, start=START)
    assert (await source.ask(ALL)).volume_kind is VolumeKind.CONSOLIDATED
    assert (await source.ask(replace(ALL, kind=RecordKind.QUOTES))).volume_kind is None


@pytest.mark.parametrize("minute", [0, 1, 59, 118])
async def test_an_answer_is_the_file_up_to_the_clock_and_nothing_beyond_it(play, minute):
    answer = await play(minute).ask(ALL)
    clock_ms = PLAY_FROM_MS + minute * MINUTE_MS
    expected = [row for row in ROWS if row["start"] + MINUTE_MS <= clock_ms]
    assert answer.outcome is AnswerStatus.OK
    assert list(answer.records) == [parse_line(orjson.dumps(row)) for row in expected]
    assert answer.played_at == pytest.approx(clock_ms / 1000, abs=0.5)
    text = b"".join(orjson.dumps(row) + b"\n" for row in expected)
    assert answer.digest == hashlib.sha256(text).hexdigest()


async def test_a_split_and_a_dividend_of_one_day_are_both_there_once_the_day_has_begun(tmp_path, bus):
    day = {"kind": "actions", "sym": "SPY", "asset": "stocks", "ex_day": PLAY_FROM.date().isoformat()}
    known = {"known": PLAY_FROM_MS + 5 * MINUTE_MS}
    rows = (
        day | {"action": "dividend", "amount": 0.5},
        day | {"action": "split", "ratio": 2} | known,
        day | {"action": "dividend", "amount": 0.25, "ex_day": "2020-01-06"},
    )
    recording = read_recording(write(tmp_path, *ROWS, *rows))
    asked = replace(ALL, kind=RecordKind.ACTIONS, timeframe="")
    for minute, count in ((0, 2), (5, 3)):
        at = iso(PLAY_FROM_MS + minute * MINUTE_MS)
        answer = await ReplaySource("replay_a", recording, bus, speed=STILL, start=at).ask(asked)
        assert (answer.outcome, len(answer.records), answer.since_ms) == (AnswerStatus.OK, count, None)


async def test_a_question_gets_what_begins_within_it(play):
    start, end = PLAY_FROM - timedelta(minutes=10), PLAY_FROM - timedelta(minutes=5)
    answer = await play(0).ask(replace(ALL, start=start, end=end))
    starts = [(record.start_ms - PLAY_FROM_MS) // MINUTE_MS for record in answer.records]
    assert starts == [-10, -9, -8, -7, -6]


async def test_a_question_about_today_is_moved_to_where_the_clock_is(play):
    now = datetime.now(UTC)
    answer = await play(30).ask(replace(ALL, start=now - timedelta(minutes=20), end=now))
    starts = [(record.start_ms - PLAY_FROM_MS) // MINUTE_MS for record in answer.records]
    assert starts[-1] == 29
    assert 19 <= len(starts) <= 20


def test_only_times_after_the_reel_are_moved(recording):
    reel, now_ms = recording.find_reel("SPY"), 1_800_000_000_000
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    moved = move_question(replace(ALL, start=PLAY_FROM, end=now), reel, PLAY_FROM_MS + 7, now_ms)
    assert (moved.start, moved.end) == (PLAY_FROM, PLAY_FROM + timedelta(milliseconds=7))


async def test_a_quote_is_the_end_of_the_last_minute_that_is_over(play):
    answer = await play(10).ask(replace(ALL, kind=RecordKind.QUOTES, timeframe=""))
    (quote,) = answer.records
    assert (quote.at_ms, quote.price) == (PLAY_FROM_MS + 10 * MINUTE_MS, ROWS[69]["close"])


async def test_a_quote_of_its_own_serves_where_it_is_the_later_one(tmp_path, bus):
    quote = {"kind": "quotes", "sym": "SPY", "asset": "stocks", "at": PLAY_FROM_MS - 1, "price": 7.5}
    recording = read_recording(write(tmp_path, bar(PLAY_FROM_MS - 2 * MINUTE_MS), quote))
    source = ReplaySource("replay", recording, bus, speed=STILL)
    (found,) = (await source.ask(replace(ALL, kind=RecordKind.QUOTES, timeframe=""))).records
    assert (found.at_ms, found.price) == (PLAY_FROM_MS - 1, 7.5)


async def test_every_entry_made_of_an_answer_is_marked_as_a_replay(play):
    answer = await play(5).ask(ALL)
    assert answer.is_replay
    told = Provenance(answer.source, answer.asked_at, answer.digest, answer.is_replay, answer.played_at)
    fields = encode_entry(answer.records[-1], AssetClass.STOCKS, told)
    assert fields["replay"] == "1"
    raw = {name.encode(): value.encode() for name, value in fields.items()}
    record, _, read = parse_entry(parse_bar, raw)
    assert record == answer.records[-1]
    assert read.as_of == pytest.approx(answer.played_at, abs=0.001)


async def test_each_question_is_accounted_for_as_a_request_is(play):
    seen = []
    start = PLAY_FROM - timedelta(minutes=2)
    answer = await play(0).ask(replace(ALL, start=start, end=PLAY_FROM), on_request=seen.append)
    (sent,) = seen
    span = f"start={PLAY_FROM_MS - 2 * MINUTE_MS}&end={PLAY_FROM_MS}"
    assert sent.url == f"replay://two_hours/bars/SPY/1m?{span}"
    assert (sent.source, sent.outcome, sent.records) == ("replay_a", AnswerStatus.OK, 2)
    assert hashlib.sha256(sent.body).hexdigest() == answer.digest
    assert sent.asked_at == answer.asked_at
    assert 0 <= sent.took_sec < 10


@pytest.mark.parametrize(
    "changes",
    [
        {"symbol": "QQQ"},
        {"timeframe": "5m"},
        {"asset": AssetClass.FOREX},
        {"kind": RecordKind.OBSERVATIONS, "timeframe": ""},
    ],
)
async def test_what_was_not_recorded_is_not_served(play, changes):
    answer = await play(5).ask(replace(ALL, **changes))
    assert (answer.outcome, answer.reason, answer.records) == (AnswerStatus.FAILED, "not_served", ())


async def test_empty_says_whether_the_recording_is_over(play):
    newest = replace(ALL, start=PLAY_FROM + timedelta(minutes=119), end=PLAY_FROM + YEARS)
    before = await play(100).ask(newest)
    assert (before.outcome, before.reason) == (AnswerStatus.EMPTY, "nothing of that time")
    source = play(60)
    # the reel of the coins is half as long
    over = await source.ask(replace(ALL, symbol="BTC/USD", asset=AssetClass.CRYPTO, start=datetime.now(UTC)))
    assert (over.outcome, over.reason) == (AnswerStatus.EMPTY, "the recording is over")


async def test_each_symbol_has_the_time_of_its_reel(play):
    source = play(20)
    assert await source.find_time("SPY") == pytest.approx((PLAY_FROM_MS + 20 * MINUTE_MS) / 1000, abs=0.5)
    assert await source.find_time("BTC/USD") == pytest.approx((COIN_FROM_MS + 20 * MINUTE_MS) / 1000, abs=0.5)
    assert await source.find_time("QQQ") == 0


def test_the_clock_goes_at_its_speed_and_stops_at_the_end_of_a_reel(recording):
    reel = recording.find_reel("SPY")

    def at(now_ms):
        return ReplayClock(60.0, 1_000_000, 5_000, now_ms)

    assert at(1_000_000).played_ms == 5_000
    assert at(1_001_500).played_ms == 95_000
    assert at(999_000).played_ms == 5_000, "a clock that was set back"
    assert at(1_001_500).find_time(reel) == PLAY_FROM_MS + 95_000
    assert at(10**12).find_time(reel) == TO_MS


async def test_a_source_whose_breaker_is_open_is_not_asked_and_the_other_plays_on(play, bus):
    paused, other = play(5, "replay_a"), play(5, "replay_b")
    for _ in range(DEFAULT_LIMITS.open_after):
        await CircuitBreaker(bus, source_breaker_key("replay_a")).record_failure()
    answer = await paused.ask(ALL)
    assert (answer.outcome, answer.reason) == (AnswerStatus.FAILED, "breaker_open")
    assert answer.wait_sec > 0
    assert (await other.ask(ALL)).outcome is AnswerStatus.OK


async def test_the_names_of_one_recording_tell_the_same_time(tmp_path, bus):
    path = write(tmp_path, *ROWS)
    found = await open_replays(str(path), ["replay_a", "replay_b"], bus, speed=STILL)
    answers = [await source.ask(ALL) for source in found.values()]
    assert [answer.source for answer in answers] == ["replay_a", "replay_b"]
    assert answers[0].records == answers[1].records
    assert answers[0].digest == answers[1].digest


async def test_what_is_played_on_while_the_question_is_on_its_way_does_not_lie_ahead(
    tmp_path, bus, monkeypatch
):
    """At 60 times the pace three seconds of a busy machine are three minutes."""
    monkeypatch.chdir(tmp_path)
    settings = {"file": write(tmp_path, *ROWS).name, "names": ["replay_a"], "speed": STILL, "start": START}
    work = WorkSettings.model_validate({"replay": settings})
    loader = SeriesLoader(SourceReader(None, SeriesStore(lambda: bus), {}, lambda: work))
    await loader.reader.follow_replay()
    find_time = ReplaySource.find_time

    async def find_time_as_it_was(self, symbol):
        return await find_time(self, symbol) - 180

    monkeypatch.setattr(ReplaySource, "find_time", find_time_as_it_was)
    quotes = Series("SPY", RecordKind.QUOTES, "", AssetClass.STOCKS, "24x7", ("replay_a",), 300.0, 5.0, 60.0)
    result = await loader.load(quotes)
    assert [(each.verdict, each.reason) for each in result.findings] == [(SourceVerdict.FRESH, "")]
    assert result.state.newest_ms == PLAY_FROM_MS + 60 * MINUTE_MS
    assert result.state.fresh_until == pytest.approx(time.time() + 300 / STILL, rel=0.01)


@pytest.mark.parametrize("speed", [0, -1, 3601, float("nan"), float("inf")])
async def test_a_speed_out_of_bounds_is_refused(recording, bus, speed):
    with pytest.raises(RecordingError, match="speed"):
        ReplaySource("replay", recording, bus, speed=speed)


def test_a_start_is_a_time_of_any_reel(recording):
    assert find_offset(recording, "2020-03-02T15:30:00") == 30 * MINUTE_MS
    assert find_offset(recording, "2020-03-02T14:30:00+00:00") == -30 * MINUTE_MS
    assert find_offset(recording, iso(COIN_FROM_MS + 7)) == 7
    for text in ("2031-01-01T00:00:00Z", "noon", "", iso(TO_MS)):
        with pytest.raises(RecordingError, match="start"):
            find_offset(recording, text)
