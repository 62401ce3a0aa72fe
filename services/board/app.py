"""Put the application together: pages, the API, health checks, errors, and the guard around them."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from marketswarm import __version__
from marketswarm.bus import Bus
from marketswarm.operator.signed_link import LINK_PATH
from marketswarm.truth import SYSTEM, Truth
from marketswarm.web.clients import find_networks
from marketswarm.web.guard import Guard, SiteRules
from marketswarm.web.limits import RefusedError, find_quota_headers
from marketswarm.web.parameters import make_parameter_check
from marketswarm.web.responses import Templates, make_sentence, redirect
from marketswarm.web.sessions import SessionOver
from marketswarm.web.validation import describe_invalid
from services.board.actions.api import make_actions
from services.board.actions.forms import list_acts, list_announcement_acts, make_forms
from services.board.actions.links import LinkActs, make_link_site
from services.board.backtests.api import make_backtest_api
from services.board.backtests.backtests import Backtests
from services.board.backtests.pages import make_backtest_site
from services.board.board import Board
from services.board.brand.brand import make_brand_site
from services.board.fleet.api import make_api
from services.board.fleet.fleet_board import FleetBoard, NotReady
from services.board.fleet.incident_pages import make_record_api, make_record_site
from services.board.fleet.page_store import PageStore
from services.board.fleet.pages import FLEET_PARAMETERS, make_site
from services.board.fleet.probe_pages import make_probe_api, make_probe_site
from services.board.fleet.visibility import is_public_path
from services.board.market.api import find_kept_chart, make_market_api
from services.board.market.archive_reader import DatabaseAwayError
from services.board.market.market import Market
from services.board.market.measure_api import make_measure_api
from services.board.market.measure_site import make_measure_site
from services.board.market.names import UnknownNameError
from services.board.market.query import QueryError
from services.board.market.site import make_market_site
from services.board.operations.api import make_health_site, make_operations
from services.board.operations.api_page import find_group, make_page_of_api
from services.board.operations.archived_diagnoses import ArchivedDiagnoses
from services.board.operations.caches import CacheBoard
from services.board.operations.overview import HealthOverview
from services.board.operations.refreshing import SourceSteering
from services.board.operations.tables import TableBoard
from services.board.pings.key_pages import make_key_pages
from services.board.public.badges import make_badge_site
from services.board.public.pages import make_public_site
from services.board.signals.api import make_signal_api
from services.board.signals.signals import SignalBoard
from services.board.signals.site import make_signal_site
from services.board.site_rules import find_origins
from services.board.truth.add_pages import make_add_pages
from services.board.truth.api import make_truth_api
from services.board.truth.entry_pages import make_entry_pages
from services.board.truth.pages import make_truth_pages

STREAM_PATH = "/api/v1/stream"
PACK_LEVEL = 4
PACK_BYTES = 500
NOTICE_PARAMETERS: Final = ("said",)
"""What the answer to a form adds to the address of the page after it, to show what became of it."""
_TEXT: Final = {"text/plain": {"schema": {"type": "string"}}}
_JSON: Final = {"application/json": {"schema": {"$ref": "#/components/schemas/Failure"}}}
_FAILURE: Final = {
    "type": "object",
    "title": "Failure",
    "required": ["detail"],
    "properties": {"detail": {"type": "string", "title": "Detail"}},
}
_EVERYWHERE: Final = {
    "401": "A token is needed: the client is on another machine, or wants to change something",
    "403": "The token lacks the scope",
    "413": "The body is too long",
    "414": "The path or the query is too long",
    "421": "The host name is not the board's",
    "429": "Too many requests, or too many wrong tokens: `Retry-After` says when to try again",
    "431": "The headers are too long",
    "503": "The board has nothing to show yet, or a bus does not answer",
}
_BEARER: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token of `marketswarm token create`",
}
_NEEDED: Final = [{"token": list[str]()}]
_ALLOWED: Final = [dict[str, list[str]](), *_NEEDED]  # clients on this machine read without one
_WITH_PARAMETERS: Final = {"404": "There is no such thing", "422": "A value is wrong; `detail` names it"}
_OWN: Final = ("HTTPValidationError", "ValidationError")
"""The names of FastAPI's own schemas of an answer to a wrong value."""


