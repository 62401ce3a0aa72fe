"""Read a source's document into records by the rules of its file. Pure.

Everything that a source sends is hostile: what is not a record becomes a `Misfit`, never an error, and what
is not a document at all is a page that FAILED.
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from math import isfinite
from typing import Any, Final, cast
from xml.parsers.expat import ExpatError
from zoneinfo import ZoneInfo

import orjson
import xmltodict
from jmespath.exceptions import JMESPathError

from services.market.actions import (
    find_action_fault,
    find_day,
    find_day_ms,
    is_no_split,
    merge_actions,
    restore_amounts,
)
from services.market.decimals import settle_single
from services.market.documents import load_json, read_float
from services.market.fields import MAX_NUMBER, SYMBOL
from services.market.records import (
    DAY_MS,
    TIMEFRAME_SEC,
    ActionKind,
    Adjustment,
    Bar,
    CorporateAction,
    Observation,
    Quote,
    Record,
    RecordKind,
    settle_range,
)
from services.sources.catalog.answer import AnswerStatus, Misfit, Page
from services.sources.catalog.request import ApiKey, Question, hide_key
from services.sources.catalog.source import (
    EPOCH_UNITS,
    REQUIRED_FIELDS,
    TEXT_FIELDS,
    TIME_FIELDS,
    Endpoint,
    FieldRule,
    MarketSource,
    SymbolRule,
    compile_path,
)

MAX_ROWS: Final = 100_000
MAX_VALUES: Final = 1_000_000
"""The most values of a document, or elements and attributes of XML. 50,000 bars have half of that."""
MAX_MISFITS: Final = 100
MAX_REASON: Final = 200
MAX_SHOWN: Final = 60
"""The number of letters of a value that a misfit shows."""
MAX_NEXT_PAGE: Final = 8_192
"""The longest token or address of a next page; no server takes a longer address."""
MAX_REFUSAL_BYTES: Final = 65_536
"""How much of a document with an error's status is looked at."""
QUESTION_STATUS: Final = frozenset({400, 404, 410, 422})
"""The statuses of errors that are about one question, not about the asker or the source."""
PLAN_STATUS: Final = frozenset({402, 403})
"""The statuses of questions that the plan of a key does not have; others it may well have."""
SIGN_OUTCOMES: Final[Mapping[str, AnswerStatus]] = {
    "unknown": AnswerStatus.REFUSED,
    "denied": AnswerStatus.FAILED,
    "failed": AnswerStatus.FAILED,
    "empty": AnswerStatus.EMPTY,
}
"""What each sign of an endpoint means, in the order in which they are looked for after those of a limit."""
REFUSAL_SIGNS: Final = ("unknown", "denied")
"""The signs of an endpoint that are looked for in a document with an error's status."""
ACTION_NAME: Final = re.compile(r"[a-z][a-z_]{0,39}", re.ASCII)
DAY_FORMAT: Final = "%Y-%m-%d"
EARLIEST: Final = datetime(1600, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
_COLUMN: Final = re.compile(r'\w+|"[^"{}]+"')
"""A path that is the name of a column, the same for each symbol."""
_PERIODS: Final = (("%Y-%m-%d", 10), ("%Y-%m", 7), ("%Y", 4))


class NotThereError(Exception):
    """The source says itself that a field has no value."""


class UnknownActionError(Exception):
    """A row is of an action of a kind that no record can hold; the argument names the kind."""


class MisfitError(Exception):
    """A field is not what the source's file says.

    `values` is the value that it is about, if there is one. It may be long, deep, or have the key.
    """

    def __init__(self, problem: str, *values: Any) -> None:
        super().__init__(problem)
        self.problem, self.values = problem, values

    def describe(self, key: ApiKey | None) -> str:
        """Return the value and its problem as people may see them, without the key."""
        return " ".join([*(_shown(value, key) for value in self.values), self.problem])


def read_page(
    source: MarketSource, endpoint: Endpoint, question: Question, body: bytes, *, key: ApiKey | None = None
) -> Page:
    """Return what a document says in answer to a question. It never raises, whatever the document is.

    `key` is hidden in what the page says, because some sources repeat it in what they refuse.
    """
    paths = _Paths(source.symbol_rule(endpoint, question.asset), question.symbol)
    document, problem = _read_document(endpoint, body, key)
    signs = _list_signs(source, endpoint, SIGN_OUTCOMES)
    if (sign := _find_sign(signs, paths, document, key)) is not None:
        return sign
    if problem:
        return Page(AnswerStatus.FAILED, problem)
    rows = _find_rows(endpoint, paths, document)
    if rows is None:
        return Page(AnswerStatus.FAILED, f"no rows at {endpoint.records}"[:MAX_REASON])
    if not rows:
        return Page(AnswerStatus.EMPTY, "no rows")
    page = _read_rows(endpoint, paths, question, rows, key)
    if endpoint.paging is None or page.outcome is AnswerStatus.FAILED:
        return page
    found = paths.search(endpoint.paging.next, document)
    next_page = str(found) if isinstance(found, str | int) and found else None
    if next_page is not None and len(next_page) > MAX_NEXT_PAGE:
        return Page(AnswerStatus.FAILED, "the next page's address is too long")
    return replace(page, next_page=next_page)


def read_refusal(
    source: MarketSource,
    endpoint: Endpoint,
    question: Question,
    status: int,
    body: bytes,
    *,
    key: ApiKey | None = None,
) -> Page:
    """Return what a document with an error's status says: LIMITED, REFUSED, EMPTY or FAILED. It never raises.

    A client error is about the question, most often a symbol that the source does not have, or one that is
    not in the plan of the key: it is REFUSED, unless the file has a sign that the key is wrong.
    """
    paths = _Paths(source.symbol_rule(endpoint, question.asset), question.symbol)
    document, _ = _read_document(endpoint, body[:MAX_REFUSAL_BYTES], key)
    signs = _list_signs(source, endpoint, REFUSAL_SIGNS)
    if (sign := _find_sign(signs, paths, document, key)) is not None:
        return sign
    if status in QUESTION_STATUS:
        sign = _find_sign(_list_signs(source, endpoint, ("failed", "empty")), paths, document, key)
        if sign is not None and sign.outcome is AnswerStatus.EMPTY:
            return sign
    is_refused = status in QUESTION_STATUS or (status in PLAN_STATUS and bool(source.auth.env))
    return Page(AnswerStatus.REFUSED if is_refused else AnswerStatus.FAILED, str(status))


def _list_signs(
    source: MarketSource, endpoint: Endpoint, names: Iterable[str]
) -> Iterator[tuple[AnswerStatus, str]]:
    """Yield what the signs of a limit and those of an endpoint mean, and their paths, in the order to try."""
    yield from ((AnswerStatus.LIMITED, path) for path in source.limited)
    for name in names:
        yield from ((SIGN_OUTCOMES[name], path) for path in getattr(endpoint.signs, name))


def _find_sign(
    signs: Iterable[tuple[AnswerStatus, str]], paths: "_Paths", document: Any, key: ApiKey | None
) -> Page | None:
    """Return what the first sign says that the document has; None if it has none."""
    for outcome, path in signs:
        if found := paths.search(path, document):
            said = hide_key(found, key).strip() if isinstance(found, str) else outcome.value
            return Page(outcome, said[:MAX_REASON])
    return None


def _read_document(endpoint: Endpoint, body: bytes, key: ApiKey | None) -> tuple[Any, str]:
    """Return a document as JSON has it; if it is malformed the beginning of its text, and why.

    Some sources answer with a line of text where they have nothing.
    """
    try:
        return parse_document(endpoint, body), ""
    except (ValueError, LookupError, ExpatError, csv.Error, RecursionError) as error:
        text = hide_key(body[:MAX_REFUSAL_BYTES].decode("utf-8", "replace").strip(), key)
        return text[:MAX_REASON], hide_key(f"no {endpoint.format}: {error}", key)[:MAX_REASON]


def parse_document(endpoint: Endpoint, body: bytes) -> Any:
    """Return a document as JSON has it.

    Raise ValueError, ExpatError or csv.Error if it is malformed, LookupError if XML has an unknown encoding.
    Before that its values are counted: twenty megabytes of empty objects would take thirty times their size.
    """
    marks = {"json": (b",", b"{", b"["), "xml": (b"<", b"="), "csv": (endpoint.delimiter.encode(), b"\n")}
    if sum(map(body.count, marks[endpoint.format])) > MAX_VALUES:
        raise ValueError(f"more than {MAX_VALUES} values")
    if endpoint.format == "json":
        return load_json(body)
    if endpoint.format == "xml":
        document = xmltodict.parse(body)  # refuses entities
        if (root := re.match(r"\w+", endpoint.records)) is not None and root[0] not in document:
            raise ValueError(f"no element {root[0]}")  # such as a page for people, with status 200
        return document
    # not splitlines, because that also splits at marks that were not counted
    lines = body.decode("utf-8-sig", "replace").split("\n")[endpoint.skip_lines :]
    names = endpoint.columns or None
    reader = csv.DictReader(lines, names, delimiter=endpoint.delimiter, restkey="", skipinitialspace=True)
    if body.strip():  # a page for people with status 200 is text, too, and lacks the columns
        found = {(name or "").strip() for name in reader.fieldnames or ()}
        for name in sorted(REQUIRED_FIELDS[endpoint.kind]):
            path = endpoint.fields[name].path
            if _COLUMN.fullmatch(path) is not None and path.strip('"') not in found:
                raise ValueError(f"no column {path}")
    return [{(name or "").strip(): value for name, value in row.items()} for row in islice(reader, MAX_ROWS)]


class _Paths:
    """Follow paths in a document; `{symbol}`, `{base}` and `{quote}` are in the source's spelling."""

    def __init__(self, rule: SymbolRule, symbol: str) -> None:
        base, counter = rule.split(symbol)
        spelled = {"{symbol}": rule.spell(symbol), "{base}": base, "{quote}": counter}
        # within the quotes of a name a path has JSON's escapes
        self._spelled = {mark: orjson.dumps(text or "").decode()[1:-1] for mark, text in spelled.items()}

    def search(self, path: str, value: Any) -> Any:
        """Return None where the path can't be followed."""
        for mark, text in self._spelled.items():
            path = path.replace(mark, text)
        try:
            return compile_path(path).search(value)
        except (JMESPathError, TypeError, ValueError, AttributeError, RecursionError):
            return None


def _find_rows(endpoint: Endpoint, paths: _Paths, document: Any) -> list[Any] | None:
    """Return `MAX_ROWS` at most; None if the document has not the shape that the source's file says."""
    found = paths.search(endpoint.records, document)
    if endpoint.layout == "columns":
        return _find_columns(endpoint, paths, found)
    if endpoint.layout == "by_key":
        if not isinstance(found, Mapping):
            return None
        return [{"key": key, "value": value} for key, value in islice(found.items(), MAX_ROWS)]
    if isinstance(found, Mapping):
        return [found]  # one row alone
    if found is None and endpoint.format == "xml":
        return []  # XML has no other way to write a list without rows
    return found[:MAX_ROWS] if isinstance(found, list) else None


def _find_columns(endpoint: Endpoint, paths: _Paths, found: Any) -> list[Any] | None:
    """Return the rows of an object whose fields are lists; None if a field that is needed is not a list."""
    columns = {name: paths.search(rule.path, found) for name, rule in endpoint.fields.items()}
    lists = {name: each for name, each in columns.items() if isinstance(each, list)}
    if not REQUIRED_FIELDS[endpoint.kind] <= lists.keys():
        return None
    length = min(max(map(len, lists.values())), MAX_ROWS)
    return [
        {name: each[at] if at < len(each) else None for name, each in lists.items()} for at in range(length)
    ]


def _read_rows(
    endpoint: Endpoint, paths: _Paths, question: Question, rows: Sequence[Any], key: ApiKey | None
) -> Page:
    records: list[Record] = []
    misfits: list[Misfit] = []
    missing, unknown = 0, Counter[str]()
    for number, row in enumerate(rows):
        values: dict[str, Any] = {}
        name = ""
        try:
            for name, value in _find_fields(endpoint, paths, question, row).items():
                values[name] = _read_field(endpoint, paths, name, value, row)
            made = _MAKERS[endpoint.kind](endpoint, question, values)
        except NotThereError:
            missing += 1
        except UnknownActionError as error:
            unknown[str(error)] += 1
        except MisfitError as error:
            if len(misfits) < MAX_MISFITS:
                misfits.append(Misfit(number, name, error.describe(key)))
        else:
            records += made
            missing += not made
    if endpoint.adjustment is Adjustment.SPLITS and endpoint.kind is RecordKind.ACTIONS:
        records, lacking = _restore_amounts(question, records, are_all_read=not misfits and not missing)
        misfits += lacking
    if not records and misfits:
        return Page(
            AnswerStatus.FAILED, f"no row fits: {misfits[0].why}"[:MAX_REASON], (), tuple(misfits), missing
        )
    outcome = AnswerStatus.OK if records else AnswerStatus.EMPTY
    reason = "" if records else "no values"
    return Page(outcome, reason, tuple(records), tuple(misfits), missing, unknown_actions=unknown)


# -- fields


def _find_fields(endpoint: Endpoint, paths: _Paths, question: Question, row: Any) -> dict[str, Any]:
    """Return what stands for each field in a row. Raise MisfitError if it has none of them."""
    has_volume = question.asset not in endpoint.without_volume
    found = {
        name: row.get(name) if endpoint.layout == "columns" else paths.search(rule.path, row)
        for name, rule in endpoint.fields.items()
        if has_volume or name != "volume"
    }
    if all(value is None for value in found.values()):
        raise MisfitError("the row has no field")
    return found


def _read_field(endpoint: Endpoint, paths: _Paths, name: str, value: Any, row: Any) -> Any:
    """Return a field as a time, a text or a number; None for an optional one without a value.

    `value` is what stands for it in `row`. Raise MisfitError, or NotThereError if a needed one has no value.
    """
    rule = endpoint.fields[name]
    needed = name in REQUIRED_FIELDS[endpoint.kind]
    if value is None or (isinstance(value, str) and value.strip() in endpoint.missing):
        if needed and value is None and name in TIME_FIELDS:
            raise MisfitError("the row has no time")
        if needed:
            raise NotThereError
        return None
    if name in TIME_FIELDS:
        return read_time(value, rule)
    if name in TEXT_FIELDS:
        return _read_text(name, value)
    number = _read_fraction(value, rule, endpoint.thousands) * rule.scale
    if rule.divide_by is not None:
        number = _divide(number, _read_number(paths.search(rule.divide_by, row), endpoint.thousands))
    if rule.inverse:
        number = _divide(1.0, number)
    if not abs(number) < MAX_NUMBER:
        raise MisfitError("is out of bounds", value)
    return number


def read_time(value: Any, rule: FieldRule) -> int:
    """Return a time in epoch milliseconds. Raise MisfitError."""
    try:
        if rule.format in EPOCH_UNITS:
            millis = _read_epoch(value, EPOCH_UNITS[rule.format])
        else:
            if not isinstance(value, str | int) or isinstance(value, bool):
                raise MisfitError("is not a time", value)
            moment = _parse_moment(str(value).strip()[:64], rule.format)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=ZoneInfo(rule.zone))
            millis = round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise MisfitError(f"is not a time in the form {rule.format}", value) from None
    if not 1000 * EARLIEST.timestamp() <= millis <= 1000 * LATEST.timestamp():
        raise MisfitError("is not a time of this age", value)
    return millis


