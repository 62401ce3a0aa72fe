"""examples/market.json: the truth of `make market` has nothing that the recording could not play."""

from pathlib import Path

import orjson
import pytest

from marketswarm.agent import service_config
from marketswarm.truth.flows import build_flows, find_unwritten_keys
from services.bars.settings import BarsSettings
from services.market.records import ActionKind, RecordKind
from services.market.sessions import get_session
from services.sources.cascade.series import fresh_until, list_series, time_of
from services.sources.replay.recording import (
    SeriesKey,
    parse_line,
    parse_line_as_quote,
    to_ms,
)
from services.sources.settings import SourcesSettings
from support.recordings import read_shipped

FOREVER = (-(10**13), 10**13, 10**13)
TRUTH = Path(__file__).parents[3] / "examples" / "market.json"


@pytest.fixture(scope="module")
def services():
    return orjson.loads(TRUTH.read_bytes())["services"]


@pytest.fixture(scope="module")
def series(services):
    section = {name: services["sources"][name] for name in ("endpoints", "settings")}
    return list_series(SourcesSettings.model_validate(section))


@pytest.fixture(scope="module")
def recording():
    return read_shipped()


def keys_of(series, recording):
    """The series of the recording that a series of the truth plays: of actions those of each kind."""
    if series.kind is not RecordKind.ACTIONS:
        return {SeriesKey(series.kind, series.symbol, series.asset, series.timeframe)}
    found = {SeriesKey(series.kind, series.symbol, series.asset, kind.value) for kind in ActionKind}
    return found & set(recording.list_series())


def test_it_would_be_seeded_without_a_warning():
    assert service_config.load_with_sections(TRUTH.read_bytes()).warnings == ()


def test_each_of_its_series_was_recorded_and_each_recorded_one_is_in_it(series, recording):
    recorded = set(recording.list_series())
    played = [keys_of(each, recording) for each in series]
    assert all(played), "a series of actions without any"
    named = set().union(*played)
    quotes = {key for key in named if key.kind is RecordKind.QUOTES}
    assert named - quotes == recorded
    # a quote is the end of a minute
    assert {key._replace(kind=RecordKind.BARS, timeframe="1m") for key in quotes} <= recorded


def test_from_the_first_moment_to_the_last_no_series_is_late(series, recording):
    """So the gate opens, and no source takes over from another without need, as long as it plays."""
    late = set()
    for each in series:
        reel, session = recording.find_reel(each.symbol), get_session(each.session)
        keys = keys_of(each, recording)
        if each.kind is RecordKind.QUOTES:
            keys = {key._replace(kind=RecordKind.BARS, timeframe="1m") for key in keys}
        # as each is loaded so often, it is known by the last load at the latest
        pause_ms = round(1000 * each.every_sec)
        for now_ms in range(to_ms(reel.play_from), to_ms(reel.to), 3_600_000):
            loaded_ms = max(now_ms - pause_ms, to_ms(reel.play_from))
            lines = [line for key in keys if (line := recording.find_last_line(key, loaded_ms))]
            if not lines and each.kind is RecordKind.ACTIONS:
                continue  # an answer without any is fresh
            parse = parse_line_as_quote if each.kind is RecordKind.QUOTES else parse_line
            newest_ms = max(time_of(parse(line)) for line in lines)
            if fresh_until(each, session, newest_ms, loaded_ms) < now_ms:
                late.add((each.id, now_ms))
    assert late == set()


def test_a_split_a_dividend_and_a_short_day_come_while_it_plays(series, recording):
    actions, short = set(), set()
    for each in series:
        reel, session = recording.find_reel(each.symbol), get_session(each.session)
        begin_ms, end_ms = to_ms(reel.play_from), to_ms(reel.to)
        if each.kind is RecordKind.ACTIONS:
            lines = (line for key in keys_of(each, recording) for line in recording.find_lines(key, *FOREVER))
            found = ((parse_line(line), orjson.loads(line)["known"]) for line in lines)
            actions |= {
                (action.symbol, action.kind, str(action.ex_day), action.ratio or action.amount)
                for action, known_ms in found
                if begin_ms < known_ms < end_ms
            }
        elif each.timeframe == "1m" and each.session == "XNYS":
            days = session.iter_days(begin_ms, end_ms)
            short |= {
                (each.symbol, str(day.date)) for day in days if day.close_ms - day.open_ms < 390 * 60_000
            }
    assert actions == {
        ("AAPL", ActionKind.SPLIT, "2014-06-09", 7.0),
        ("IWM", ActionKind.DIVIDEND, "2015-12-24", 0.5),
    }
    assert short == {("GOOG", "2015-12-24")}


def test_without_keys_and_network_nothing_but_the_recording_is_asked(services, series):
    names = tuple(services["sources"]["settings"]["replay"]["names"])
    assert {each.sources for each in series} == {names}
    assert len(names) == 2, "one can be paused, and the other serves"


def test_bars_takes_every_symbol_that_has_bars_and_in_the_same_class(series):
    truth = service_config.load_with_sections(TRUTH.read_bytes()).truth
    bars = service_config.require_config(BarsSettings, "bars", truth.services["bars"])
    taken = {(symbol, group.asset) for symbol, group in bars.complete(truth).find_groups().items()}
    assert bars.endpoints == ()
    assert taken == {(each.symbol, each.asset) for each in series if each.kind is RecordKind.BARS}


def test_what_a_service_reads_another_one_writes():
    parsed = service_config.load_with_sections(TRUTH.read_bytes())
    assert find_unwritten_keys(build_flows(parsed.truth)) == []