class _App(FastAPI):
    """The application, whose OpenAPI document has the board's own failures and tokens."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = describe_access(describe_failures(super().openapi()))
        return self.openapi_schema


def create_app(
    board: Board, market: Market, backtests: Backtests, signals: SignalBoard, rules: SiteRules
) -> Guard:
    app = _App(
        title="MarketSwarm board",
        version=__version__,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(make_parameter_check(NOTICE_PARAMETERS, {"/": FLEET_PARAMETERS}))],
    )
    overview = HealthOverview(board.fleet, market, signals)
    diagnoses = ArchivedDiagnoses(market.archive)
    fleet, pages = board.fleet, PageStore(board.fleet.templates, board.gate.cookie)
    app.include_router(make_record_api(fleet, diagnoses.read))  # before `/alerts/{event_id}`
    app.include_router(make_api(fleet))
    app.include_router(make_probe_api(fleet))
    app.include_router(make_actions(board.steering, board.verifier, board.announcements, board.healing))
    app.include_router(make_truth_api(board.editor, board.verifier))
    app.include_router(make_site(fleet, pages))
    app.include_router(make_probe_site(fleet))
    app.include_router(make_record_site(fleet, diagnoses.read))
    app.include_router(make_public_site(fleet, board.announcements))
    app.include_router(make_badge_site(fleet))
    app.include_router(make_brand_site(board.brand))
    app.include_router(make_backtest_api(backtests, market, board.verifier))
    app.include_router(make_backtest_site(fleet, market, backtests))
    app.include_router(make_measure_api(market))  # before `/market/{group}`
    app.include_router(make_signal_api(signals))
    app.include_router(make_signal_site(fleet, signals, pages))
    app.include_router(make_operation_routes(board, market, overview))
    app.include_router(make_market_api(market))
    app.include_router(make_market_site(fleet, market, pages))
    app.include_router(make_measure_site(fleet, market, pages))
    acts = list_acts(board.steering, board.healing) | list_announcement_acts(board.announcements)
    app.include_router(make_forms(fleet, acts))
    links = LinkActs(board.steering, board.healing)
    app.include_router(make_link_site(links, fleet.me.settings.approval_link_key, fleet.templates))
    app.include_router(make_truth_pages(board.truth))
    app.include_router(make_add_pages(board.truth))
    app.include_router(make_entry_pages(board.truth))
    app.include_router(make_key_pages(fleet, board.keys, board.ping_keys))
    app.include_router(make_health_site(overview))
    app.include_router(make_page_of_api(fleet, app.openapi))
    _add_health(app, fleet)
    add_errors(app, fleet.templates)
    packed = GZipMiddleware(answer_head(app), PACK_BYTES, PACK_LEVEL)
    kept = answer_kept(packed, pages.find_kept, partial(find_kept_chart, market))
    networks = find_networks(fleet.me.settings.board_open_to or "")

    def is_open(path: str) -> bool:
        is_link = path.startswith(LINK_PATH)  # it brings what lets it in
        return is_link or is_public_path(path, fleet.reader.snapshot, fleet.public)

    return Guard(
        kept,
        rules,
        board.verifier,
        networks,
        is_open=is_open,
        gate=board.gate,
        origins=find_origins(fleet.me.settings),
        logs_reads=fleet.me.settings.board_log_reads,
    )


def make_operation_routes(board: Board, market: Market, overview: HealthOverview) -> APIRouter:
    def get_truth() -> Truth:
        return board.fleet.truth

    def find_system() -> Bus:
        return board.fleet.me.bus(SYSTEM)

    return make_operations(
        TableBoard(market.archive, overview),
        CacheBoard(market, board.audit, get_truth),
        SourceSteering(find_system, board.audit, get_truth),
        board.verifier,
    )


def answer_kept(app: ASGIApp, *finders: Callable[[Request], Response | None]) -> ASGIApp:
    """Return an application that answers a GET by the first of `finders` that can, or by `app`."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET":
            request = Request(scope)
            for find in finders:
                found = find(request)
                if found is not None:
                    await found(scope, receive, send)
                    return
        await app(scope, receive, send)

    return answer