def _read_epoch(value: Any, per_sec: int) -> int:
    """Return a time in epoch milliseconds, given in units; a second has `per_sec` of them.

    Raise ValueError if it is not a number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(value)  # noqa: TRY004 - the caller takes whatever is not a time for a misfit
    if isinstance(value, int) or (isinstance(value, str) and value.lstrip("-").isdigit()):
        return int(str(value)[:24]) * 1000 // per_sec
    number = float(value)
    if not isfinite(number):
        raise ValueError
    return round(number * 1000 / per_sec)


def _parse_moment(text: str, form: str) -> datetime:
    """Return a time in one of the forms that are not numbers. Raise ValueError."""
    if form == "iso":
        return datetime.fromisoformat(text)
    if form == "period":
        return _parse_period(text)
    return datetime.strptime(text, form)  # noqa: DTZ007 - the caller knows the zone


def _parse_period(text: str) -> datetime:
    """Return the beginning of a day, month, quarter or year: 2026-11-22, 2026-11, 2026M11, 2026-Q4, 2026.

    Raise ValueError.
    """
    year, mark, part = text[:4], text[4:].lstrip("-")[:1].upper(), text[4:].lstrip("-")[1:]
    if mark == "Q" and part in {"1", "2", "3", "4"}:
        return datetime(int(year), 3 * int(part) - 2, 1)  # noqa: DTZ001 - the caller knows the zone
    if mark == "M" and part.isdigit():
        return datetime(int(year), int(part), 1)  # noqa: DTZ001
    for pattern, length in _PERIODS:
        if len(text) == length:
            return datetime.strptime(text, pattern)  # noqa: DTZ007
    raise ValueError(text)


def _read_text(name: str, value: Any) -> str:
    """Return a symbol or a kind of action. Raise MisfitError."""
    pattern, what = (ACTION_NAME, "a kind of action") if name == "action" else (SYMBOL, "a symbol")
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise MisfitError(f"is not {what}", value)
    return value


def _read_fraction(value: Any, rule: FieldRule, thousands: str) -> float:
    """Return a number, or the quotient of two that stand in one text. Raise MisfitError."""
    if not rule.fraction or not isinstance(value, str) or rule.fraction not in value:
        return _read_number(value, thousands)
    number, _, divisor = value.partition(rule.fraction)
    return _divide(_read_number(number, thousands), _read_number(divisor, thousands))


def _divide(number: float, divisor: float) -> float:
    if divisor == 0:
        raise MisfitError("divided by 0")
    return number / divisor


def _read_number(value: Any, thousands: str) -> float:
    """Return a finite number, without what single precision added to it. Raise MisfitError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise MisfitError("is not a number", value)
    text = value
    if isinstance(value, str):
        text = value.strip()[:64].removesuffix("%")
        text = text.replace(thousands, "") if thousands else text
    try:
        number = read_float(text) if isinstance(text, str) else float(text)
    except OverflowError:
        number = None
    if number is None or not isfinite(number):
        raise MisfitError("is not a number", value)
    return settle_single(number)


