import asyncio

import pytest

from marketswarm.web.limits import RefusedError
from services.board.pings import desk
from services.board.pings.desk import ServiceCreator
from services.board.pings.directory import PingDirectory


class Editor:
    """A truth that takes services, a moment after they were seeded; `refusal` is a status."""

    def __init__(self, rig, truth_of, refusal=None):
        self.rig, self.truth_of, self.refusal = rig, truth_of, refusal
        self.services, self.authors, self.is_busy = {"backup": {}}, [], False

    async def add_service(self, svc, author):
        self.authors.append(author)
        if self.refusal is not None or self.is_busy:
            raise RefusedError(self.refusal or 503, "no")
        if svc in self.services:
            return False
        self.is_busy = True
        await asyncio.sleep(0)
        self.services[svc], self.is_busy = {}, False
        asyncio.get_running_loop().call_later(0.05, self.follow)
        return True

    def follow(self):
        self.rig.directory = PingDirectory(self.truth_of({"services": self.services}))


@pytest.fixture
def make_editor(rig, truth_of):
    def make(refusal=None):
        editor = Editor(rig, truth_of, refusal)
        rig.desk.creator = ServiceCreator(editor.add_service)
        return editor

    return make


async def test_a_ping_of_an_unknown_slug_adds_the_service_and_is_the_first_of_it(rig, make_editor):
    editor, (_, key) = make_editor(), await rig.make_key()
    assert (await rig.ask(f"/ping/{key}/nightly"))[:2] == (404, b"not found")
    assert (await rig.ask(f"/ping/{key}/nightly", query=b"create=0"))[:2] == (404, b"not found")
    assert (await rig.ask(f"/ping/{key}/nightly/start", query=b"create=1"))[:2] == (201, b"Created")
    assert (await rig.ask(f"/ping/{key}/nightly", query=b"create=1"))[:2] == (200, b"OK")
    assert [each[b"kind"] for each in await rig.entries("nightly")] == [b"start", b"success"]
    assert len(editor.authors) == 1
    assert key not in editor.authors[0]


async def test_new_slugs_at_once_are_added_one_after_the_other(rig, make_editor):
    editor, (_, key) = make_editor(), await rig.make_key()
    paths = [f"/ping/{key}/job{n}" for n in (*range(10), 0, 0)]
    found = await asyncio.gather(*(rig.ask(path, query=b"create=1") for path in paths))
    assert [status for status, _, _ in found] == [201] * 12
    assert len(editor.services) == 11
    assert len(await rig.entries("job0")) == 3


async def test_what_was_not_added_uses_nothing_up(rig, make_editor, monkeypatch):
    monkeypatch.setattr(desk, "CREATED_AT_ONCE", 1)
    editor, (_, key) = make_editor(refusal=503), await rig.make_key()
    found = [(await rig.ask(f"/ping/{key}/job", query=b"create=1"))[0] for _ in range(3)]
    editor.refusal = None
    found += [(await rig.ask(f"/ping/{key}/job", query=b"create=1"))[0] for _ in range(2)]
    assert found == [503, 503, 503, 201, 200]


async def test_neither_a_key_of_one_service_nor_a_wrong_one_adds_any(rig, make_editor):
    editor, (_, uuid) = make_editor(), await rig.make_key("backup")
    assert (await rig.ask("/ping/" + "A" * 22 + "/nightly", query=b"create=1"))[0] == 404
    assert (await rig.ask(f"/ping/{uuid}", query=b"create=1"))[0] == 200
    assert editor.authors == []


@pytest.mark.parametrize("slug", ["healer", "9lives", "_x", "default", "operator", "bootstrap", "join"])
async def test_a_slug_that_can_be_no_service_is_not_found(rig, make_editor, slug):
    editor, (_, key) = make_editor(), await rig.make_key()
    assert (await rig.ask(f"/ping/{key}/{slug}", query=b"create=1"))[:2] == (404, b"not found")
    assert editor.authors == []


@pytest.mark.parametrize(("refusal", "status"), [(403, 404), (409, 503), (503, 503)])
async def test_a_truth_that_can_not_be_changed_is_no_200(rig, make_editor, refusal, status):
    make_editor(refusal)
    _, key = await rig.make_key()
    assert (await rig.ask(f"/ping/{key}/nightly", query=b"create=1"))[0] == status
    assert await rig.entries("nightly") == []


async def test_a_key_adds_only_so_many_at_once(rig, make_editor, monkeypatch):
    monkeypatch.setattr(desk, "CREATED_AT_ONCE", 2)
    editor, (_, key) = make_editor(), await rig.make_key()
    found = [(await rig.ask(f"/ping/{key}/job{n}", query=b"create=1"))[0] for n in range(3)]
    assert found == [201, 201, 429]
    assert len(editor.authors) == 2


async def test_a_service_that_was_just_added_with_its_key_is_waited_for_and_one_that_is_gone_is_not_found(
    rig, make_editor, monkeypatch
):
    editor, (_, key) = make_editor(), await rig.make_key("late")
    editor.services["late"] = {}
    asyncio.get_running_loop().call_later(0.05, editor.follow)
    assert (await rig.ask(f"/ping/{key}"))[:2] == (200, b"OK")
    monkeypatch.setattr(desk, "ADDED_SEC", 0.05)
    del editor.services["late"]
    editor.follow()
    assert (await rig.ask(f"/ping/{key}"))[:2] == (404, b"not found")
