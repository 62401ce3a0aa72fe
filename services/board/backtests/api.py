"""Let programs play backtests, under `/api/v1`: each request needs a token, for reading, too."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.responses import Response

from marketswarm.operator.tokens import Scope
from marketswarm.web.limits import RefusedError, find_quota_headers, require_found
from marketswarm.web.responses import answer_fresh
from marketswarm.web.tokens import TOKEN_HEADER, TokenVerifier, find_address, find_media_type
from services.board.backtests.backtests import Backtests
from services.board.backtests.jobs import BacktestJob, JobFailure, JobState, describe_job
from services.board.market.api import make_limit
from services.board.market.market import Market
from services.signals.report import HYPOTHETICAL, BacktestRequest, ReportError, parse_document

_JSON: Final = "application/json"
_NOT_FOUND: Final[dict[int | str, dict[str, Any]]] = {404: {"description": "There is no such backtest"}}
_REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    404: {"description": "A symbol is not known"},
    415: {"description": "The body is not JSON"},
}


@dataclass(frozen=True, slots=True)
class JobAnswer:
    """A backtest: how far it is, and the request with every default.

    `place` is that in the queue, `progress` the share that was played, `reason` why it failed, `kept` whether
    the report is from before, since no input had changed. Times are epoch seconds.
    """

    id: str
    state: JobState
    place: int | None
    progress: float | None
    reason: JobFailure | None
    detail: str | None
    by: str
    queued_at: float
    began_at: float | None
    ended_at: float | None
    kept: bool
    request: dict[str, Any]
    hypothetical: str


@dataclass(frozen=True, slots=True)
class FinishedAnswer(JobAnswer):
    """A backtest with its report, once it is done."""

    result: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class BacktestsAnswer:
    """The backtests, the last one first, and how many wait and run."""

    hypothetical: str
    waiting: int
    running: int
    backtests: tuple[JobAnswer, ...]


@dataclass(frozen=True, slots=True)
class StrategiesAnswer:
    """The strategies that are installed, each with its parameters."""

    strategies: tuple[dict[str, Any], ...]


def make_backtest_api(backtests: Backtests, market: Market, verifier: TokenVerifier) -> APIRouter:
    api = APIRouter(prefix="/api/v1", dependencies=[TOKEN_HEADER, Depends(make_limit(market))])
    _add_writes(api, backtests, verifier)
    _add_reads(api, backtests, verifier)
    return api


def _add_writes(api: APIRouter, backtests: Backtests, verifier: TokenVerifier) -> None:
    """Add the routes that start a backtest, and that end it and delete its report."""

    @api.post(
        "/backtest",
        status_code=202,
        response_model=JobAnswer,
        openapi_extra={"requestBody": _describe_body()},
        responses=_REFUSALS,
    )
    async def start(request: Request) -> Response:
        """Play an installed strategy over the archive; `Location` is where its state and its report will be.

        The same request is the same backtest: while it waits or runs it is not begun again, and its report
        is made anew only if an input has changed. Needs the scope `write`.
        """
        client = await verifier.verify_client(request, Scope.WRITE)
        raw = await request.body()
        if find_media_type(request) != _JSON:
            raise HTTPException(415, f"a body is {_JSON}")
        try:
            document = parse_document(raw)
        except ReportError as error:
            raise RefusedError(422, f"body: {error}") from None
        job = await backtests.start(client, document)
        answer = answer_fresh(_describe(backtests, job), 202)
        answer.headers["Location"] = f"/api/v1/backtests/{job.id}"
        answer.headers.update(find_quota_headers(request))
        return answer

    @api.delete("/backtests/{ident}", response_model=JobAnswer, responses=_NOT_FOUND)
    async def delete(ident: str, request: Request) -> Response:
        """Delete a backtest and its report; end it if it waits or runs. Needs the scope `write`."""
        client = await verifier.verify_client(request, Scope.WRITE)
        return answer_fresh(_describe(backtests, await backtests.delete(client, ident)))


def _add_reads(api: APIRouter, backtests: Backtests, verifier: TokenVerifier) -> None:
    @api.get("/backtests", response_model=BacktestsAnswer)
    async def read_all(request: Request) -> Response:
        """Return the backtests without their reports, the one that was asked for last first."""
        await _verify_reader(verifier, request)
        queue = backtests.queue
        return answer_fresh(
            {
                "hypothetical": HYPOTHETICAL,
                "waiting": queue.waiting,
                "running": queue.running,
                "backtests": [_describe(backtests, job) for job in queue.list_jobs()],
            }
        )

    @api.get("/backtests/strategies", response_model=StrategiesAnswer)
    async def read_strategies(request: Request) -> Response:
        """Return the strategies that are installed, with the parameters of each and their bounds."""
        await _verify_reader(verifier, request)
        return answer_fresh({"strategies": list((await backtests.list_strategies()).values())})

    @api.get("/backtests/{ident}", response_model=FinishedAnswer)
    async def read_one(ident: str, request: Request) -> Response:
        """Return a backtest: how far it is, and its report once it is done."""
        await _verify_reader(verifier, request)
        job = require_found(backtests.queue.find_job(ident), "backtest")
        report = await backtests.queue.read_report(job)
        job = require_found(backtests.queue.find_job(ident), "backtest")
        result = None if report is None else orjson.Fragment(report)
        return answer_fresh({**_describe(backtests, job), "result": result})


def _describe_body() -> dict[str, Any]:
    """Return what OpenAPI says of the body: its schema as a whole, since it can't refer to its own parts."""
    schema = BacktestRequest.model_json_schema()
    parts = schema.pop("$defs", {})

    def resolve(value: Any) -> Any:
        if isinstance(value, list):
            return [resolve(each) for each in value]
        if not isinstance(value, dict):
            return value
        value = {**value, **parts[value["$ref"].rpartition("/")[2]]} if "$ref" in value else value
        return {name: resolve(each) for name, each in value.items() if name != "$ref"}

    return {"required": True, "content": {_JSON: {"schema": resolve(schema)}}}


def _describe(backtests: Backtests, job: BacktestJob) -> Mapping[str, Any]:
    queue = backtests.queue
    return {
        **describe_job(job, queue.find_progress(job.id)),
        "place": queue.find_place(job.id),
        "hypothetical": HYPOTHETICAL,
    }


async def _verify_reader(verifier: TokenVerifier, request: Request) -> None:
    """Raise RefusedError unless a client has a token that reads, or one that may start backtests."""
    header, address = request.headers.get("authorization"), find_address(request)
    token = await verifier.identify(header, address, time.monotonic(), time.time())
    if {Scope.READ, Scope.WRITE}.isdisjoint(token.scopes):
        raise RefusedError(403, f"the token lacks the scope {Scope.READ}")
