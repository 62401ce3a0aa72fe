"""Try a source as a person does: ask a small question of each kind, whatever its limits are, and show all."""

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from marketswarm.bus.rate_limiter import SharedRateLimiter, Windows
from marketswarm.text import escape_text
from services.market.fields import PAIR
from services.market.records import TIMEFRAME_SEC, AssetClass, Record, RecordKind
from services.market.sessions import DEFAULT_SESSIONS, get_session
from services.sources.access.client import AskContext, SourceClient
from services.sources.catalog.answer import AnswerStatus, SentRequest, SourceAnswer
from services.sources.catalog.request import ApiKey, Question, hide_key
from services.sources.catalog.source import OPTION, Endpoint, MarketSource

EXAMPLES: Final[Mapping[AssetClass, tuple[str, ...]]] = {
    AssetClass.STOCKS: ("AAPL",),
    AssetClass.FOREX: ("EUR/USD", "USD/EUR"),
    AssetClass.CRYPTO: ("BTC/USD", "BTC/USDT"),
    AssetClass.COMMODITIES: ("GC", "CL", "XAU/USD"),
    AssetClass.VOLATILITY: ("VIX",),
}
"""Symbols that a source is tried with where its file names none."""
_CURRENCY: Final = re.compile(r"[A-Z]{3}")
_COINS: Final = frozenset(
    {"BTC", "ETH", "SOL", "XRP", "ADA", "LTC", "BCH", "DOT", "BNB", "TRX", "XLM", "UNI"}
)
_BARS: Final = 100
"""About how many bars are asked for."""
_SPAN: Final[Mapping[RecordKind, timedelta]] = {
    RecordKind.QUOTES: timedelta(days=1),
    RecordKind.OBSERVATIONS: timedelta(days=730),
    RecordKind.ACTIONS: timedelta(days=3650),
}
_CLOSED_FOR: Final = timedelta(days=5)
"""How long a market may be closed at a stretch; there is something from before that."""
RAW_LETTERS: Final = 2_000
"""The number of letters of an answer that are shown as they came."""
MISFITS_SHOWN: Final = 5
TRIED_AT_ONCE: Final = 8
"""The number of sources that are tried at the same time."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Hold what came of one question to one endpoint."""

    endpoint: str
    question: Question
    answer: SourceAnswer
    requests: tuple[SentRequest, ...]

    @property
    def is_good(self) -> bool:
        """True if there are records, and every row is a record or has no value."""
        return self.answer.outcome is AnswerStatus.OK and not self.answer.misfits


@dataclass(frozen=True, slots=True)
class TrialReport:
    """Hold what came of all questions to one source, and how long they took."""

    source: str
    trials: tuple[Trial, ...]
    took_sec: float

    @property
    def is_good(self) -> bool:
        """True if something was asked, and all of it fits."""
        return bool(self.trials) and all(trial.is_good for trial in self.trials)

    @property
    def why(self) -> str:
        """What is wrong, by endpoint; empty if nothing is."""
        if not self.trials:
            return "has nothing that could be asked without a symbol"
        wrong = (
            f"{each.endpoint}: {_describe_result(each.answer)}" for each in self.trials if not each.is_good
        )
        return escape_text("; ".join(wrong))


class _NoLimits(SharedRateLimiter):
    """Let every request pass, because a person who tries a source sends a few; ask no bus."""

    def __init__(self) -> None:
        pass

    async def _run(self, word: str, _secret: str | None, _pause_sec: float, windows: Windows) -> Any:
        return [count for _, count in windows] if word == "left" else 0


