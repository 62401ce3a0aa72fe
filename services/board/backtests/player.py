"""Have a backtest played by the process of services/signals, and judge what it answers."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from marketswarm.agent.worker_process import WorkerError
from marketswarm.tasks import end_tasks
from marketswarm.truth import Truth
from marketswarm.web.limits import RefusedError
from services.board.backtests.jobs import JobFailure
from services.board.backtests.queue import FinishedRun, OnProgress, RunFailedError
from services.market.universe import list_named_sessions
from services.signals.backtest_process import PlayOutcome, describe_strategies, request_backtest
from services.signals.report import BacktestReport, BacktestRequest, ReportError
from services.signals.strategy import StrategyForm

RETRY_SEC: Final = 5.0
LIST_SEC: Final = 5.0
"""How long an answer waits for the names of the strategies: it must begin within ten seconds."""
_FAILURES: Final = {
    PlayOutcome.STRATEGY: JobFailure.STRATEGY,
    PlayOutcome.HISTORY: JobFailure.HISTORY,
    PlayOutcome.DATABASE: JobFailure.DATABASE,
}
_NO_REPORT: Final = "its process answered what is no report"
_NO_ARCHIVE: Final = "no archive: DATABASE_URL is not set"


class BacktestPlayer:
    """Plays requests over the archive at `database_url`; None if there is none.

    Each symbol trades in the session that the truth in force names for it, otherwise in that of its class.
    """

    def __init__(self, database_url: str | None, truth_now: Callable[[], Truth]) -> None:
        self._database_url, self._truth_now = database_url, truth_now
        self._listing: asyncio.Task[Mapping[str, StrategyForm]] | None = None

    async def list_strategies(self) -> Mapping[str, StrategyForm]:
        """Return the installed strategies by name, which the first call has another process load.

        Raises RefusedError, also if that takes longer than LIST_SEC; it goes on for the next call.
        """
        if self._listing is None or (self._listing.done() and self._listing.exception() is not None):
            self._listing = asyncio.create_task(_load_forms(), name="list strategies")
        await asyncio.wait({self._listing}, timeout=LIST_SEC)
        if not self._listing.done():
            raise RefusedError(503, "the installed strategies are not listed yet", RETRY_SEC)
        try:
            return self._listing.result()
        except WorkerError as error:
            reason = f"the installed strategies can't be listed: {error}"
            raise RefusedError(503, reason, RETRY_SEC) from None

    async def close(self) -> None:
        """End the process that lists the strategies, if it runs."""
        if self._listing is not None:
            await end_tasks(self._listing)

    async def play(self, request: BacktestRequest, kept: str | None, on_progress: OnProgress) -> FinishedRun:
        """Play a request; see PlayBacktest. Raises RunFailedError."""
        if self._database_url is None:
            raise RunFailedError(JobFailure.DATABASE, _NO_ARCHIVE)
        try:
            sessions = list_named_sessions(self._truth_now())
            outcome, rest = await request_backtest(request, self._database_url, sessions, kept, on_progress)
        except WorkerError as error:
            raise RunFailedError(JobFailure(error.failure.value), str(error)) from None
        if outcome in _FAILURES:
            raise RunFailedError(_FAILURES[outcome], rest.decode("utf-8", "replace"))
        if outcome is PlayOutcome.KEPT:
            if kept is None or rest != kept.encode():
                raise RunFailedError(JobFailure.BAD_ANSWER, _NO_REPORT)
            return FinishedRun(kept, None)
        try:  # in a thread: a long report takes a while
            report = await asyncio.to_thread(BacktestReport.from_json, rest)
        except ReportError:
            raise RunFailedError(JobFailure.BAD_ANSWER, _NO_REPORT) from None
        return FinishedRun(report.digest, rest)


async def _load_forms() -> Mapping[str, StrategyForm]:
    return {each.name: each for each in await describe_strategies()}
