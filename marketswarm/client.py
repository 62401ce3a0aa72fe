"""Read the market of a board as polars frames, from a program or a notebook of your own.

    from marketswarm.client import MarketClient

    with MarketClient("http://127.0.0.1:8080") as market:
        bars = market.bars(["SPY", "QQQ"], "1d", start="2024-01-01")

It asks the board's API and needs nothing of the fleet, neither its buses nor its services. polars is in the
extra `market`.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlencode

import httpx
import orjson

from marketswarm import __version__
from marketswarm.net.errors import NetworkReason
from marketswarm.net.http import TOO_LONG, HttpError, HttpResponse

if TYPE_CHECKING:
    import polars as pl

TIMEOUT_SEC: Final = 30.0
MAX_BYTES: Final = 4 * 1024**3
NAME_CHARS: Final = 1400
"""The most characters of the symbols of one request: more of them are asked for by several requests."""
PAGE_ROWS: Final = 5000
KNOWN_AFTER: Final = "24h"
"""How long after its start the features of a day are known: every market of that date is closed by then."""
_STREAM_TYPE: Final = "application/vnd.apache.arrow.stream"
_STREAM_END: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_DETAIL_CHARS: Final = 1000

Symbols = str | Sequence[str] | None
"""A symbol, or several; None for all that the archive has."""
Moment = str | date | datetime | None
"""A time, UTC unless it says otherwise, a trading day, or a period before now such as `30d` or `2y`."""


class ClientError(Exception):
    """A board gave no answer that can be used; the message says why."""


class BoardUnreachableError(ClientError):
    """No whole answer came. `reason` is one word, such as `refused`, `timeout`, `broken` or `too_long`."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url}: {reason}")
        self.reason = reason