def find_assets(source: MarketSource, symbol: str) -> tuple[AssetClass, ...]:
    """Return the asset classes that name a symbol, otherwise those that its spelling allows."""
    named = {
        asset
        for endpoint in source.serves.values()
        for asset in endpoint.assets
        if symbol in source.symbol_rule(endpoint, asset).names
    }
    if named:
        return tuple(asset for asset in AssetClass if asset in named)
    if OPTION.fullmatch(symbol):
        return (AssetClass.OPTIONS,)
    pair = PAIR.fullmatch(symbol)
    if pair is None:
        return (AssetClass.STOCKS, AssetClass.COMMODITIES, AssetClass.VOLATILITY, AssetClass.ECONOMIC)
    is_money = all(_CURRENCY.fullmatch(part) and part not in _COINS for part in pair.groups())
    return (AssetClass.FOREX, AssetClass.COMMODITIES) if is_money else (AssetClass.CRYPTO,)


def make_questions(
    source: MarketSource, symbol: str | None, timeframe: str | None, now: datetime
) -> Iterator[tuple[str, Question]]:
    """Yield the name of each endpoint that can be asked, and one question to it.

    Each question is about `symbol`, or about one that the source knows, and small enough for one request. An
    endpoint that has only options is left out unless a symbol is given: they end.
    """
    for name, endpoint in source.serves.items():
        wanted = timeframe or next(iter(endpoint.timeframes), "")
        if endpoint.timeframes and wanted not in endpoint.timeframes:
            continue
        for asset in endpoint.assets if symbol is None else find_assets(source, symbol):
            if asset not in endpoint.assets:
                continue
            rule = source.symbol_rule(endpoint, asset)
            known = (*EXAMPLES.get(asset, ()), *rule.names) if symbol is None else (symbol,)
            chosen = next((each for each in known if rule.spell(each) is not None), None)
            if chosen is not None:
                end = now
                if endpoint.kind is RecordKind.BARS:  # no source answers for a weekend
                    session = get_session(DEFAULT_SESSIONS[asset])
                    end = now if session.is_open(now) else session.last_close(now)
                tf = wanted if endpoint.timeframes else ""
                yield name, Question(chosen, asset, endpoint.kind, end - find_span(endpoint, wanted), end, tf)
                break


def find_span(endpoint: Endpoint, timeframe: str) -> timedelta:
    """Return how far back one small question goes that one request answers."""
    length = timedelta(seconds=TIMEFRAME_SEC.get(timeframe, 0))
    spans = [_SPAN.get(endpoint.kind) or max(_BARS * length, _CLOSED_FOR)]
    if endpoint.limit is not None and timeframe:
        spans.append(endpoint.limit * length)
    spans += [timedelta(days=days) for days in (endpoint.max_days, endpoint.history_days) if days is not None]
    return min(spans)


async def ask_questions(
    source: MarketSource,
    keys: Mapping[str, Sequence[ApiKey]],
    questions: Sequence[tuple[str, Question]],
    base_url: str | None,
) -> list[Trial]:
    """Ask one question after the other.

    Args:
        questions: the name of an endpoint, and the question to it.
        base_url: where to find the source instead of where its file says.
    """
    sent: list[SentRequest] = []
    trials = []
    base_urls = {} if base_url is None else {source.name: base_url.rstrip("/")}
    context = AskContext(_NoLimits(), on_request=sent.append)
    async with SourceClient(keys, base_urls) as client:
        for name, question in questions:
            answer = await client.ask_endpoint(source, source.serves[name], question, context)
            trials.append(Trial(name, question, answer, tuple(sent)))
            sent.clear()
    return trials


async def try_sources(
    sources: Sequence[MarketSource],
    keys: Mapping[str, Sequence[ApiKey]],
    base_urls: Mapping[str, str],
    note: Callable[[str], None],
) -> list[TrialReport]:
    """Ask each source what `source try` asks, some sources at the same time; return the reports in order.

    `note` is called with a line whenever a source is done.
    """
    places, done = asyncio.Semaphore(TRIED_AT_ONCE), 0

    async def try_one(source: MarketSource) -> TrialReport:
        nonlocal done
        async with places:
            begun = time.monotonic()
            questions = list(make_questions(source, None, None, datetime.now(UTC)))
            trials = await ask_questions(source, keys, questions, base_urls.get(source.name))
        report = TrialReport(source.name, tuple(trials), time.monotonic() - begun)
        done += 1
        note(f"{done} of {len(sources)}: {'✓' if report.is_good else '✗'} {source.name}")
        return report

    return list(await asyncio.gather(*map(try_one, sources)))


