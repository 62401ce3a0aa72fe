"""The forms that add, edit and remove entries of the truth, for an example snapshot."""

from dataclasses import replace

from marketswarm.operator.ping_lines import make_bus_lines, make_ping_lines
from marketswarm.truth.document_edit import AddedKind, TruthEntry
from marketswarm.web.responses import PageModel
from marketswarm.web.sessions import BrowserSession
from services.board.fleet.frame import Frame
from services.board.fleet.snapshot import FleetSnapshot
from services.board.pings.key_pages import KeysPage, KeyView, NewKey
from services.board.truth.add_pages import AddedPage, AddPage, Choice
from services.board.truth.editor import CheckAnswer, ProblemView
from services.board.truth.entry_change import EntryChange, Verb
from services.board.truth.entry_pages import EntryPage
from services.board.truth.pages import TruthReviewPage
from services.board.truth_documents import DiffLine
from support.board_examples import AT


def show_add(
    session: BrowserSession,
    problems: tuple[ProblemView, ...],
    hostile: str,
    frame: Frame,
    params: dict[str, str],
) -> PageModel:
    frame = replace(frame, title="Add a job", path="/truth/add", session=session)
    typed = {"name": "backup" + hostile, "schedule": "0 3 * *" + hostile}
    kind = Choice(params.get("kind", "job"))
    said = "1 problem: nothing was seeded." + hostile
    return AddPage(frame, kind, typed, problem=said, errors=problems)


def show_added(
    snapshot: FleetSnapshot, session: BrowserSession, hostile: str, frame: Frame, _params: dict[str, str]
) -> PageModel:
    frame = replace(frame, title="Added", path="/truth/add", session=session)
    lines = make_ping_lines(AddedKind.JOB, "backup" + hostile, "http://127.0.0.1:8080/ping/KEY" + hostile)
    return AddedPage(
        frame,
        "backup" + hostile,
        snapshot.services[0],
        lines,
        make_bus_lines(AddedKind.JOB, "backup" + hostile, ["system-redis"]),
        is_elsewhere=True,
        is_local=True,
    )


def show_entry(
    session: BrowserSession,
    problems: tuple[ProblemView, ...],
    hostile: str,
    frame: Frame,
    params: dict[str, str],
) -> PageModel:
    """Return the form about an entry of the truth, a page if `page` says so; `session` signs a person in."""
    signed_in = session if "session" in params else None
    entry = TruthEntry("page" in params, bool(hostile), {"schedule": "0 3 * * *"})
    typed = {
        "schedule": "0 3 * *" + hostile,
        "url": "https://shop.example/" + hostile,
        "severity": "critical",
    }
    return EntryPage(
        replace(frame, title="backup", path="/truth", session=signed_in),
        "backup" + hostile,
        entry,
        typed,
        "0",
        problem="1 problem: nothing was seeded." + hostile,
        errors=problems,
        pages=("massive/shop" + hostile,),
    )


def show_removal(session: BrowserSession, hostile: str, frame: Frame, _params: dict[str, str]) -> PageModel:
    """Return the question whether to remove an entry."""
    return TruthReviewPage(
        replace(frame, title="Remove backup", path="/truth", session=session),
        "0",
        CheckAnswer(valid=True, sha256="1", changes=("- backup" + hostile,)),
        (DiffLine("-", "old" + hostile),),
        "{}",
        may_edit=not hostile,
        change=EntryChange(Verb.REMOVE, "backup" + hostile),
        lost=("It is down now: its open incident is closed.", "`marketswarm token list` shows it." + hostile),
    )


def show_keys(session: BrowserSession, hostile: str, frame: Frame, params: dict[str, str]) -> PageModel:
    """Return the page of ping keys after one was made; `out` shows it to who is not signed in."""
    frame = replace(frame, title="Ping keys", path="/keys")
    if "out" in params:
        return KeysPage(frame)
    one = KeyView("1f0c3a9e", "nightly" + hostile, "backup" + hostile, "kim", AT - 60, None, False, None)
    keys = (
        one,
        replace(one, id="2f0c3a9e", name="machines", svc=None, expires_at=AT + 9e5, used_at=AT - 40),
        replace(one, id="3f0c3a9e", name="old", created_at=AT - 9e6, expires_at=AT - 9e5, is_over=True),
    )
    lines = {"address": "http://127.0.0.1:8080/ping/3f0c7e62-7f3e-4f0a-9c53-0d6f0b6f3c11" + hostile}
    return KeysPage(
        replace(frame, session=session),
        keys,
        700,
        ("rss_agg", hostile),
        AT - 9000,
        "Bus system-redis does not answer." + hostile if hostile else "",
        NewKey("nightly" + hostile, lines),
    )
