"""The medic rolls a truth back on real servers: one step, once, on every bus or on none, and on record."""

import contextlib
import time

import orjson
import pytest

from marketswarm.access.passwords import format_acl_files, load_passwords, replace_url_user
from marketswarm.access.users import user_names
from marketswarm.agent.lease import clock
from marketswarm.keys import BOARD_AUDIT
from marketswarm.seeding.transaction import seed_truth
from marketswarm.settings.programs import MonitorSettings
from marketswarm.truth import parse_truth
from services.medic.facts import FleetFacts, Health, RemedyEvidence, TargetFacts
from services.medic.remedies import REMEDIES, OrderResult, Remedy, RemedyContext, RemedyOrder
from services.medic.remedies.rollback import AUTHOR
from services.medic.settings import HealingSettings, RollbackSettings
from support.rig import Server
from support.scenes.seeding import agreed, buses, state, two_servers
from support.waiting import fault_lasts

ROLL_BACK = REMEDIES[Remedy.ROLL_BACK_TRUTH]
SOON = HealingSettings(rollback=RollbackSettings.model_construct(within_sec=0.0))
"""A truth may be rolled back at once: the one before may have been in force for a moment."""


def document(tag=None):
    """Return a truth; with a tag, two of its services have another section."""
    tagged = {} if tag is None else {svc: {"tags": [tag]} for svc in "ab"}
    return orjson.dumps({"services": {"healer": {}, "medic": {}, "a": {}, "b": {}, "c": {}, **tagged}})


GOOD, BAD, FIXED = document(), document("new"), document("fixed")


class Scene:
    """Two servers as buses, with a truth that broke two services."""

    def __init__(self, servers, opened):
        self.servers, self.opened = servers, opened
        self.by_name = {bus.name: bus for bus in opened}

    def context(self, until=None):
        return RemedyContext(parse_truth(GOOD).truth, self.by_name.__getitem__, settings=SOON, until=until)

    async def seed(self, *documents):
        for each in documents:
            await seed_truth(each, self.opened, "ann@host")

    async def look(self):
        seeded_at = float(state(self.servers[0])["meta"][b"seeded_at"])
        facts = {svc: TargetFacts(svc=svc, health=Health.DOWN, down_since=seeded_at) for svc in "ab"}
        return (await ROLL_BACK.read_evidence(["a"], FleetFacts(facts), self.context(), time.time()))["a"]

    async def carry_out(self, identity="2>1", until=None):
        return await ROLL_BACK.carry_out(
            RemedyOrder("a", Remedy.ROLL_BACK_TRUTH, identity), self.context(until)
        )

    def in_force(self):
        """Return the document and revision that both servers hold, and its author."""
        return (*agreed(*self.servers), state(self.servers[0])["meta"][b"seeded_by"].decode())

    async def read_audit(self):
        return [fields for _, fields in await self.by_name["system-redis"].client.xrange(BOARD_AUDIT)]


@pytest.fixture
async def scene(tmp_path):
    with two_servers(tmp_path) as servers:
        async with buses(*servers) as opened:
            scene = Scene(servers, opened)
            await scene.seed(GOOD, BAD)
            yield scene


async def test_a_truth_with_which_services_went_down_is_rolled_back_once(scene):
    assert await scene.look() == RemedyEvidence(identity="2>1", undone=frozenset({"2>1"}))
    done = await scene.carry_out(until=clock() + 10)
    assert done == (OrderResult.DONE, "revision 1 is in force again, as revision 3")
    assert scene.in_force() == (GOOD, 3, AUTHOR)
    audit = await scene.read_audit()
    assert [(each[b"action"], each[b"outcome"]) for each in audit] == [
        (b"seed", b"begun"),
        (b"seed", b"done"),
    ]
    assert audit[0][b"detail"] == b"by the medic for a: revision 2 back to revision 1"
    found = await scene.look()
    assert (found.identity, found.results) == ("", {"2>1": True}), "its own step is not taken back"
    assert "2>1" not in found.undone
    assert (await scene.carry_out())[0] is OrderResult.CHANGED
    await scene.seed(BAD)
    assert await scene.look() == RemedyEvidence(undone=frozenset({"4>3"})), "somebody insists on it"
    assert scene.in_force() == (BAD, 4, "ann@host")