# -- what came, for people and for programs


def encode_report(report: TrialReport) -> dict[str, Any]:
    trials = [encode_trial(trial) for trial in report.trials]
    return {
        "source": report.source,
        "fits": report.is_good,
        "took_sec": round(report.took_sec, 3),
        "trials": trials,
    }


def _describe_result(answer: SourceAnswer) -> str:
    """Return what an answer is, why, and how many rows did not fit."""
    misfits = f", {len(answer.misfits):,} rows do not fit" if answer.misfits else ""
    return answer.outcome.value + (f", {answer.reason}" if answer.reason else "") + misfits


def describe_trial(trial: Trial, keys: Sequence[ApiKey], *, raw: bool) -> Iterator[str]:
    """Yield lines that say what was asked, what came, what was mapped, and what did not fit.

    The first line is the result. `raw`: show also the beginning of each answer, without any of the keys.
    """
    answer, question = trial.answer, trial.question
    what = f"{question.kind} of {question.symbol}{question.timeframe and f' in {question.timeframe}'}"
    result = answer.outcome.value + (f", {answer.reason}" if answer.reason else "")
    counted = f", {len(answer.records):,} records" if answer.records else ""
    missing = f", {answer.missing:,} without a value" if answer.missing else ""
    mark = "✓" if trial.is_good else "✗"
    yield escape_text(f"{mark} {trial.endpoint}: {what}: {result}{counted}{missing}")
    for each in trial.requests:
        came = f"{each.status or 'nothing'}, {len(each.body):,} bytes in {each.took_sec:.2f} s"
        yield escape_text(f"    asked {each.url}: {came}")
        if raw:
            text = each.body.decode("utf-8", "replace")
            for key in keys:  # some sources repeat it
                text = hide_key(text, key)
            yield escape_text(f"    came {text[:RAW_LETTERS]}{'…' if len(text) > RAW_LETTERS else ''}")
    for word, record in zip(("first", "last"), (answer.records[:1] + answer.records[1:][-1:]), strict=False):
        yield escape_text(f"    {word} {_describe_record(record)}")
    for misfit in answer.misfits[:MISFITS_SHOWN]:
        yield escape_text(f"    row {misfit.row} does not fit: {misfit.field}: {misfit.why}")
    if len(answer.misfits) > MISFITS_SHOWN:
        yield f"    and {len(answer.misfits) - MISFITS_SHOWN} more"


def _describe_record(record: Record) -> str:
    """Return a record on one line, times in UTC, without what the source does not say."""
    words = []
    for name, value in asdict(record).items():
        if value is not None and name.endswith("_ms"):
            words.append(datetime.fromtimestamp(value / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S"))
        elif value is not None and name not in ("symbol", "timeframe"):
            words.append(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}")
    return " ".join(words)


def encode_trial(trial: Trial) -> dict[str, Any]:
    answer, question = trial.answer, trial.question
    return {
        "endpoint": trial.endpoint,
        **{name: getattr(question, name) for name in ("kind", "asset", "symbol", "timeframe")},
        **{name: getattr(answer, name) for name in ("outcome", "reason", "missing", "misfits")},
        "records": len(answer.records),
        "first": answer.records[0] if answer.records else None,
        "last": answer.records[-1] if answer.records else None,
        "requests": [
            {
                "url": each.url,
                "status": each.status,
                "bytes": len(each.body),
                "took_sec": round(each.took_sec, 3),
            }
            for each in trial.requests
        ],
    }
