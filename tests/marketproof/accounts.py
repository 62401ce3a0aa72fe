"""Compare what the database says of sources with what the stand-ins were asked: requests, health, alerts."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

from marketproof.comparison import Comparison
from marketproof.plan import LOAD_SEC
from marketproof.station import Break
from support.market_server import Request
from support.postgres import query

FAILURES: Final = frozenset({"html", "cut"})
"""The vices that are failures of a source."""
REFUSING: Final = "429"
"""Why a source is missed that took no request five times in a row, though our own count had room."""
MOVED_CLOCK: Final = "a time that lies ahead"
"""Why an answer fails between whose question and itself the played clock moved by more than two minutes."""
MISS_AFTER: Final = 3
MOST_TIMES: Final = 5
"""How many requests of one name are described that have no row."""
NEAREST: Final = 3
"""Of how many breaks it is said how far they were."""
_ASKED_MS: Final = "round(extract(epoch FROM asked_at) * 1000)::bigint"
_DOWNLOADS: Final = f"SELECT source, url, coalesce(status, 0), {_ASKED_MS} FROM downloads"  # noqa: S608 - our own
_KEY: Final = "KEY"
_TEST_KEY: Final = "-test-key-"

Name = tuple[str, str, tuple[tuple[str, str], ...], int]
"""A request: source, path, query without the key, status."""


def compare_requests(
    found: Comparison, url: str, requests: Sequence[Request], breaks: Sequence[Break], *, is_torn: bool
) -> None:
    """Compare the rows of `downloads` with the requests that came, one by one.

    A load records its requests together with their records, in one step; if it can't, the next load of the
    series does. So each row is a request that came, once; and each request that came is a row, unless sources
    was killed before that step, within LOAD_SEC after the request, or its bus was torn (`is_torn`) after it.
    A load asks each question once, and loads of one series don't overlap: so no break costs a question twice.
    A row without a status is a request whose answer did not get back, whatever it was.
    """
    rows = query(url, _DOWNLOADS)
    got: dict[Name, list[int]] = {}
    for source, address, status, asked_ms in rows:
        got.setdefault(_name_row(source, address, status), []).append(asked_ms)
    came: dict[Name, list[Request]] = {}
    for each in requests:
        came.setdefault(_name_request(each), []).append(each)
    found.rows["downloads"] += len(rows)
    for name, times in got.items():
        if name[-1] and (more := len(times) - len(came.get(name, ()))) > 0:
            found.find("downloads: nobody asked so", f"{more} times {name}")
    costly = {"sources", "market-redis"} if is_torn else {"sources"}
    windows = [(each.begun - LOAD_SEC, each.over) for each in breaks if each.target in costly]
    for name, asked in came.items():
        unanswered = got.get((*name[:-1], 0), [])
        times = got.get(name, [])
        lost = max(0, len(asked) - len(times))
        found.rows["requests without an answer"] += (without := min(lost, len(unanswered)))
        del unanswered[:without]
        lost -= without
        excused = sum(any(begin <= each.at <= end for each in asked) for begin, end in windows)
        found.rows["requests whose load was broken off"] += min(lost, excused)
        if lost > excused:
            left = list_unrecorded(asked, times)
            when = "; ".join(_describe_time(each.at, breaks) for each in left[:MOST_TIMES])
            found.find("downloads: missing", f"{lost - excused} times {name}: {when}")


def list_unrecorded(asked: Sequence[Request], times: Sequence[int]) -> list[Request]:
    """Return which of the requests with one name have no row; `times` are when those with a row were sent.

    They are in epoch milliseconds of the played clock. Requests with one name follow each other, so a row
    belongs to the first one that came after it was sent.
    """
    left, rows = list[Request](), sorted(times, reverse=True)
    for each in sorted(asked, key=lambda each: each.at):
        if rows and rows[-1] <= each.at_ms + 1:  # both are rounded
            rows.pop()
        else:
            left.append(each)
    return left


def _describe_time(at: float, breaks: Iterable[Break]) -> str:
    """Return how long before or after the nearest breaks a time of the monotonic clock is."""
    near = sorted(breaks, key=lambda each: max(each.begun - at, at - each.over, 0.0))[:NEAREST]
    words = [
        f"{at - each.begun:+.3f} s to {each.target}, which took {each.over - each.begun:.3f} s"
        for each in near
    ]
    return ", ".join(words) or "without a break"


def _name_row(source: str, url: str, status: int) -> Name:
    """Return the request of a row."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    return source, unquote(parts.path), tuple(sorted(pair for pair in pairs if pair[1] != _KEY)), status