def answer_head(app: ASGIApp) -> ASGIApp:
    """Return an application that answers HEAD as GET; the server leaves the body out.

    The stream has no HEAD: its body never ends. `is_head` in the scope tells an answer whose body is costly
    that nobody reads it.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD" and scope["path"] != STREAM_PATH:
            scope = {**scope, "method": "GET", "is_head": True}
        await app(scope, receive, send)

    return answer


def _add_health(app: FastAPI, board: FleetBoard) -> None:
    @app.get("/healthz", response_class=PlainTextResponse)
    async def check_health() -> str:
        """Return 200: the process answers."""
        return "ok\n"

    @app.get("/readyz", response_class=PlainTextResponse)
    async def check_readiness() -> Response:
        """Return 200 if what the board shows is new, 503 and the reason if not."""
        problem = board.find_problem()
        return PlainTextResponse(f"{problem or 'ok'}\n", 503 if problem else 200)


def add_errors(app: FastAPI, templates: Templates) -> None:
    """Add the answers to what fails: JSON under `/api/`, and a page for other paths."""

    def answer_failure(request: Request, status: int, detail: str, headers: dict[str, str]) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"detail": detail}, status, headers=headers)
        return templates.answer_error(status, detail[:1].upper() + detail[1:], "", headers)

    async def answer_http_error(request: Request, error: Exception) -> Response:
        """Answer with the status of an HTTPException, 500 for any other error; a page for a refused form."""
        if isinstance(error, RefusedError) and not request.url.path.startswith("/api/"):
            return templates.answer_error(
                error.status, "This was not done", make_sentence(error.reason), error.headers
            )
        known = error if isinstance(error, HTTPException) else HTTPException(500, "error")
        return answer_failure(request, known.status_code, str(known.detail), dict(known.headers or {}))

    async def answer_invalid(request: Request, error: Exception) -> Response:
        """Answer a request with a wrong value; only the names of the wrong parts are repeated."""
        errors = error.errors() if isinstance(error, RequestValidationError) else ()
        return answer_failure(request, 422, describe_invalid(errors), find_quota_headers(request))

    async def answer_over(request: Request, _error: Exception) -> Response:
        back = "&back=truth" if request.url.path.startswith("/truth/") else ""
        return redirect(f"/sign-in?why=over{back}")

    def explain(kind: type[Exception], status: int, headers: Mapping[str, str]) -> None:
        async def answer(request: Request, error: Exception) -> Response:
            return answer_failure(request, status, str(error), {**headers, **find_quota_headers(request)})

        app.add_exception_handler(kind, answer)

    app.add_exception_handler(HTTPException, answer_http_error)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_exception_handler(SessionOver, answer_over)
    explain(QueryError, 422, {})
    explain(UnknownNameError, 404, {})
    explain(DatabaseAwayError, 503, {"Retry-After": "5"})
    explain(NotReady, 503, {"Retry-After": "1"})


def describe_failures(document: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI document with the failures of each operation; other answers stay as they are."""
    paths = {
        path: {method: _describe_operation(each, path) for method, each in item.items()}
        for path, item in document.get("paths", {}).items()
    }
    components = document.get("components", {})
    schemas = {name: each for name, each in components.get("schemas", {}).items() if name not in _OWN}
    schemas["Failure"] = _FAILURE
    return {**document, "paths": paths, "components": {**components, "schemas": schemas}}


def describe_access(document: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI document that says where a token is needed; each operation has a group and a line."""
    paths = {
        path: {
            method: {
                **each,
                "summary": each.get("description", "").partition("\n")[0],
                "tags": [find_group(path) or "pages"],
                "security": _ALLOWED if method in ("get", "head") else _NEEDED,
            }
            for method, each in item.items()
        }
        for path, item in document["paths"].items()
    }
    components = {**document["components"], "securitySchemes": {"token": _BEARER}}
    return {**document, "paths": paths, "components": components}


def _describe_operation(operation: dict[str, Any], path: str) -> dict[str, Any]:
    answers = dict(operation.get("responses", {}))
    takes_values = bool(operation.get("parameters")) or "requestBody" in operation
    for status, words in (_EVERYWHERE | (_WITH_PARAMETERS if takes_values else {})).items():
        known = answers.get(status, {})
        has_own = "content" in known and status != "422"
        content = known["content"] if has_own else {**_TEXT, **(_JSON if path.startswith("/api/") else {})}
        answers[status] = {"description": words, **known, "content": content}
    if "422" in answers:
        answers["422"] = {**answers["422"], "content": _JSON}
    return {**operation, "responses": answers}
