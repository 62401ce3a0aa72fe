"""Let programs read, check and seed the truth under `/api/v1/truth`.

A document is sent as it is, and comes back as it is: valid documents hold no secrets. Its `ETag` is its
SHA-256; a document is seeded only in place of the one whose `ETag` the client names in `If-Match`.
"""

import contextlib
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Path, Query, Request
from starlette.responses import Response

from marketswarm.bus import BusError
from marketswarm.operator.tokens import Scope
from marketswarm.truth import diff_truths
from marketswarm.web.limits import RefusedError
from marketswarm.web.responses import answer_body, answer_fresh
from marketswarm.web.tokens import TOKEN_HEADER, TokenVerifier, find_media_type
from services.board.truth.editor import CheckAnswer, SeedAnswer, TruthEditor
from services.board.truth_documents import RevisionView, read_revisions_of

_JSON: Final = "application/json"
_DOCUMENT: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": {_JSON: {"schema": {"type": "object"}}}}
}
_REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    403: {"description": "The token lacks the scope seed, or the truth does not let the board change it"},
    412: {"description": "The truth was changed meanwhile: `ETag` has what is in force"},
    415: {"description": "The body is not JSON"},
    428: {"description": "`If-Match` is missing"},
}
"""Error responses for OpenAPI that `describe_failures` leaves out. 403 overrides its text."""
Number = Annotated[int, Path(ge=1, le=10**15)]
QueryNumber = Annotated[int, Query(ge=1, le=10**15)]


@dataclass(frozen=True, slots=True)
class DiffAnswer:
    """What changed from one revision to another: services, buses, the fleet's name."""

    old: str
    new: str
    same: bool
    added: tuple[str, ...]
    dropped: tuple[str, ...]
    changed: tuple[tuple[str, str], ...]
    buses: tuple[tuple[str, str], ...]
    fleet: str


def make_truth_api(editor: TruthEditor, verifier: TokenVerifier) -> APIRouter:
    api = APIRouter(prefix="/api/v1/truth")
    _add_reading(api, editor)

    @api.put(
        "",
        response_model=SeedAnswer,
        openapi_extra=_DOCUMENT,
        dependencies=[TOKEN_HEADER],
        responses=_REFUSALS,
    )
    async def seed(request: Request) -> Response:
        """Seed a document on every bus, or on none, in place of the one that `If-Match` names."""
        client = await verifier.verify_client(request, Scope.SEED)
        replaces = request.headers.get("if-match", "").strip()
        if not replaces:
            raise RefusedError(428, "`If-Match` must have the `ETag` of the document that you edited")
        raw = await _read_document(request)
        try:
            done = await editor.seed(client, raw, client.name, replaces.strip('"'))
        except RefusedError as error:
            return await _explain_refusal(editor, error, raw)
        answer = answer_fresh(done)
        answer.headers["ETag"] = _make_etag(done.sha256)
        return answer

    return api


def _add_reading(api: APIRouter, editor: TruthEditor) -> None:
    @api.get("", responses={409: {"description": "The document in force is not valid"}})
    async def read_truth(request: Request) -> Response:
        """Return the document in force, byte for byte; its `ETag` is for `If-Match`."""
        found = await editor.read_in_force()
        if found.truth is None:  # it may hold secrets
            raise HTTPException(409, "the document in force is not valid: `marketswarm truth` says why")
        return answer_body(request, found.raw, _make_etag(found.sha256))

    @api.get("/revisions", response_model=tuple[RevisionView, ...])
    async def list_revisions() -> Response:
        """Return the revisions that the buses keep, the newest first."""
        try:
            return answer_fresh(await read_revisions_of(editor.buses()))
        except BusError as error:
            raise HTTPException(503, f"bus {error.bus}: {error.reason}", {"Retry-After": "5"}) from None

    @api.get("/revisions/{number}")
    async def read_one_revision(number: Number, request: Request) -> Response:
        """Return the document of a revision, byte for byte."""
        found = await editor.find_revision(number)
        await editor.parse_revision(found)
        return answer_body(request, found.document, _make_etag(found.sha256))

    @api.get("/diff", response_model=DiffAnswer)
    async def compare_revisions(older: QueryNumber, newer: QueryNumber) -> Response:
        """Return what changed between two revisions, as `marketswarm truth diff --json` prints it."""
        first, second = [await editor.find_revision(number) for number in (older, newer)]
        changes = diff_truths(await editor.parse_revision(first), await editor.parse_revision(second))
        is_same = first.sha256 == second.sha256
        return answer_fresh(DiffAnswer(f"revision {older}", f"revision {newer}", is_same, **asdict(changes)))

    @api.post("/check", response_model=CheckAnswer, openapi_extra=_DOCUMENT, responses={415: _REFUSALS[415]})
    async def check(request: Request) -> Response:
        """Return what is wrong with a document, as `marketswarm validate`, and what it would change."""
        return answer_fresh(await editor.check(await _read_document(request)))


async def _explain_refusal(editor: TruthEditor, error: RefusedError, raw: bytes) -> Response:
    """Return why a document was not seeded, with all its errors; or raise the refusal."""
    with contextlib.suppress(RefusedError):  # the first refusal says more
        if error.status == HTTPStatus.PRECONDITION_FAILED:
            error.headers = {"ETag": _make_etag((await editor.read_in_force()).sha256)}
        if error.status == HTTPStatus.UNPROCESSABLE_ENTITY and (found := await editor.check(raw)).errors:
            return answer_fresh({"detail": error.reason, "errors": found.errors}, error.status)
    raise error


async def _read_document(request: Request) -> bytes:
    if find_media_type(request) != _JSON:
        raise HTTPException(415, f"a document is {_JSON}")
    return await request.body()


def _make_etag(sha256: str) -> str:
    return f'"{sha256}"'