def _name_request(each: Request) -> Name:
    """Return what the row of a request says; the client has a status also where the body is cut."""
    pairs = tuple(sorted(pair for pair in each.query.items() if _TEST_KEY not in pair[1]))
    return each.source, each.path, pairs, each.status or 200


def compare_sources(
    found: Comparison, url: str, requests: Iterable[Request], states: Mapping[str, Mapping[str, Any]]
) -> None:
    """Compare the state and the health of each source: all are well in the end, and only some ever failed.

    `states` are those on the bus.
    """
    rows = query(url, "SELECT source, state FROM sources")
    got = {source: orjson.loads(state) for source, state in rows}
    asked = {each.source for each in requests}
    failing = {each.source for each in requests if each.vice in FAILURES}
    found.compare_keys("sources", got, asked)
    for source in sorted(got.keys() & asked):
        if got[source] != states.get(source):
            found.find("sources: another state than on the bus", f"{got[source]}, not {states.get(source)}")
        if got[source]["state"] != "up":
            found.find("sources: not up in the end", str(got[source]))
    health: dict[str, list[tuple[str, str]]] = {}
    for source, state, reason in query(url, "SELECT source, state, reason FROM source_health ORDER BY at"):
        health.setdefault(source, []).append((state, reason))
    found.compare_keys("sources with a health", health, asked)
    for source, changes in health.items():
        found.rows["source_health"] += len(changes)
        if any(before == after for before, after in pairwise(changes)):
            found.find("source_health: a change that is none", source)
        if source in got and changes[-1] != (got[source]["state"], got[source]["reason"]):
            found.find("source_health: not the state of the source", f"{source}: {changes[-1]}")
        # without a reason the last answer was good, and is not counted yet
        causes = {reason for state, reason in changes if state == "down" and reason} - {MOVED_CLOCK, REFUSING}
        if causes and source not in failing:
            found.find("source_health: down though it always answered", f"{source}: {changes}")


def compare_alerts(
    found: Comparison,
    url: str,
    requests: Sequence[Request],
    events: Mapping[str, Mapping[str, Any]],
    *,
    load_sec: float,
    is_torn: bool,
) -> None:
    """Compare the alerts with those on the bus, `events`, and each alert of a source with what it answered.

    `load_sec` is how long a load may take by the played clock, which the alerts go by.

    Where a bus was torn it may have forgotten an event that the archive has, and that a source was missed.
    """
    got = {ident: orjson.loads(event) for ident, event in query(url, "SELECT id, event FROM alerts")}
    found.compare_keys("alerts", got.keys() & events.keys() if is_torn else got, events)
    for ident in got.keys() & events.keys():
        if got[ident] != events[ident]:
            found.find("alerts: another event", f"{got[ident]}, not {events[ident]}")
    if is_torn:
        return
    for svc in {event["svc"] for event in got.values() if event["svc"].startswith("source:")}:
        own = sorted((event for event in got.values() if event["svc"] == svc), key=lambda event: event["ts"])
        answers = [
            (each.at_ms / 1000, each.vice) for each in requests if each.source == svc.removeprefix("source:")
        ]
        _check_outages(found, svc, own, answers, load_sec)


def _check_outages(
    found: Comparison,
    svc: str,
    events: Sequence[Mapping[str, Any]],
    answers: Sequence[tuple[float, str]],
    load_sec: float,
) -> None:
    """Check that outages begin and end in turn, the last one too, and that each is of what the source did.

    `answers` has when each answer was given, in epoch seconds, and its vice, or "". One without may have
    failed for MOVED_CLOCK, which no answer shows: so a miss needs one failure among as many answers as it
    takes. All answers that it takes must have refused where it says REFUSING.
    """
    kinds = [event["type"] for event in events]
    if kinds != ["source_miss", "source_ok"] * (len(kinds) // 2):
        found.find("alerts: not a miss and an ok in turn", f"{svc}: {kinds}")
    since = 0.0
    for event in events:
        is_miss, since = event["type"] == "source_miss", since - load_sec
        near = [(round(at - event["ts"], 3), vice) for at, vice in answers if since <= at <= event["ts"]]
        if is_miss and event.get("reason") == REFUSING:
            count = sum(vice == "limited" for _, vice in near[-MISS_AFTER:])
            is_told = count == MISS_AFTER
        else:
            count = sum((vice in FAILURES) is is_miss for _, vice in near)
            is_told = bool(count) and len(near) >= (MISS_AFTER if is_miss else 1)
        if not is_told and event.get("reason") != MOVED_CLOCK:
            found.find("alerts: the source did not answer so", f"{count} of {near[-10:]} before {event}")
        since = event["ts"]