def _shown(value: Any, key: ApiKey | None) -> str:
    """Return a value as a message may show it: its beginning, without the key.

    Of a list or an object only the name is shown, because it may be too deep for `repr`.
    """
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return repr(hide_key(value, key)[:MAX_SHOWN])[:MAX_SHOWN]
    return hide_key(repr(value), key)[:MAX_SHOWN]


# -- records


def _make_bar(endpoint: Endpoint, question: Question, values: Mapping[str, Any]) -> Sequence[Record]:
    start = values["start"]
    if endpoint.stamp == "close":
        start -= 1000 * TIMEFRAME_SEC[question.timeframe]
    trades = values.get("trades")
    bar = Bar(
        question.symbol,
        question.timeframe,
        start,
        values["open"],
        values["high"],
        values["low"],
        values["close"],
        volume=values.get("volume"),
        vwap=values.get("vwap") or None,  # of a minute without a trade it is 0
        trades=None if trades is None else int(trades),
    )
    return (settle_range(bar),)


def _make_quote(endpoint: Endpoint, question: Question, values: Mapping[str, Any]) -> Sequence[Record]:
    """Give a quote without a time that of the question's end, and one whose time is a close still to come."""
    named = {
        name: value for name, value in values.items() if name not in ("symbol", "at") and value is not None
    }
    at, end_ms = values.get("at"), round(question.end.timestamp() * 1000)
    if at is None or (endpoint.at_close and at > end_ms):
        at = end_ms
    return (Quote(values.get("symbol") or question.symbol, at, **named),)


