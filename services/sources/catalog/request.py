"""Make the request for one question from a source's file. Pure.

The key is put in last, by `SourceRequest.with_key`, so that everything before it may be logged and shown.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from string import Formatter
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import orjson

from marketswarm.text import map_texts
from services.market.records import TIMEFRAME_SEC, AssetClass, RecordKind
from services.sources.catalog.source import EPOCH_UNITS, OPTION, AuthPlace, Endpoint, MarketSource

KEY_MARK: Final = "\x00key\x00"
"""What stands for a key in a path until it is put in. No source's spelling has a zero byte."""
AFTER_END: Final = timedelta(days=90)
_ACCEPT: Final = {
    "json": "application/json, */*;q=0.1",
    "csv": "text/csv, */*;q=0.1",
    "xml": "application/xml, text/xml;q=0.9, */*;q=0.1",
}


@dataclass(frozen=True, slots=True)
class Question:
    """Hold what is to be asked: records of one kind for a symbol, from `start` up to `end` (UTC).

    `timeframe` is that of bars, otherwise empty. `known_until` is the time of the newest record that is
    known: what is older is asked for again, since it may be corrected. None asks for the history.
    """

    symbol: str
    asset: AssetClass
    kind: RecordKind
    start: datetime
    end: datetime
    timeframe: str = ""
    known_until: datetime | None = None
    keep_from: datetime | None = None

    @property
    def is_history(self) -> bool:
        return self.known_until is None and self.kind is not RecordKind.QUOTES


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Hold a key, and the secret that belongs to it."""

    key: str = field(repr=False)
    secret: str = field(default="", repr=False)


def read_key(key: ApiKey | None) -> str | None:
    """Return the text of a key, whose account counts the requests with it; None if there is none."""
    return None if key is None else key.key


def hide_key(text: str, key: ApiKey | None) -> str:
    """Return a text without the key and its secret, as they are or as an address has them.

    Hide them before you cut a text, because nothing would find a part of a key.
    """
    for secret in () if key is None else (key.key, key.secret):
        if secret:
            text = text.replace(secret, "KEY").replace(quote(secret, safe=""), "KEY")
    return text


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """Hold a request without its key, so that it may be logged."""

    method: str
    url: str
    params: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, str], ...]
    body: bytes | None = None

    def with_key(self, source: MarketSource, key: ApiKey | None) -> "SourceRequest":
        """Return the request as it is sent; `key` is None for a source that needs none."""
        auth = source.auth
        if key is None or auth.place is AuthPlace.NONE:
            return self
        headers, params, url = dict(self.headers), dict(self.params), self.url
        if auth.place is AuthPlace.QUERY:
            params[auth.name] = key.key
            if auth.secret_name:
                params[auth.secret_name] = key.secret
        elif auth.place is AuthPlace.HEADER:
            headers[auth.name] = auth.prefix + key.key
            if auth.secret_name:
                headers[auth.secret_name] = key.secret
        elif auth.place is AuthPlace.BEARER:
            headers["Authorization"] = f"Bearer {key.key}"
        elif auth.place is AuthPlace.BASIC:
            headers["Authorization"] = "Basic " + b64encode(f"{key.key}:{key.secret}".encode()).decode()
        else:
            url = url.replace(KEY_MARK, quote(key.key, safe=""))
            params = {name: value.replace(KEY_MARK, key.key) for name, value in params.items()}
        return replace(self, url=url, params=tuple(params.items()), headers=tuple(headers.items()))

    def find_url(self, source: MarketSource, base_url: str) -> str:
        """Return the address with its query, at `base_url` instead of the source's own."""
        parts = urlsplit(base_url + self.url.removeprefix(source.base_url))
        # a next page's address has a query of its own
        query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *self.params])
        return urlunsplit((*parts[:3], query, ""))

    def describe(self) -> str:
        """Return the address for people, without the key."""
        query = urlencode(self.params)
        url = f"{self.url}?{query}" if query else self.url
        return url.replace(KEY_MARK, "KEY").replace("%00key%00", "KEY")


