"""Play an installed strategy over the archive in a process of its own, which ends afterwards.

`describe_strategies` and `request_backtest` are the side of the agent, `answer_request` that of the process,
which is run as `python -m services.signals.backtest_process`. The process is given the URL of the archive
with the request, on its stdin; neither its environment nor its arguments have it.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import aclosing
from enum import StrEnum
from typing import Any, Final

import orjson
from pydantic import TypeAdapter

from marketswarm.agent.worker_process import (
    SendProgress,
    WorkerLimits,
    WorkerProcess,
    serve_with_progress,
)
from services.signals.report import MAX_REPORT_BYTES, BacktestRequest
from services.signals.strategy import StrategyError, StrategyForm

LIMITS: Final = WorkerLimits(
    request_sec=60.0,
    start_sec=60.0,
    answer_bytes=MAX_REPORT_BYTES,
    cpu_sec=60,
    memory_bytes=1 << 30,
)
READ_SEC: Final = 55.0
"""How long all of the past may take to be read from the archive."""
NICE: Final = 5
"""How much a backtest gives way to all other programs."""
_MODULE: Final = "services.signals.backtest_process"
_START: Final = b""
"""The request to import all that a backtest needs."""
_FORMS: Final = TypeAdapter(tuple[StrategyForm, ...])


class PlayOutcome(StrEnum):
    """Name what the process answers, before a line feed and the rest."""

    REPORT = "report"  # and the report as JSON
    KEPT = "kept"  # the inputs are those of the report that is kept
    STRATEGY = "strategy"  # the strategy can't be run, and why
    HISTORY = "history"  # the archive lacks what is asked for, and why
    DATABASE = "database"  # the archive can't be read, and why


async def describe_strategies() -> tuple[StrategyForm, ...]:
    """Return the strategies that are installed, by name; another process loads them. Raises WorkerError."""
    async with aclosing(WorkerProcess(_MODULE, LIMITS)) as worker:
        return await worker.ask(b"list", _parse_forms)


async def request_backtest(
    request: BacktestRequest,
    database_url: str,
    sessions: Mapping[str, str],
    kept: str | None,
    on_progress: Callable[[float], None],
) -> tuple[PlayOutcome, bytes]:
    """Return what came of a backtest: a report as JSON, or in words why there is none.

    It is played in another process, within LIMITS; that does not outlive this one. `sessions` has by symbol
    the code of the session, where that is not the one of its class. `kept` is the digest of a report: if the
    request still has the same inputs, the outcome is KEPT with the digest. `on_progress` gets the share that
    was played. Raises WorkerError.
    """
    document = {
        "request": request.to_document(),
        "database_url": database_url,
        "sessions": {symbol: sessions[symbol] for symbol in request.symbols if symbol in sessions},
        "kept": kept,
    }
    async with aclosing(WorkerProcess(_MODULE, LIMITS)) as worker:
        await worker.ask(_START, bytes)
        return await worker.ask(
            orjson.dumps(document), _parse_answer, lambda progress: on_progress(_parse_share(progress))
        )


def _parse_forms(answer: bytes) -> tuple[StrategyForm, ...]:
    return _FORMS.validate_json(answer)


def _parse_answer(answer: bytes) -> tuple[PlayOutcome, bytes]:
    """Return the outcome and the rest of an answer. Raises ValueError for an unknown outcome."""
    word, _, rest = answer.partition(b"\n")
    return PlayOutcome(word.decode("ascii")), rest


def _parse_share(progress: bytes) -> float:
    share = float(progress)
    if not 0 <= share <= 1:
        raise ValueError(share)
    return share


# -- the process


def answer_request(raw: bytes, send_progress: SendProgress) -> bytes:
    """Return the outcome of a backtest, or the strategies that are installed. Runs in the process."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # each thread reserves memory, and none is needed
    from services.signals import run  # noqa: F401, PLC0415 - numpy, which the agent does not need

    if raw == _START:
        return b""
    if raw == b"list":
        return _describe_installed()
    outcome, rest = _play(orjson.loads(raw), send_progress)
    return b"\n".join((outcome.encode(), rest))


def _describe_installed() -> bytes:
    from services.signals.strategy import list_installed, load_installed  # noqa: PLC0415 - as above

    return _FORMS.dump_json(tuple(load_installed(name).make_form() for name in list_installed()))


def _play(document: dict[str, Any], send_progress: SendProgress) -> tuple[PlayOutcome, bytes]:
    from marketswarm.postgres.errors import PostgresAwayError  # noqa: PLC0415 - as above
    from services.signals.history import HistoryError  # noqa: PLC0415
    from services.signals.run import complete_request, run_backtest  # noqa: PLC0415
    from services.signals.strategy import INSTALLED, load_installed  # noqa: PLC0415

    request = BacktestRequest.from_document(document["request"])

    def note_progress(place: int, total: int) -> None:
        send_progress(f"{place / max(total, 1):.3f}".encode())

    try:
        strategy = load_installed(request.strategy)
        history = asyncio.run(_read_history(document["database_url"], request, document["sessions"]))
        whole = complete_request(request, strategy, history)
        if whole.digest(history.digest, strategy.code) == document["kept"]:
            return PlayOutcome.KEPT, document["kept"].encode()
        report = run_backtest(request, history, strategy=strategy, on_progress=note_progress)
    except StrategyError as error:
        if isinstance(error.__context__, MemoryError | RecursionError):  # which is no word of the strategy
            raise error.__context__ from None
        return PlayOutcome.STRATEGY, str(error).replace(f"{INSTALLED}{os.sep}", "").encode()
    except HistoryError as error:
        return PlayOutcome.HISTORY, str(error).encode()
    except PostgresAwayError as error:
        why = type(error.__cause__ or error).__name__  # not its text, which may name the server
        return PlayOutcome.DATABASE, f"the archive can't be read: {why}".encode()
    return PlayOutcome.REPORT, report.to_json()


async def _read_history(url: str, request: BacktestRequest, sessions: Mapping[str, str]) -> Any:
    from marketswarm.postgres.pool import open_connection  # noqa: PLC0415 - as above
    from services.signals.history import TradingRules, read_archive  # noqa: PLC0415

    async with open_connection(url, READ_SEC) as connection:
        days, rules = (request.first_day, request.last_day), TradingRules(sessions=sessions)
        return await read_archive(connection, request.symbols, request.timeframe, days, rules)


def main() -> None:
    os.nice(NICE)
    serve_with_progress(answer_request, LIMITS)


if __name__ == "__main__":
    main()
