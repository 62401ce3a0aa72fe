"""Pages of the log, held against logs of several buses that have some events in common."""

import pytest

from marketswarm.event import Event, Kind, encode_event, make_event_id
from marketswarm.keys import ALERT_LOG
from marketswarm.testing import MemoryBus
from marketswarm.web.limits import RefusedError
from services.board.fleet import alerts
from services.board.fleet.alerts import (
    AlertQuery,
    find_alert,
    format_raw,
    make_alert_view,
    parse_position,
    read_alerts,
)

START_MSEC = 1_790_000_000_000


def make_event(n, svc="shop", kind=Kind.HEARTBEAT_MISS):
    ts = (START_MSEC + n) / 1000
    return Event(kind, svc, ts, make_event_id(kind, svc, ts), "healer", late_sec=30.0, timeout_sec=30.0)


@pytest.fixture
async def buses():
    two = MemoryBus("system-redis"), MemoryBus("market-redis")
    yield two
    for bus in two:
        await bus.aclose()


async def log(bus, n, **how):
    event = make_event(n, **how)
    await bus.client.xadd(ALERT_LOG, {"event": encode_event(event)}, id=f"{START_MSEC + n}-0")
    return event


def shorten_search(monkeypatch):
    monkeypatch.setattr(alerts, "FIND_ENTRIES", 10)
    monkeypatch.setattr(alerts, "MAX_FIND_CHUNKS", 4)


def ids(found):
    return [one.id for one in found.events]


async def test_events_come_the_newest_first_in_pages_without_a_gap(buses):
    events = [await log(buses[0], n) for n in range(25)]
    expected = [one.id for one in reversed(events)]
    seen, before = [], ""
    while before is not None:
        page = await read_alerts(buses, AlertQuery(before=before), 10)
        seen += ids(page)
        before = page.older
    assert seen == expected


async def test_logs_of_several_buses_are_one_log_and_an_event_on_both_is_shown_once(buses):
    first = await log(buses[0], 1)
    both = await log(buses[0], 2, kind=Kind.BUS_MISS)
    await log(buses[1], 2, kind=Kind.BUS_MISS)
    last = await log(buses[1], 3)
    assert ids(await read_alerts(buses, AlertQuery())) == [last.id, both.id, first.id]
    assert (await find_alert(buses, both.id))[0].buses == ("system-redis", "market-redis")


async def test_a_filter_finds_what_is_rare_and_goes_on_where_it_stopped(buses, monkeypatch):
    monkeypatch.setattr(alerts, "CHUNK_ENTRIES", 10)
    monkeypatch.setattr(alerts, "MAX_CHUNKS", 2)
    rare = await log(buses[0], 0, svc="rare")
    for n in range(1, 60):
        await log(buses[0], n)
    page, turns = await read_alerts(buses, AlertQuery(svc="rare")), 0
    while not page.events and page.older is not None:
        page, turns = await read_alerts(buses, AlertQuery(svc="rare", before=page.older)), turns + 1
    assert ids(page) == [rare.id]
    assert turns > 1
    assert ids(await read_alerts(buses, AlertQuery(type="heartbeat_ok"))) == []


async def test_entries_that_hold_no_event_are_skipped(buses):
    await buses[0].client.xadd(ALERT_LOG, {"event": b"{"}, id=f"{START_MSEC}-1")
    await buses[0].client.xadd(ALERT_LOG, {"other": b"x"}, id=f"{START_MSEC}-2")
    good = await log(buses[0], 5)
    page = await read_alerts(buses, AlertQuery())
    assert (ids(page), page.older) == ([good.id], None)


async def test_a_bus_that_does_not_answer_is_named_and_the_others_are_read(buses):
    good = await log(buses[0], 5)
    buses[1].connected = False
    page = await read_alerts(buses, AlertQuery())
    assert ids(page) == [good.id]
    assert page.away.keys() == {"market-redis"}


@pytest.mark.parametrize(
    "event_id", ["", "nothing", "heartbeat_miss.shop.x", "heartbeat_miss.shop.1", "a." + "9" * 30]
)
async def test_what_is_no_event_is_not_found(buses, event_id):
    await log(buses[0], 1)
    assert await find_alert(buses, event_id) is None


async def test_an_event_that_was_written_late_is_found(buses):
    event = make_event(0)
    late = f"{START_MSEC + 1_800_000}-0"
    await buses[0].client.xadd(ALERT_LOG, {"event": encode_event(event)}, id=late)
    found, raw = await find_alert(buses, event.id)
    assert found.event.position == late
    assert raw == encode_event(event)


async def test_an_event_is_found_among_many_that_were_written_before_it(buses, monkeypatch):
    shorten_search(monkeypatch)
    events = [await log(buses[0], n) for n in range(100)]
    for event in (events[0], events[55], events[-1]):
        found, _ = await find_alert(buses, event.id)
        assert (found.event.id, found.buses) == (event.id, ("system-redis",))


async def test_an_event_of_a_clock_that_is_ahead_of_the_log_s_is_found(buses, monkeypatch):
    shorten_search(monkeypatch)
    event = make_event(2000)
    await buses[0].client.xadd(ALERT_LOG, {"event": encode_event(event)}, id=f"{START_MSEC}-0")
    for n in range(2000, 2100):
        await log(buses[0], n, svc="other")
    found, _ = await find_alert(buses, event.id)
    assert found.event.position == f"{START_MSEC}-0"


async def test_an_event_that_was_not_looked_for_everywhere_is_not_said_to_be_missing(buses, monkeypatch):
    shorten_search(monkeypatch)
    for n in range(100):
        await log(buses[0], n)
    late = make_event(0, svc="late")
    await buses[0].client.xadd(ALERT_LOG, {"event": encode_event(late)}, id=f"{START_MSEC + 100}-0")
    with pytest.raises(RefusedError, match="not among the 40 events on bus system-redis") as refused:
        await find_alert(buses, late.id)
    assert refused.value.status == 503
    await buses[1].client.xadd(ALERT_LOG, {"event": encode_event(late)}, id=f"{START_MSEC}-0")
    assert (await find_alert(buses, late.id))[0].buses == ("market-redis",)


async def test_an_event_is_not_said_to_be_missing_while_a_bus_is_away(buses):
    good = await log(buses[0], 5)
    buses[1].connected = False
    assert (await find_alert(buses, good.id))[0].buses == ("system-redis",)
    with pytest.raises(RefusedError, match="bus market-redis does not answer") as refused:
        await find_alert(buses, make_event(6).id)
    assert refused.value.status == 503


def test_a_place_on_the_log_is_an_id_and_nothing_else():
    assert parse_position("123-4") == b"123-4"
    assert parse_position("123") == b"123"
    for wrong in ("", "-", "+", "(1-2", "1-2-3", "x", "1-x", "²", "9" * 20):
        assert parse_position(wrong) is None


def test_words_of_others_are_one_printable_line():
    view = make_alert_view(make_event(0, svc="a\x1b[31m\n"))
    assert view.title == "a\\x1b[31m\\n is down"
    assert view.is_bad is True
    assert make_alert_view(make_event(0, kind=Kind.HEARTBEAT_OK)).is_bad is False
    assert make_alert_view(make_event(0, kind=Kind.HEARTBEAT_GAP)).is_bad is None


def test_an_event_is_shown_with_indents_unless_it_is_nested_too_deep():
    assert format_raw(b'{"a":1}') == '{\n  "a": 1\n}'
    deep = b'{"a":' + b"[" * 300 + b"]" * 300 + b"}"
    assert format_raw(deep) == deep.decode()
