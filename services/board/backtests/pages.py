"""Show backtests to who is signed in, and let them start and delete one, without JavaScript too."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Final

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import HTMLResponse, Response

from marketswarm.web.limits import RefusedError, require_found
from marketswarm.web.responses import make_sentence, redirect
from marketswarm.web.sessions import BrowserSession, PageNotice, SentForm
from services.board.actions.forms import run_act
from services.board.backtests.backtests import MAX_BARS, Backtests
from services.board.backtests.charts import draw_equity
from services.board.backtests.jobs import BacktestJob, JobState
from services.board.backtests.queue import AT_ONCE, MAX_WAITING
from services.board.fleet.fleet_board import FleetBoard
from services.board.fleet.frame import Frame
from services.board.market.api import make_limit
from services.board.market.market import Market
from services.board.market.site import NAV, FramedPage, make_notice
from services.market.records import TIMEFRAMES
from services.signals.page import describe_played, list_totals, render_page
from services.signals.report import HYPOTHETICAL, BacktestReport
from services.signals.strategy import Parameter, StrategyForm
from services.tables.adjusted_bars import Adjust

PATH: Final = "/market/backtests"
SHOWN_FILLS: Final = 100
MAX_INPUTS: Final = 9
"""How many parameters the form has, the first ones by name: a form has at most 20 fields."""
USUAL_DAYS: Final = 365
REPORT_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
"""The page of a report has its own style, runs no script, and loads nothing."""
_PARAMETER: Final = "p_"
Name = Annotated[str, Query(max_length=63)]


@dataclass(frozen=True, slots=True)
class BacktestView:
    """A backtest as a page shows it; `place` is that in the queue, `progress` the share that was played."""

    job: BacktestJob
    place: int | None
    progress: float | None

    @property
    def mark(self) -> str:
        """The state of a service whose colour this one has."""
        return {JobState.DONE: "up", JobState.FAILED: "down"}.get(self.job.state, "unknown")


@dataclass(frozen=True, slots=True)
class ParameterInput:
    """A parameter in the form: its bounds, and what was typed or is usual."""

    name: str
    what: str
    value: str
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BacktestsPage(FramedPage):
    """All backtests, and the form for one more; `typed` is what the fields have.

    Without a session there is nothing. `problem` says why no strategies can be chosen.
    """

    template: ClassVar = "market_backtests.html"
    tab: ClassVar = PATH
    session: BrowserSession | None = None
    jobs: Sequence[BacktestView] = ()
    strategies: Sequence[StrategyForm] = ()
    chosen: StrategyForm | None = None
    inputs: Sequence[ParameterInput] = ()
    typed: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    is_lasting: bool = True
    hypothetical: ClassVar = HYPOTHETICAL
    timeframes: ClassVar = TIMEFRAMES
    bases: ClassVar = tuple(Adjust)
    limits: ClassVar = {"at_once": AT_ONCE, "waiting": MAX_WAITING, "bars": MAX_BARS}


@dataclass(frozen=True, slots=True)
class BacktestPage(FramedPage):
    """One backtest: how far it is, why it failed, or what its report says."""

    template: ClassVar = "market_backtest.html"
    tab: ClassVar = PATH
    session: BrowserSession | None = None
    view: BacktestView | None = None
    report: BacktestReport | None = None
    picture: Any = ""
    totals: Sequence[tuple[str, str, str]] = ()
    played: str = ""
    hypothetical: ClassVar = HYPOTHETICAL
    shown_fills: ClassVar = SHOWN_FILLS

    @property
    def is_open(self) -> bool:
        """Whether the page is to be read again soon."""
        return self.view is not None and not self.view.job.has_ended


def make_backtest_site(board: FleetBoard, market: Market, backtests: Backtests) -> APIRouter:
    site = APIRouter(
        include_in_schema=False,
        default_response_class=HTMLResponse,
        dependencies=[Depends(make_limit(market))],
    )
    _add_list(site, board, market, backtests)
    _add_one(site, board, market, backtests)
    return site


def _add_list(site: APIRouter, board: FleetBoard, market: Market, backtests: Backtests) -> None:
    @site.get(PATH)
    async def show_all(request: Request, strategy: Name = "") -> Response:
        frame = await board.make_session_frame(request, "Backtests", NAV)
        typed = {"strategy": strategy} if strategy else {}
        return board.templates.answer(await _make_list(frame, market, backtests, typed))

    @site.post(PATH)
    async def start(request: Request) -> Response:
        """Queue the backtest of a form, and lead to its page; or show the form again, with what is wrong."""
        form = await board.gate.read_form(request)
        started: list[BacktestJob] = []

        async def act(form: SentForm) -> PageNotice:
            started.append(await backtests.start(form.client, _make_document(form.fields)))
            return PageNotice("It is queued.")

        notice = await run_act(board.gate, form, act)
        if started:
            return redirect(f"{PATH}/{started[0].id}")
        frame = replace(await board.make_session_frame(request, "Backtests", NAV), notice=notice)
        return board.templates.answer(await _make_list(frame, market, backtests, form.fields))


def _add_one(site: APIRouter, board: FleetBoard, market: Market, backtests: Backtests) -> None:
    """Add the page of one backtest, and the form on it that ends it and deletes its report."""

    @site.get(f"{PATH}/{{ident}}")
    async def show_one(ident: str, request: Request) -> Response:
        frame = await board.make_session_frame(request, "Backtest", NAV)
        notice = make_notice(market, None)
        if frame.session is None:
            return board.templates.answer(BacktestPage(frame, notice))
        job = require_found(backtests.queue.find_job(ident), "backtest")
        report = await backtests.read_report(job)
        job = require_found(backtests.queue.find_job(ident), "backtest")
        page = BacktestPage(frame, notice, frame.session, _make_view(backtests, job), report)
        if report is not None:
            picture, totals = draw_equity(report.points), list_totals(report)
            page = replace(page, picture=picture, totals=totals, played=describe_played(report))
        return board.templates.answer(page)

    @site.get(f"{PATH}/{{ident}}/report")
    async def show_report(ident: str, request: Request) -> Response:
        """Return the report as a page of its own, which needs nothing else and can be saved."""
        if await board.gate.find_session(request) is None:
            return redirect("/sign-in?back=backtests")
        job = require_found(backtests.queue.find_job(ident), "backtest")
        report = require_found(await backtests.read_report(job), "report")
        page = await asyncio.to_thread(render_page, report)
        return HTMLResponse(
            page, headers={"Content-Security-Policy": REPORT_POLICY, "Cache-Control": "no-store"}
        )

    @site.post(f"{PATH}/{{ident}}/delete")
    async def delete(ident: str, request: Request) -> Response:
        form = await board.gate.read_form(request)

        async def act(form: SentForm) -> PageNotice:
            """Delete the backtest of the page."""
            job = await backtests.delete(form.client, ident)
            return PageNotice(f"{job.request.strategy}: the backtest is deleted.")

        notice = await run_act(board.gate, form, act)
        return redirect(f"{PATH}?said={form.session.add_notice(notice)}")


async def _make_list(
    frame: Frame, market: Market, backtests: Backtests, typed: Mapping[str, str]
) -> BacktestsPage:
    page = BacktestsPage(frame, make_notice(market, None), frame.session)
    if frame.session is None:
        return page
    forms, problem = await _find_strategies(backtests)
    chosen = forms.get(typed.get("strategy", "")) or next(iter(forms.values()), None)
    return replace(
        page,
        jobs=tuple(_make_view(backtests, job) for job in backtests.queue.list_jobs()),
        strategies=tuple(forms.values()),
        chosen=chosen,
        inputs=() if chosen is None else _list_inputs(chosen, typed),
        typed={**_list_usual(), **typed},
        problem=problem,
        is_lasting=backtests.queue.store.is_lasting,
    )


async def _find_strategies(backtests: Backtests) -> tuple[Mapping[str, StrategyForm], str]:
    """Return the installed strategies; or none, and why in a sentence."""
    try:
        return await backtests.list_strategies(), ""
    except RefusedError as error:
        return {}, make_sentence(error.reason)


def _make_view(backtests: Backtests, job: BacktestJob) -> BacktestView:
    return BacktestView(job, backtests.queue.find_place(job.id), backtests.queue.find_progress(job.id))


def _list_usual() -> dict[str, str]:
    """Return what the fields have that nobody filled in."""
    today = datetime.now(UTC).date()
    first = today - timedelta(days=USUAL_DAYS)
    return {
        "symbols": "",
        "from": first.isoformat(),
        "to": today.isoformat(),
        "timeframe": "1d",
        "adjust": Adjust.SPLITS,
        "cash": "100000",
        "fee": "0",
    }


def _list_inputs(form: StrategyForm, typed: Mapping[str, str]) -> tuple[ParameterInput, ...]:
    return tuple(
        ParameterInput(
            name,
            _describe_parameter(each),
            typed.get(f"{_PARAMETER}{name}", _format_default(each.default)),
            ("true", "false") if isinstance(each.default, bool) else each.choices,
        )
        for name, each in list(form.parameters.items())[:MAX_INPUTS]
    )


def _describe_parameter(parameter: Parameter) -> str:
    bounds = [parameter.least, parameter.most]
    told = "" if None in bounds else f" ({parameter.least:g} to {parameter.most:g})"
    return f"{parameter.what}{told}"


def _format_default(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value}"


def _make_document(fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the request that a form asks for, as JSON has it; nothing is checked here."""
    document: dict[str, Any] = {name: fields.get(name, "") for name in ("strategy", "from", "to")}
    document["symbols"] = fields.get("symbols", "").replace(",", " ").split()
    document["parameters"] = {
        name.removeprefix(_PARAMETER): value for name, value in fields.items() if name.startswith(_PARAMETER)
    }
    for name in ("timeframe", "adjust"):
        if name in fields:
            document[name] = fields[name]
    if "cash" in fields:
        document["account"] = {"cash": fields["cash"]}
    if "fee" in fields:
        document["fee"] = {"percent": fields["fee"]}
    return document