def _make_observation(endpoint: Endpoint, question: Question, values: Mapping[str, Any]) -> Sequence[Record]:
    """Let a value whose source names the day from which on it was known be known from the end of that day."""
    known_ms = values.get("known_at")
    if known_ms is not None and endpoint.fields["known_at"].format == DAY_FORMAT:
        known_ms += DAY_MS  # it may have come in the evening
    return (Observation(question.symbol, values["start"], values["value"], known_ms),)


def _make_actions(_: Endpoint, question: Question, values: Mapping[str, Any]) -> Sequence[Record]:
    """Return what happened on a day: a ratio of 1 and an amount of 0 are nothing.

    Without a kind, each value is an action of its own. Raise MisfitError, or UnknownActionError.
    """
    symbol, day = question.symbol, find_day(values["ex_day"])
    ratio, amount, new_symbol = (values.get(name) for name in ("ratio", "amount", "new_symbol"))
    made = []
    if (name := values.get("action")) is not None:
        if name not in set(ActionKind):
            raise UnknownActionError(name)
        made.append(CorporateAction(symbol, ActionKind(name), day, ratio, amount or None, new_symbol))
        ratio = amount = new_symbol = None
    if ratio is not None and not is_no_split(ratio):
        made.append(CorporateAction(symbol, ActionKind.SPLIT, day, ratio=ratio))
    if amount:
        made.append(CorporateAction(symbol, ActionKind.DIVIDEND, day, amount=amount))
    if new_symbol is not None:
        made.append(CorporateAction(symbol, ActionKind.RENAME, day, new_symbol=new_symbol))
    for action in made:
        if (fault := find_action_fault(action)) is not None:
            raise MisfitError(fault)
    return made


