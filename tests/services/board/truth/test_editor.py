"""Documents that are checked and seeded through the board, on real servers."""

import asyncio
import contextlib
import hashlib
import json
import threading
import time

import pytest

from marketswarm.bus import Bus
from marketswarm.operator.tokens import Scope, create_token
from marketswarm.seeding.transaction import seed_truth
from marketswarm.tasks import end_tasks
from marketswarm.testing import MemoryBus
from marketswarm.truth import RESERVED_USERS, parse_truth
from marketswarm.web.audit import AuditLog
from marketswarm.web.limits import RefusedError
from marketswarm.web.tokens import Client
from services.board.truth import editor as editor_module
from services.board.truth.editor import (
    NOT_ALLOWED,
    OTHER_BUSES,
    TruthEditor,
    TruthInForce,
    check_document_text,
)
from support.rig import HOST
from support.scenes.seeding import agreed, state, two_servers
from support.waiting import auntil

TEXT = """{
  "services": {
    "mesh": {"tags": ["a"]},
    "rss_agg": {}
  }
}
"""
OLD = TEXT.encode()
NEW = TEXT.replace('"a"', '"b"').encode()


class Editing:
    """An editor of two real buses, and a client with a token."""

    def __init__(self, *servers) -> None:
        self.buses = [
            Bus(name, f"redis://{HOST}:{server.port}")
            for name, server in zip(("system-redis", "market-redis"), servers, strict=True)
        ]
        self.may_seed, self.truth = True, parse_truth(OLD).truth
        self.editor = TruthEditor(
            lambda: self.buses,
            AuditLog(lambda: self.buses[0], "board"),
            lambda: self.truth,
            lambda: self.may_seed,
            "truth:doc",
        )
        token, _ = create_token("deploy", [Scope.SEED], author="kim", now=time.time())
        self.client = Client(token, "127.0.0.1")

    async def seed(self, raw: bytes, replaces: bytes = OLD):
        return await self.editor.seed(self.client, raw, "kim", hashlib.sha256(replaces).hexdigest())

    async def audit(self) -> list[tuple[str, ...]]:
        entries = await self.buses[0].client.xrange("board:audit")
        wanted = (b"action", b"outcome", b"name", b"detail")
        return [tuple(fields[name].decode() for name in wanted) for _, fields in entries]


@pytest.fixture
async def editing(tmp_path):
    with two_servers(tmp_path) as servers:
        found = Editing(*servers)
        found.servers = servers
        await seed_truth(OLD, found.buses, "bootstrap@test")
        yield found
        for bus in found.buses:
            await bus.aclose()


def read_current() -> TruthInForce:
    return TruthInForce(OLD, hashlib.sha256(OLD).hexdigest(), parse_truth(OLD).truth)


def test_errors_have_the_paths_of_validate_and_lines():
    found = check_document_text(OLD.replace(b'["a"]', b'["a", 5]'), read_current())
    assert (found.valid, found.changes) == (False, ())
    assert [(each.path, each.line) for each in found.errors] == [("services.mesh.tags[1]", 3)]
    broken = check_document_text(b'{\n"services": nothing}', read_current())
    assert [(each.path, each.line) for each in broken.errors] == [("truth", 2)]


def test_the_sections_of_services_are_checked_by_their_own_models():
    raw = OLD.replace(b'"rss_agg": {}', b'"rss_agg": {"settings": {"poll_sec": "x"}}')
    (error,) = check_document_text(raw, read_current()).errors
    assert (error.path, error.line) == ("services.rss_agg.settings.poll_sec", 4)


def test_a_valid_document_says_what_it_changes():
    found = check_document_text(NEW, read_current())
    assert (found.valid, found.same, found.changes) == (True, False, ("~ mesh: tags",))
    assert check_document_text(OLD, read_current()).same
    assert not check_document_text(OLD + b"\n", read_current()).same


def test_nothing_in_an_answer_can_act_on_a_terminal_or_hold_a_password():
    raw = b'{"services": {"a\\u202e": {"heartbeat": {"redis_url": "redis://u:hunter2@h:1"}}}}'
    found = check_document_text(raw, read_current())
    assert found.errors
    assert all(each.path.isprintable() and each.message.isprintable() for each in found.errors)
    assert "hunter2" not in repr(found)


async def test_a_document_is_seeded_on_every_bus_and_audited(editing):
    done = await editing.seed(NEW)
    assert (done.revision, done.changed, done.changes, done.unheard) == (2, True, ("~ mesh: tags",), {})
    assert agreed(*editing.servers) == (NEW, 2)
    assert state(editing.servers[1])["meta"][b"seeded_by"] == b"kim@board"
    assert await editing.audit() == [
        ("seed", "begun", "deploy", "by kim"),
        ("seed", "done", "deploy", "revision 2, by kim"),
    ]


async def test_of_two_authors_the_second_is_refused_and_nothing_is_lost(editing):
    await editing.seed(NEW)
    with pytest.raises(RefusedError, match="changed meanwhile") as error:
        await editing.seed(OLD.replace(b'"a"', b'"c"'))
    assert error.value.status == 412
    assert agreed(*editing.servers) == (NEW, 2)
    assert (await editing.audit())[-1][:2] == ("seed", "refused")


