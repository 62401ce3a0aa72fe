"""Answer programs: the same values as the pages, as JSON, under `/api/v1`. Everything here only reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import orjson
from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response, StreamingResponse

from marketswarm.operator.dead_messages import UndeliveredMessage
from marketswarm.status.channel_records import ChannelStatus
from marketswarm.status.notifications import PendingDelivery
from marketswarm.web.event_stream import StreamsFull
from marketswarm.web.limits import RETRY_SEC, RefusedError, require_found
from marketswarm.web.responses import answer_body, answer_fresh
from services.board.fleet.alerts import (
    MAX_PAGE_EVENTS,
    PAGE_EVENTS,
    AlertAnswer,
    AlertQuery,
    AlertsAnswer,
    find_alert,
    read_alerts,
)
from services.board.fleet.fleet_board import FleetBoard
from services.board.fleet.notifications import read_dead_letters
from services.board.fleet.snapshot import FleetSnapshot, IncidentView, ServiceSnapshot

Text = Annotated[str, Query(max_length=300)]
STREAM_TYPE: Final = "text/event-stream"
STREAM_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(frozen=True, slots=True)
class FleetAnswer:
    """The whole snapshot, and the id of the last event of the stream that it includes."""

    position: str
    fleet: FleetSnapshot


@dataclass(frozen=True, slots=True)
class NotificationsAnswer:
    """What waits for a channel, with its reason, and what was given up: how many, and the newest of them.

    `channels` has by name the host of each channel that the notifier opened; null if it is not known.
    `statuses` say of each of them what it sent and failed last.
    """

    pending: tuple[PendingDelivery, ...]
    dead: int
    messages: tuple[UndeliveredMessage, ...]
    away: Mapping[str, str]
    channels: Mapping[str, str] | None
    statuses: tuple[ChannelStatus, ...]


def make_api(board: FleetBoard) -> APIRouter:
    api = APIRouter(prefix="/api/v1")
    _add_fleet(api, board)

    @api.get("/alerts", response_model=AlertsAnswer)
    async def read_alert_log(
        svc: Text = "",
        type: Text = "",  # noqa: A002 - the query's name
        before: Text = "",
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE_EVENTS)] = PAGE_EVENTS,
    ) -> Response:
        """Return a page of the alert log, the newest event first."""
        return answer_fresh(await read_alerts(board.buses, AlertQuery(svc, type, before), limit))

    @api.get("/alerts/{event_id}", response_model=AlertAnswer)
    async def read_alert(event_id: str) -> Response:
        """Return one event of the alert log."""
        answer, _ = require_found(await find_alert(board.buses, event_id), "event")
        return answer_fresh(answer)

    @api.get("/stream", response_class=StreamingResponse, responses={200: {"content": {STREAM_TYPE: {}}}})
    async def follow(
        last_event_id: Annotated[str | None, Header(max_length=100)] = None,
        after: Annotated[str | None, Query(max_length=100)] = None,
    ) -> Response:
        """Follow the fleet by server-sent events.

        Events are `delta` (what changed), `alert`, `rows` (HTML for the board's own page), `tick` (a sign of
        life) and `reset`: read `/api/v1/fleet` again. `Last-Event-ID`, or `after` in the first request, is
        the last event that is known; `resumed` follows what came after that one.
        """
        try:
            events = board.hub.follow(last_event_id or after)
        except StreamsFull:
            raise RefusedError(503, "too many streams", RETRY_SEC) from None
        return StreamingResponse(events, headers=STREAM_HEADERS, media_type=STREAM_TYPE)

    return api


def _add_fleet(api: APIRouter, board: FleetBoard) -> None:
    @api.get("/fleet", response_model=FleetAnswer)
    async def read_fleet(request: Request) -> Response:
        """Return the whole snapshot of the fleet.

        Its `ETag` changes when anything changes besides the time of the snapshot.
        """
        _, position = board.snapshot, board.hub.position
        body = b'{"position":%s,"fleet":%s}' % (orjson.dumps(position), board.reader.encoded)
        return answer_body(request, body, f'W/"{position}"')

    @api.get("/services", response_model=tuple[ServiceSnapshot, ...])
    async def read_services(request: Request) -> Response:
        """Return all services, in the order of the truth."""
        return answer_body(request, orjson.dumps(board.snapshot.services), f'W/"{board.hub.position}"')

    @api.get("/services/{svc}", response_model=ServiceSnapshot)
    async def read_service(svc: str, request: Request) -> Response:
        """Return one service."""
        found = require_found(board.snapshot.find(svc), "service")
        return answer_body(request, orjson.dumps(found), f'W/"{board.hub.position}"')

    @api.get("/incidents", response_model=tuple[IncidentView, ...])
    async def read_incidents(request: Request) -> Response:
        """Return what is down, the oldest outage first."""
        return answer_body(request, orjson.dumps(board.snapshot.incidents), f'W/"{board.hub.position}"')

    @api.get("/notifications", response_model=NotificationsAnswer)
    async def read_notifications() -> Response:
        """Return the messages that wait for a channel, and those that were given up, the newest first."""
        dead, now = await read_dead_letters(board.buses), board.snapshot
        found = NotificationsAnswer(now.pending, now.dead, *dead, now.channels, now.channel_statuses)
        return answer_fresh(found)

    @api.get("/topology")
    async def read_topology() -> Response:
        """Return the flow of data, as `marketswarm topology --json` prints it."""
        return answer_fresh(await board.read_topology())
