"""Answer the operator about health, tables and caches, and carry out what a token with `write` asks for."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from marketswarm.operator.source_refresh import RefreshReport
from marketswarm.web.guard import is_stranger
from marketswarm.web.limits import require_found
from marketswarm.web.responses import answer_fresh
from marketswarm.web.tokens import TOKEN_HEADER, TokenVerifier
from services.board.actions.api import add_verb, carry_out
from services.board.operations.caches import CacheBoard, CacheClearBody, CacheStats, ClearedCaches
from services.board.operations.health import HealthAnswer
from services.board.operations.overview import HealthOverview, WholeHealth
from services.board.operations.refreshing import RefreshAnswer, RefreshBody, SourceSteering
from services.board.operations.tables import DatabaseStats, TableBoard
from services.board.site_rules import HEALTH_PATH


def make_health_site(overview: HealthOverview) -> APIRouter:
    site = APIRouter()

    @site.get(HEALTH_PATH, response_model=HealthAnswer)
    async def read_health(request: Request) -> Response:
        """Return how all is: 503 if what the board answers is old or incomplete, else 200.

        Everyone may ask; who may not read the board gets the status and the uptime alone.
        """
        found = await overview.read()
        shown = HealthAnswer(found.status, found.uptime_sec, None) if is_stranger(request) else found
        return answer_fresh(shown, found.http_status)

    @site.get("/api/v1/health", response_model=WholeHealth)
    async def read_whole_health() -> Response:
        """Return the same with what the board and signals did lately, and what the board takes."""
        found = await overview.read_whole()
        return answer_fresh(found, found.http_status)

    return site


def make_operations(
    tables: TableBoard, caches: CacheBoard, sources: SourceSteering, verifier: TokenVerifier
) -> APIRouter:
    """Return the routes about tables, caches and refreshes; one of them clears the caches."""
    api = APIRouter(prefix="/api/v1")

    @api.get("/db/stats", response_model=DatabaseStats)
    async def read_tables() -> Response:
        """Return how full the archive's tables are, as of half a minute ago at most, and how it is saved."""
        return answer_fresh(await tables.read())

    @api.get("/cache/stats", response_model=CacheStats)
    async def read_caches() -> Response:
        """Return what is kept of answers, on the bus and in memory, how old it is, how often it served."""
        return answer_fresh(await caches.read())

    @api.get(
        "/sources/refresh",
        response_model=RefreshReport,
        responses={404: {"description": "Nobody asked for a refresh within a day"}},
    )
    async def read_refresh() -> Response:
        """Return how far the refresh is that somebody asked for last; 404 without one in a day."""
        return answer_fresh(require_found(await sources.read(), "refresh"))

    acts = APIRouter(dependencies=[TOKEN_HEADER])

    @add_verb(acts, "POST", "/cache/clear", CacheClearBody, ClearedCaches)
    async def clear_caches(request: Request) -> Response:
        """Delete the kept quotes and charts on the bus, and drop what the board keeps; nothing else."""
        return answer_fresh(await carry_out(request, verifier, CacheClearBody, caches.clear))

    late = {202: "No instance of sources has taken it yet", 404: "No series of the truth names that source"}

    @add_verb(acts, "POST", "/sources/refresh", RefreshBody, RefreshAnswer, also=late)
    async def refresh_sources(request: Request) -> Response:
        """Have sources load its series now, those of one source or all, whatever their schedule says."""
        found = await carry_out(request, verifier, RefreshBody, sources.refresh)
        return answer_fresh(found, 202 if found.report is None else 200)

    api.include_router(acts)
    return api