class _TemplateFormatter(Formatter):
    """Fill templates: a time's format is one of a field's formats, or a pattern of strftime."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if not isinstance(value, datetime):
            return str(super().format_field(value, format_spec))
        if format_spec in EPOCH_UNITS:
            return str(int(value.timestamp()) * EPOCH_UNITS[format_spec])
        if format_spec in ("", "iso"):
            return value.strftime("%Y-%m-%dT%H:%M:%SZ")
        return value.strftime(format_spec)


_FORMATTER: Final = _TemplateFormatter()


def make_request(
    source: MarketSource, endpoint: Endpoint, question: Question, page: str | None = None
) -> SourceRequest:
    """Return the request for a question, or for its page `page`, without the key.

    Raise ValueError if the source does not have the question's symbol.
    """
    values = _template_values(source, endpoint, question)
    safe = KEY_MARK + ("/" if endpoint.keep_slashes else "")
    quoted = {
        name: quote(each, safe=safe) if isinstance(each, str) else each for name, each in values.items()
    }
    path = _fill(endpoint.path, quoted)
    params = {name: _fill(text, values) for name, text in endpoint.params.items()}
    headers = {"Accept": _ACCEPT[endpoint.format], **source.headers, **endpoint.headers}
    body = None
    if endpoint.json_body is not None:
        body = orjson.dumps(map_texts(endpoint.json_body, lambda text: _fill(text, values)))
        headers["Content-Type"] = "application/json"
    url = source.base_url + path
    if page is not None and endpoint.paging is not None:
        if endpoint.paging.param:
            params[endpoint.paging.param] = page
        else:
            url, params = page, {}
    given = tuple((name, value) for name, value in params.items() if value)
    return SourceRequest(endpoint.method, url, given, tuple(headers.items()), body)


def _template_values(source: MarketSource, endpoint: Endpoint, question: Question) -> dict[str, Any]:
    """Return what the placeholders of the templates stand for. Raise ValueError for an unknown symbol."""
    rule = source.symbol_rule(endpoint, question.asset)
    spelled = rule.spell(question.symbol)
    if spelled is None:
        raise ValueError(f"{source.name} has no {question.symbol}")
    base, counter = rule.split(question.symbol)
    start = question.start.astimezone(UTC)
    option = OPTION.fullmatch(question.symbol)
    return {
        "underlying": option[1] if option else question.symbol,
        "symbol": spelled,
        "base": base or "",
        "quote": counter or "",
        "timeframe": endpoint.timeframes.get(question.timeframe, ""),
        "start": start,
        # for a source whose range leaves its own beginning out
        "before_start": start - timedelta(seconds=TIMEFRAME_SEC.get(question.timeframe, 1)),
        "end": question.end.astimezone(UTC),
        # for a source that dates what happens by a later day, as that on which a dividend is paid
        "after_end": question.end.astimezone(UTC) + AFTER_END,
        "limit": endpoint.limit,
        "key": KEY_MARK,
    }


def split_question(endpoint: Endpoint, question: Question, now: datetime) -> list[Question]:
    """Return the parts in which a question is asked, as one answer may have too few records.

    They are in the order in which to ask, since the limits may not allow all of them. Of a history the newest
    part is the first, so that no gap is left if the oldest ones are left out. Of what is new the oldest part
    is, and what is known already comes last.

    What is older than the endpoint's history is left out, and so is what lies ahead of `now`.
    """
    parts = list(_cut(endpoint, question, _find_start(endpoint, question, now), min(question.end, now)))
    known = question.known_until
    if known is None:
        return parts[::-1]
    new = [part for part in parts if part.end > known]
    return new + parts[: len(parts) - len(new)][::-1]


def _find_start(endpoint: Endpoint, question: Question, now: datetime) -> datetime:
    start = question.start
    if endpoint.revised_days is not None and question.known_until is not None:
        start = max(start, question.known_until - timedelta(days=endpoint.revised_days))
    if endpoint.history_days is not None:
        start = max(start, now - timedelta(days=endpoint.history_days))
    if endpoint.history_bars is not None and question.timeframe:
        start = max(start, now - endpoint.history_bars * timedelta(seconds=TIMEFRAME_SEC[question.timeframe]))
    return start


def _cut(endpoint: Endpoint, question: Question, start: datetime, end: datetime) -> Iterator[Question]:
    """Yield the parts of a question, the oldest first."""
    spans = [timedelta(days=endpoint.max_days)] if endpoint.max_days is not None else []
    if endpoint.limit is not None and question.timeframe:
        spans.append(timedelta(seconds=endpoint.limit * TIMEFRAME_SEC[question.timeframe]))
    span = min(spans, default=end - start)
    while start < end:
        upto = min(start + span, end)
        if endpoint.by_year:
            upto = min(upto, datetime(start.astimezone(UTC).year + 1, 1, 1, tzinfo=UTC))
        yield replace(question, start=start, end=upto)
        start = upto


def _fill(template: str, values: Mapping[str, Any]) -> str:
    return _FORMATTER.vformat(template, (), values)