async def test_a_medic_that_stands_still_before_it_writes_has_the_bus_refuse_it(scene):
    """Its lease ends between its look at the buses and its write."""

    async def stand_still():
        fault_lasts(1.2)

    scene.opened[1].before_write = stand_still
    result, said = await scene.carry_out(until=clock() + 1)
    assert (result, "no time is left" in said) == (OrderResult.REFUSED, True), said
    assert scene.in_force() == (BAD, 2, "ann@host")
    assert (await scene.read_audit())[-1][b"outcome"] == b"failed"


async def test_a_truth_that_was_seeded_meanwhile_stays_in_force(scene):
    await scene.seed(FIXED)
    assert (await scene.carry_out())[0] is OrderResult.CHANGED
    assert await scene.read_audit() == []

    async def seed_another():
        async with buses(*scene.servers) as opened:
            await seed_truth(GOOD, opened, "bob@host")

    scene.opened[0].before_write = seed_another
    result, said = await scene.carry_out("3>2")
    assert result is OrderResult.CHANGED, said
    assert scene.in_force() == (GOOD, 4, "bob@host")
    assert (await scene.read_audit())[-1][b"outcome"] == b"refused"


async def test_without_the_audit_log_nothing_is_seeded(scene):
    await scene.by_name["system-redis"].client.set(BOARD_AUDIT, "no stream")
    result, said = await scene.carry_out()
    assert (result, said[:35]) == (OrderResult.REFUSED, "not rolled back, nothing changed: s")
    assert scene.in_force() == (BAD, 2, "ann@host")


async def test_a_bus_that_is_away_leaves_all_as_it_was(scene):
    with contextlib.ExitStack() as ends:
        scene.servers[1].freeze()
        ends.callback(scene.servers[1].thaw)
        result, said = await scene.carry_out(until=clock() + 60)
        assert result is OrderResult.REFUSED, said
    assert scene.in_force() == (BAD, 2, "ann@host")


async def test_with_users_the_medics_own_may_do_all_that_it_takes(tmp_path):
    """It loads no functions, so it needs no right to."""
    medic = {"settings": {"targets": {"a": {"ladder": ["roll_back_truth"]}}}}
    good, bad = (
        orjson.dumps({"services": {**orjson.loads(each)["services"], "medic": medic}}) for each in (GOOD, BAD)
    )
    truth = parse_truth(good).truth
    known, _ = load_passwords(tmp_path / "secrets", user_names(truth), make_missing=True)
    with contextlib.ExitStack() as ends:
        servers = {}
        for bus, text in sorted(format_acl_files(truth, known, MonitorSettings(), ()).items(), reverse=True):
            (tmp_path / bus).mkdir()
            (tmp_path / bus / "users.acl").write_text(text, encoding="utf-8")
            servers[bus] = ends.enter_context(Server(tmp_path / bus, aclfile="users.acl"))

        def urls(user):
            return [replace_url_user(each.url, user, known[user]) for each in servers.values()]

        async with buses(*urls("bootstrap")) as opened:
            for each in (good, bad):
                await seed_truth(each, opened, "ann@host")
        async with buses(*urls("medic")) as opened:
            context = RemedyContext(truth, {bus.name: bus for bus in opened}.__getitem__, until=clock() + 10)
            order = RemedyOrder("a", Remedy.ROLL_BACK_TRUTH, "2>1")
            known = await ROLL_BACK.read_evidence(["a"], FleetFacts(), context, time.time())
            assert known["a"].undone == {"2>1"}, "it sees the truth of each bus"
            done = await ROLL_BACK.carry_out(order, context)
            assert done == (OrderResult.DONE, "revision 1 is in force again, as revision 3")
            assert [await bus.client.get("truth:doc") for bus in opened] == [good, good]