async def test_of_two_seedings_at_once_one_is_done(editing):
    other = OLD.replace(b'"a"', b'"c"')
    outcomes = await asyncio.gather(editing.seed(NEW), editing.seed(other), return_exceptions=True)
    (refused,) = [each for each in outcomes if isinstance(each, RefusedError)]
    assert refused.status in (412, 503)
    assert agreed(*editing.servers)[0] in (NEW, other)


@pytest.mark.parametrize(
    ("raw", "status", "why"),
    [
        (b'{"services": {"mesh": 5}}', 422, "not seeded: services.mesh: "),
        (b"{", 422, "not seeded: truth: not JSON"),
        (OLD.replace(b"{", b'{"buses": {"x": {"url": "redis://evil:1"}},', 1), 422, OTHER_BUSES),
        (
            OLD.replace(b"{", b'{"buses": {"system-redis": {"url": "redis://evil:1"}},', 1),
            422,
            OTHER_BUSES,
        ),
        (OLD.replace(b"{}", b'{"heartbeat": {"redis_url": "redis://evil:1"}}'), 422, OTHER_BUSES),
    ],
)
async def test_what_may_not_be_seeded_is_refused_before_anything_is_written(editing, raw, status, why):
    with pytest.raises(RefusedError) as error:
        await editing.seed(raw)
    assert (error.value.status, error.value.reason[: len(why)]) == (status, why)
    assert agreed(*editing.servers) == (OLD, 1)
    assert await editing.audit() == []


async def test_a_truth_that_does_not_let_the_board_seed_is_left_alone(editing):
    editing.may_seed = False
    with pytest.raises(RefusedError) as error:
        await editing.seed(NEW)
    assert (error.value.status, error.value.reason) == (403, NOT_ALLOWED)
    assert agreed(*editing.servers) == (OLD, 1)


async def test_a_bus_that_is_away_leaves_every_bus_as_it_was(editing):
    editing.servers[1].stop()
    with pytest.raises(RefusedError) as error:
        await editing.seed(NEW)
    assert error.value.status == 503
    assert state(editing.servers[0])["doc"] == OLD
    assert (await editing.audit())[-1][:2] == ("seed", "failed")


async def test_a_revision_is_found_until_no_bus_keeps_it(editing):
    await editing.seed(NEW)
    assert (await editing.editor.find_revision(1)).document == OLD
    with pytest.raises(RefusedError) as error:
        await editing.editor.find_revision(3)
    assert error.value.status == 404


async def test_a_service_is_added_once(editing):
    assert await editing.editor.add_service("nightly", "ping key 1f")
    assert not await editing.editor.add_service("nightly", "ping key 1f")
    raw, revision = agreed(*editing.servers)
    assert (list(json.loads(raw)["services"]), revision) == (["mesh", "rss_agg", "nightly"], 2)
    assert raw.startswith(OLD[:60])
    assert (await editing.audit())[-1][3] == "revision 2, service nightly added by ping key 1f"


async def test_two_services_that_are_added_at_once_are_both_there(editing):
    async def is_added(svc: str) -> bool:
        with contextlib.suppress(RefusedError):
            await editing.editor.add_service(svc, "test")
            return True
        return False

    await asyncio.gather(*(auntil(lambda svc=svc: is_added(svc)) for svc in ("one", "two")))
    assert {"one", "two"} <= set(json.loads(agreed(*editing.servers)[0])["services"])


@pytest.mark.parametrize("name", ['x" y\n', *RESERVED_USERS])
async def test_a_name_that_no_service_may_have_is_not_added(editing, name):
    with pytest.raises(RefusedError) as error:
        await editing.editor.add_service(name, "test")
    assert error.value.status == 422


async def test_while_a_check_that_was_given_up_still_has_its_thread_no_other_one_begins(monkeypatch):
    working, end = threading.Event(), threading.Event()

    def work(_raw, _current):
        working.set()
        end.wait()
        raise ValueError("nobody waits for this any more")

    monkeypatch.setattr(editor_module, "check_document_text", work)
    monkeypatch.setattr(editor_module, "WAIT_SEC", 0.01)
    bus = MemoryBus("system-redis")
    await bus.client.set("truth:doc", OLD)
    editor = TruthEditor(
        lambda: [bus], AuditLog(lambda: bus, "board"), lambda: None, lambda: True, "truth:doc"
    )
    given_up = asyncio.create_task(editor.check(OLD))
    await auntil(working.is_set)
    await end_tasks(given_up)
    try:
        with pytest.raises(RefusedError, match="other documents are being checked"):
            await editor.check(OLD)
    finally:
        end.set()
    monkeypatch.setattr(editor_module, "check_document_text", check_document_text)
    monkeypatch.setattr(editor_module, "WAIT_SEC", 10.0)
    assert (await editor.check(OLD)).same
    await bus.aclose()