class RequestRefusedError(ClientError):
    """The board refused a request, in the words of the message; `status` is that of HTTP."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class UnknownSymbolError(RequestRefusedError):
    """There is no such symbol or series (404); the message has the nearest name that there is."""


class NotAllowedError(RequestRefusedError):
    """A token is needed, or this one lacks the scope `read` (401, 403)."""


class TryLaterError(RequestRefusedError):
    """Too many requests, or the database does not answer (429, 503): try again after `retry_after_sec`."""

    def __init__(self, status: int, detail: str, retry_after_sec: float | None) -> None:
        super().__init__(status, detail)
        self.retry_after_sec = retry_after_sec


class MarketClient:
    """Asks a board for its market; each method returns a frame. Use as a context manager, or `close` it.

    Rows come by symbol, in the order that was asked for, and then by time, the oldest first. Times have the
    zone UTC. Each method raises ClientError. One answer may have `max_bytes`, as it is sent.

    Args:
        url: the board's address, such as `http://127.0.0.1:8080`.
        token: one with the scope `read`, which a client on another machine needs.
        timeout_sec: how long the board may be silent, before its answer or within it.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout_sec: float = TIMEOUT_SEC,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._polars, self._max_bytes = _import_polars(), max_bytes
        headers = {"User-Agent": f"marketswarm-client/{__version__}", "Accept-Encoding": "identity"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._url = f"{url.rstrip('/')}/api/v1"
        self._client = httpx.Client(headers=headers, timeout=timeout_sec, follow_redirects=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def bars(
        self,
        symbols: Symbols = None,
        timeframe: str = "1d",
        start: Moment = None,
        end: Moment = None,
        *,
        asset: str | None = None,
        adjust: str | None = None,
        as_of: Moment = None,
    ) -> "pl.DataFrame":
        """Return bars with times from `start` on and before `end`; of all symbols, those of a class.

        `adjust` is `none` (as traded), `splits` or `all`: up to today, or to the day of `as_of`. With `as_of`
        they are those that were known then; a date is its end.
        """
        more = {"timeframe": timeframe, "asset": asset, "adjust": adjust, "as_of": _format_moment(as_of)}
        return self._read("bars", "symbols", symbols, start, end, **more)

    def indicators(
        self,
        symbols: Symbols = None,
        timeframe: str = "1d",
        start: Moment = None,
        end: Moment = None,
        *,
        asset: str | None = None,
        as_of: Moment = None,
    ) -> "pl.DataFrame":
        """Return the indicators of bars, a column each."""
        more = {"timeframe": timeframe, "asset": asset, "as_of": _format_moment(as_of)}
        return self._read("indicators", "symbols", symbols, start, end, **more)

    def features(
        self,
        symbols: Symbols = None,
        start: Moment = None,
        end: Moment = None,
        *,
        asset: str | None = None,
        as_of: Moment = None,
    ) -> "pl.DataFrame":
        """Return the features of days, a column each. `join_known` lays them beside bars."""
        more = {"asset": asset, "as_of": _format_moment(as_of)}
        return self._read("features", "symbols", symbols, start, end, **more)

    def observations(
        self, series: Symbols = None, start: Moment = None, end: Moment = None, *, as_of: Moment = None
    ) -> "pl.DataFrame":
        """Return the values of economic series, each at the begin of its period, before it was published.

        With `as_of` they are the values that were known then, before they were revised.
        """
        return self._read("observations", "series", series, start, end, as_of=_format_moment(as_of))

    def symbols(self, asset: str | None = None, *, as_of: Moment = None) -> "pl.DataFrame":
        """Return the symbols of the archive: their class, and the times of their first and last record.

        With `as_of` they are the universe of then.
        """
        frames: list[pl.DataFrame] = []
        cursor: str | None = None
        while not frames or cursor is not None:
            params = {"format": "arrow", "limit": PAGE_ROWS, "asset": asset, "cursor": cursor}
            params |= {"as_of": _format_moment(as_of)}
            answer = self._fetch("symbols", params)
            frames.append(self._polars.read_ipc(BytesIO(answer.body)))
            cursor = answer.headers.get("x-cursor")
        return self._concat(frames)

    def _read(
        self, table: str, kind: str, names: Symbols, start: Moment, end: Moment, **params: str | None
    ) -> "pl.DataFrame":
        asked = {**params, "from": _format_moment(start), "to": _format_moment(end)}
        parts = [None] if names is None else split_names([names] if isinstance(names, str) else names)
        return self._concat([self._read_stream(table, {**asked, kind: part}) for part in parts])

    def _concat(self, frames: "Sequence[pl.DataFrame]") -> "pl.DataFrame":
        whole: pl.DataFrame = self._polars.concat(frames)
        return whole

    def _read_stream(self, table: str, params: Mapping[str, Any]) -> "pl.DataFrame":
        answer = self._fetch(table, params)
        if not answer.body.endswith(_STREAM_END):  # polars would take what came for all
            raise BoardUnreachableError(self._url, NetworkReason.BROKEN)
        frame: pl.DataFrame = self._polars.read_ipc_stream(BytesIO(answer.body))
        return frame

    def _fetch(self, path: str, params: Mapping[str, Any]) -> HttpResponse:
        """Return an answer with the status 200. Raises ClientError."""
        query = urlencode({name: each for name, each in params.items() if each is not None}, safe=",/:")
        body = bytearray()
        try:
            with self._client.stream(
                "GET", f"{self._url}/{path}?{query}", headers={"Accept": _STREAM_TYPE}
            ) as response:
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > self._max_bytes:
                        raise BoardUnreachableError(self._url, TOO_LONG)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = HttpError(error, HttpResponse(0, b"")).reason
            raise BoardUnreachableError(self._url, reason) from error
        answer = HttpResponse(response.status_code, bytes(body), response.headers)
        if answer.status != httpx.codes.OK:
            raise make_refusal(answer)
        return answer


def join_known(bars: "pl.DataFrame", features: "pl.DataFrame") -> "pl.DataFrame":
    """Return bars, each beside the newest features of its symbol that were known when it began.

    Features are known at their `known_at`, and without one a day after the start of their own (KNOWN_AFTER),
    so those of a bar's own day are never beside it. The columns that both have are those of the bars;
    `start_features` is the day of the features.
    """
    pl = _import_polars()
    known_at = pl.col("start").dt.offset_by(KNOWN_AFTER)
    if "known_at" in features.columns:
        known_at = pl.col("known_at").fill_null(known_at)
    known = features.with_columns(known_at=known_at).sort("known_at")
    joined = bars.sort("start").join_asof(
        known,
        left_on="start",
        right_on="known_at",
        by="symbol",
        suffix="_features",
        coalesce=False,
        check_sortedness=False,  # it can't be checked within symbols; both were sorted just now
    )
    return joined.sort("symbol", "start")


def split_names(names: Sequence[str]) -> Iterator[str]:
    """Yield names with commas between them, as many at once as a request takes. None are a ValueError."""
    if not names:
        raise ValueError("symbols: none is named; leave them out for all")
    part = ""
    for name in names:
        if part and len(part) + 1 + len(name) > NAME_CHARS:
            yield part
            part = ""
        part += f",{name}" if part else name
    yield part


def make_refusal(answer: HttpResponse) -> RequestRefusedError:
    """Return the error that an answer without rows means, in the board's own words."""
    detail = answer.body[:_DETAIL_CHARS].decode("utf-8", "replace").strip()
    try:
        detail = str(orjson.loads(answer.body)["detail"])[:_DETAIL_CHARS]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        detail = detail or f"status {answer.status}"
    if answer.status in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE):
        return TryLaterError(answer.status, detail, answer.find_retry_after())
    kinds = {404: UnknownSymbolError, 401: NotAllowedError, 403: NotAllowedError}
    return kinds.get(answer.status, RequestRefusedError)(answer.status, detail)


def _format_moment(moment: Moment) -> str | None:
    return moment.isoformat() if isinstance(moment, date) else moment


def _import_polars() -> Any:
    try:
        import polars as pl  # noqa: PLC0415 - half a second, and an extra
    except ImportError:
        raise ImportError("marketswarm.client needs polars: pip install 'marketswarm[market]'") from None
    return pl
