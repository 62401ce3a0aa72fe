"""Start and delete backtests for clients with a token. Each is in the audit log before it is done."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from marketswarm.operator.audit import Act, Action, AuditOutcome
from marketswarm.truth import Truth, suggest_name
from marketswarm.web.audit import AuditLog
from marketswarm.web.limits import RefusedError, require_found
from marketswarm.web.tokens import Client
from services.board.backtests.jobs import BacktestJob
from services.board.backtests.player import BacktestPlayer
from services.board.backtests.queue import BacktestQueue
from services.board.backtests.store import BacktestStore
from services.board.market.archive_reader import DatabaseAwayError
from services.board.market.market import Market
from services.board.market.names import UnknownNameError
from services.board.settings import BoardEnvironment
from services.signals.report import BacktestReport, BacktestRequest, ReportError
from services.signals.strategy import StrategyError, StrategyForm

MAX_BARS: Final = 250_000
"""The most bars of one backtest by HTTP, of all symbols: 60 s are enough for so many."""
AWAY_SEC: Final = 5.0


class Backtests:
    """The backtests of a board, over the archive of its market and by the sessions of the truth in force."""

    def __init__(
        self, settings: BoardEnvironment, market: Market, audit: AuditLog, truth_now: Callable[[], Truth]
    ) -> None:
        url = settings.database_url
        self.player = BacktestPlayer(None if url is None else url.get_secret_value(), truth_now)
        self.queue = BacktestQueue(BacktestStore(settings.board_backtest_folder), self.player.play)
        self._market, self._audit = market, audit

    async def run(self) -> None:
        """Play what is asked for until cancelled."""
        try:
            await self.queue.run()
        finally:
            await self.player.close()

    async def list_strategies(self) -> Mapping[str, StrategyForm]:
        """Return the installed strategies by name. Raises RefusedError."""
        return await self.player.list_strategies()

    async def start(self, client: Client, document: Any) -> BacktestJob:
        """Check a request as JSON has it, and queue it. Raises RefusedError, which names what is wrong."""
        with _refuse_wrong():
            request = await self._check(document)
        what = f"{request.strategy} {' '.join(request.symbols)} {request.first_day} {request.last_day}"
        act = Act(Action.BACKTEST, request.strategy, client.token, client.address, what)
        async with self._audited(act):
            return await self.queue.submit(request, client.name, time.time())

    async def delete(self, client: Client, ident: str) -> BacktestJob:
        """Delete a backtest and its report, and end it if it waits or runs. Raises RefusedError."""
        job = require_found(self.queue.find_job(ident), "backtest")
        act = Act(Action.DELETE_BACKTEST, job.id, client.token, client.address, job.request.strategy)
        async with self._audited(act):
            return require_found(await self.queue.delete(ident), "backtest")

    async def read_report(self, job: BacktestJob) -> BacktestReport | None:
        """Return the report of a job as it was parsed; None if there is none, or it is not one any more."""
        raw = await self.queue.read_report(job)
        if raw is None:
            return None
        try:
            return BacktestReport.from_json(raw)
        except ReportError:
            await self.queue.note_unreadable(job)
            return None

    async def _check(self, document: Any) -> BacktestRequest:
        """Return the request with all parameters, if it may be played.

        Raises RefusedError, ReportError, StrategyError, UnknownNameError or DatabaseAwayError.
        """
        request = BacktestRequest.from_document(document)
        forms = await self.list_strategies()
        form = forms.get(request.strategy)
        if form is None:
            hint = suggest_name(request.strategy, sorted(forms), "there are")
            raise RefusedError(422, f"strategy: no strategy {request.strategy} is installed; {hint}")
        request = request.model_copy(update={"parameters": form.complete(request.parameters)})
        if request.last_day > datetime.now(UTC).date() + timedelta(days=1):
            raise RefusedError(422, "to: is in the future")
        archive = self._market.archive
        days = request.first_day, request.last_day
        count = await archive.count_bars(request.symbols, request.timeframe, days, MAX_BARS + 1)
        if count > MAX_BARS:
            raise RefusedError(
                422,
                f"symbols, from, to: more than {MAX_BARS:,} bars of {request.timeframe}: ask for fewer "
                "symbols, a shorter time or a longer timeframe",
            )
        await self._market.names.require_symbols(request.symbols)
        return request

    @contextlib.asynccontextmanager
    async def _audited(self, act: Act) -> AsyncIterator[None]:
        """Note an act before the block and its outcome after it."""
        await self._audit.begin(act)
        try:
            yield
        except RefusedError as error:
            await self._audit.end(act, AuditOutcome.REFUSED, error.reason)
            raise
        await self._audit.end(act, AuditOutcome.DONE)


@contextlib.contextmanager
def _refuse_wrong() -> Iterator[None]:
    """Raise RefusedError for what is wrong with a request in the block."""
    try:
        yield
    except (ReportError, StrategyError) as error:
        raise RefusedError(422, str(error)) from None
    except UnknownNameError as error:
        raise RefusedError(404, str(error)) from None
    except DatabaseAwayError as error:
        raise RefusedError(503, str(error), AWAY_SEC) from None