def _restore_amounts(
    question: Question, records: Iterable[Record], *, are_all_read: bool
) -> tuple[list[Record], list[Misfit]]:
    """Return actions with dividends as they were paid, and a misfit for each for which that is unknown.

    What is not read may be a split, and then it is unknown of all. What lies ahead adjusts nothing yet.
    """
    actions = [each for each in records if isinstance(each, CorporateAction)]
    known = [each for each in actions if find_day_ms(each.ex_day) < 1000 * question.end.timestamp()]
    restored, unknown = restore_amounts(known)
    if not are_all_read:
        unknown += [each for each in restored if each.amount is not None]
        restored = [each for each in restored if each.amount is None]
    rows = (actions.index(each) if each in actions else 0 for each in unknown)
    why = "its splits are not known, so neither is what was paid"
    return list(restored), [Misfit(row, "amount", why) for row in rows][:MAX_MISFITS]


_MAKERS: Final[Mapping[RecordKind, Callable[[Endpoint, Question, Mapping[str, Any]], Sequence[Record]]]] = {
    RecordKind.BARS: _make_bar,
    RecordKind.QUOTES: _make_quote,
    RecordKind.OBSERVATIONS: _make_observation,
    RecordKind.ACTIONS: _make_actions,
}


def keep_asked(question: Question, records: Iterable[Record]) -> tuple[Record, ...]:
    """Return the bars and observations that begin within a question, oldest first, each once; all quotes.

    Of two for the same time the later one counts, unless they were known since different times; of actions
    see `merge_actions`. Some sources answer more than was asked, some twice; what came of the time before is
    kept from `keep_from` on.
    """
    if question.kind is RecordKind.QUOTES:
        return tuple(records)
    first = question.start if question.keep_from is None else min(question.start, question.keep_from)
    start_ms, end_ms = (round(1000 * each.timestamp()) for each in (first, question.end))
    if question.kind is RecordKind.ACTIONS:
        actions = [each for each in records if isinstance(each, CorporateAction)]
        return tuple(merge_actions(each for each in actions if start_ms <= find_day_ms(each.ex_day) < end_ms))
    found = {
        (record.start_ms, find_known(record)): record
        for record in cast("Iterable[Bar | Observation]", records)
        if start_ms <= record.start_ms < end_ms
    }
    return tuple(found[key] for key in sorted(found))


def find_known(record: Record) -> int:
    """Return since when a value of a period was known that may have several; 0 if its source does not say."""
    return (record.known_ms or 0) if isinstance(record, Observation) else 0
