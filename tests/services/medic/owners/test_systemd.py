"""systemd by its documented D-Bus interface, on a real bus: what is asked, what is done, and what is not."""

import asyncio
import contextlib
import time

import pytest
from dbus_fast import Message, MessageType, Variant

from marketswarm.agent.lease import clock
from marketswarm.fleet_control import RestartAnswer
from services.medic.facts import RestartOwner
from services.medic.owners import owner as owner_module
from services.medic.owners import systemd as systemd_module
from services.medic.owners.owner import INSPECTED_AGAIN, NoOwnerError
from services.medic.owners.systemd import SystemdUnits
from services.medic.owners.unit import PROPERTIES
from support.recording_log import RecordingLog
from support.rig.systemd_bus import run_bus, stand_in
from support.waiting import auntil

pytestmark = [pytest.mark.live, pytest.mark.needs("dbus-daemon")]

PATTERN = "marketswarm@%s.service"
SERVICES = ("feed", "mesh", *(f"s{number}" for number in range(30)))
DENIED = ("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", "no \x1b[31m" + "x" * 5000)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with run_bus(tmp_path_factory.mktemp("bus")) as address:
        yield address


@pytest.fixture
async def systemd(address):
    async with stand_in(address) as systemd:
        yield systemd
        assert systemd.strange == [], "three kinds of calls are all that a person has to allow"


@pytest.fixture
def feed(systemd):
    return systemd.add("marketswarm@feed.service")


@pytest.fixture
def log():
    return RecordingLog()


@pytest.fixture
async def owner(address, log):
    owner = SystemdUnits(address, PATTERN, log)
    yield owner
    await owner.end()


async def read_identity(owner):
    (found,) = await owner.read(SERVICES)
    return found.facts.identity


async def test_a_unit_is_a_process_of_its_service_with_systemd_as_its_owner(systemd, owner, feed):
    feed.restarts, feed.end = 3, (2, 9, "oom-kill")
    other = systemd.add("marketswarm@postgres.service")
    (found,) = await owner.read(SERVICES)
    assert (found.svc, found.owner, found.restarts, found.pid) == ("feed", RestartOwner.SYSTEMD, 3, 1001)
    assert found.facts.identity == feed.invocation.hex()
    assert found.facts.is_oom_killed
    assert 89 < found.facts.age_sec < 150
    assert not [body for _, body in systemd.asked if other.path in body]
    assert systemd.count("Get") == len(PROPERTIES)
    assert owner.requests == {("list", "ok"): 1, ("unit", "ok"): len(PROPERTIES)}


async def test_a_unit_that_was_never_started_here_runs_elsewhere(systemd, owner):
    systemd.add("marketswarm@mesh.service", active="inactive", sub="dead", starts=0)
    assert await owner.read(SERVICES) == ()


async def test_only_a_new_unit_and_one_in_another_state_is_inspected_at_once(systemd, owner, monkeypatch):
    units = [systemd.add(f"marketswarm@s{number}.service") for number in range(30)]
    assert len(await owner.read(SERVICES)) == 30
    systemd.asked.clear()
    for each in units[10:12]:
        each.active, each.sub = "activating", "auto-restart"
    found = await owner.read(SERVICES)
    assert systemd.count("Get") == 2 * len(PROPERTIES)
    assert sum(each.facts.is_waiting for each in found) == 2
    monkeypatch.setattr(owner_module, "SEEN_AGAIN_SEC", 0.0)
    before = [each.invocation for each in units]
    for each in units:
        each.start_again()
    seen = set()
    for _ in range(4):
        seen |= {each.facts.identity for each in await owner.read(SERVICES)}
    assert {each.invocation.hex() for each in units} <= seen, "each one in its turn"
    assert before != [each.invocation for each in units]
    systemd.asked.clear()
    await owner.read(SERVICES)
    assert systemd.count("Get") == INSPECTED_AGAIN * len(PROPERTIES)


async def test_a_unit_that_goes_between_list_and_inspection_is_left_out(systemd, owner, feed):
    gone = ("org.freedesktop.DBus.Error.UnknownObject", "gone")
    systemd.answer = lambda member, _body: gone if member == "Get" else None
    assert await owner.read(SERVICES) == ()


@pytest.mark.parametrize(
    "said",
    [
        {"NRestarts": Variant("s", "many")},
        {"Result": Variant("s", "fine")},
        {"MainPID": Variant("u", 2**32 - 1)},
    ],
    ids=["type", "word", "number"],
)
async def test_a_unit_that_can_not_be_used_is_left_out_counted_and_logged_once(
    systemd, owner, log, feed, said
):
    systemd.add("marketswarm@mesh.service")
    assert len(await owner.read(SERVICES)) == 2
    feed.said.update(said)
    feed.sub = "reload"
    for _ in range(3):
        assert [each.svc for each in await owner.read(SERVICES)] == ["mesh"]
    assert owner.requests["unit", "unusable"] == 3
    assert [(event, fields["svc"]) for event, fields in log.lines] == [("medic.unit_unusable", "feed")]
    feed.said.clear()
    assert len(await owner.read(SERVICES)) == 2


async def test_a_state_that_is_none_of_systemds_is_not_used(systemd, owner, log, feed):
    feed.active = "fine"
    assert await owner.read(SERVICES) == ()
    assert [event for event, _ in log.lines] == ["medic.unit_unusable"]


@pytest.mark.parametrize("member", ["ListUnitsByPatterns", "Get"])
async def test_a_systemd_that_refuses_to_be_read_cuts_the_medic_off(systemd, owner, feed, member):
    systemd.answer = lambda asked, _body: DENIED if asked == member else None
    with pytest.raises(NoOwnerError, match="can't be used") as raised:
        await owner.read(SERVICES)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 200
    assert {result for _, result in owner.requests} - {"ok"} == {"denied"}


async def test_a_systemd_that_hangs_cuts_the_medic_off_in_time_and_is_asked_anew(
    systemd, owner, feed, monkeypatch
):
    monkeypatch.setattr(systemd_module, "LOOK_SEC", 0.3)
    systemd.answer = lambda *_: False
    began = time.monotonic()
    with pytest.raises(NoOwnerError, match="timeout"):
        await owner.read(SERVICES)
    assert time.monotonic() - began < 5
    systemd.answer = lambda *_: None
    monkeypatch.setattr(systemd_module, "LOOK_SEC", 5.0)
    assert len(await owner.read(SERVICES)) == 1


async def test_without_a_systemd_on_the_bus_the_medic_is_cut_off(owner, address):
    with pytest.raises(NoOwnerError, match="can't be used"):
        await owner.read(SERVICES)


async def test_a_bus_that_ends_and_comes_back_is_found_again(tmp_path, log):
    folders = tmp_path / "bus"
    folders.mkdir()
    with run_bus(folders) as address:
        owner = SystemdUnits(address, PATTERN, log)
        async with stand_in(address) as systemd:
            systemd.add("marketswarm@feed.service")
            await owner.read(SERVICES)
    await asyncio.sleep(0.05)  # let the end of the connection be seen, as between two looks
    for _ in range(3):
        with pytest.raises(NoOwnerError, match="does not answer"):
            await owner.read(SERVICES)
    (folders / "bus").unlink(missing_ok=True)
    with run_bus(folders) as address:
        async with stand_in(address) as systemd:
            systemd.add("marketswarm@feed.service")
            assert len(await owner.read(SERVICES)) == 1
        await owner.end()
    assert log.lines == [], "the beats say it, and the log of that"


async def test_a_unit_is_restarted_by_its_name_once(systemd, owner, feed):
    identity = await read_identity(owner)
    answer, said = await owner.restart("feed", identity, clock() + 60)
    assert answer is RestartAnswer.DONE
    assert said.startswith("feed: unit marketswarm@feed.service restarted in ")
    asked = [body for member, body in systemd.asked if member == "TryRestartUnit"]
    assert asked == [["marketswarm@feed.service", "fail"]]
    assert (await owner.restart("feed", identity, clock() + 60))[0] is RestartAnswer.CHANGED
    assert systemd.count("TryRestartUnit") == 1
    assert await read_identity(owner) == feed.invocation.hex() != identity


def make_state(active, sub, job=""):
    def change(_systemd, feed):
        feed.active, feed.sub, feed.job = active, sub, job

    return change


def deny_reading(systemd, _feed):
    systemd.answer = lambda *_: DENIED


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda _systemd, feed: feed.start_again(), RestartAnswer.CHANGED),
        (lambda systemd, _feed: systemd.units.clear(), RestartAnswer.CHANGED),
        (make_state("activating", "auto-restart"), RestartAnswer.REFUSED),
        (make_state("inactive", "dead"), RestartAnswer.REFUSED),
        (make_state("failed", "failed"), RestartAnswer.REFUSED),
        (make_state("active", "running", "stop"), RestartAnswer.REFUSED),
        (lambda _systemd, feed: setattr(feed, "load", "masked"), RestartAnswer.REFUSED),
        (lambda _systemd, feed: feed.said.update(NRestarts=Variant("s", "")), RestartAnswer.REFUSED),
        (deny_reading, RestartAnswer.REFUSED),
    ],
    ids=[
        "anew", "gone", "systemd is about to", "stopped", "failed", "a person stops it", "masked", "unusable",
        "denied",
    ],
)  # fmt: skip
async def test_nothing_is_done_unless_the_very_invocation_that_is_meant_runs(
    systemd, owner, feed, change, expected
):
    identity = await read_identity(owner)
    change(systemd, feed)
    assert (await owner.restart("feed", identity, None))[0] is expected
    assert not systemd.count("TryRestartUnit")


async def test_nothing_is_done_after_the_lease_has_ended(systemd, owner, feed):
    identity = await read_identity(owner)
    answer, said = await owner.restart("feed", identity, clock() - 0.1)
    assert (answer, said) == (RestartAnswer.REFUSED, "the request came too late")
    assert not systemd.count("TryRestartUnit")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DENIED, RestartAnswer.REFUSED),
        (("org.freedesktop.DBus.Error.AccessDenied", "no"), RestartAnswer.REFUSED),
        (
            ("org.freedesktop.systemd1.TransactionIsDestructive", "a stop job is queued"),
            RestartAnswer.REFUSED,
        ),
        (("org.freedesktop.DBus.Error.NoReply", "it went away"), None),
    ],
)
async def test_what_systemd_answers_to_a_restart_says_whether_it_may_have_been_done(
    systemd, owner, feed, error, expected
):
    identity = await read_identity(owner)
    systemd.answer = lambda member, _body: error if member == "TryRestartUnit" else None
    if expected is None:
        with pytest.raises(NoOwnerError) as raised:
            await owner.restart("feed", identity, None)
        said = str(raised.value)
    else:
        answer, said = await owner.restart("feed", identity, None)
        assert answer is expected
    assert said.startswith(f"systemd refuses: {error[0].rpartition('.')[2]}")
    assert said.isprintable()
    assert len(said) < 200


def end_for_good(feed):
    feed.active, feed.sub, feed.job = "failed", "failed", ""


def cancel(feed):
    feed.active, feed.sub, feed.job = "active", "running", ""


async def test_a_unit_that_ends_and_is_not_started_again_may_have_been_restarted(systemd, owner, feed):
    identity = await read_identity(owner)
    systemd.on_restart = end_for_good
    with pytest.raises(NoOwnerError, match="failed"):
        await owner.restart("feed", identity, None)


def start_later(feed):
    feed.active, feed.sub, feed.job = "inactive", "dead", "start"
    asyncio.get_running_loop().call_later(0.4, feed.start_again)


async def test_a_unit_that_ended_and_waits_for_its_start_is_waited_for(systemd, owner, feed):
    identity = await read_identity(owner)
    systemd.on_restart = start_later
    assert (await owner.restart("feed", identity, None))[0] is RestartAnswer.DONE


async def test_a_restart_that_a_person_cancels_was_not_done(systemd, owner, feed):
    identity = await read_identity(owner)
    systemd.on_restart = cancel
    answer, said = await owner.restart("feed", identity, None)
    assert (answer, said.endswith("the restart was cancelled")) == (RestartAnswer.REFUSED, True)


@pytest.mark.parametrize("name", ["CALL_SEC", "RESTART_SEC"])
async def test_a_restart_that_takes_too_long_may_have_been_done(systemd, owner, feed, monkeypatch, name):
    identity = await read_identity(owner)
    monkeypatch.setattr(systemd_module, name, 0.4)
    if name == "CALL_SEC":
        systemd.answer = lambda asked, _body: False if asked == "TryRestartUnit" else None
    systemd.on_restart = lambda _feed: None
    with pytest.raises(NoOwnerError, match="timeout"):
        await owner.restart("feed", identity, None)


async def test_nothing_is_done_if_systemd_hangs_before_it(systemd, owner, feed, monkeypatch):
    identity = await read_identity(owner)
    monkeypatch.setattr(systemd_module, "LOOK_SEC", 0.4)
    systemd.answer = lambda *_: False
    assert (await owner.restart("feed", identity, None))[0] is RestartAnswer.REFUSED
    assert not systemd.count("TryRestartUnit")


async def test_it_goes_on_after_an_end_and_two_looks_at_once_are_two_looks(owner, feed):
    await owner.read(SERVICES)
    await owner.end()
    found = await asyncio.gather(owner.read(SERVICES), owner.read(SERVICES))
    assert [len(each) for each in found] == [1, 1]


async def test_a_bus_that_is_not_there_cuts_the_medic_off(tmp_path, log):
    missing = SystemdUnits(f"unix:path={tmp_path}/none", PATTERN, log)
    with pytest.raises(NoOwnerError, match="systemd does not answer"):
        await missing.read(SERVICES)
    await missing.end()


def answer_call(serial, *body, signature):
    answer = Message(
        message_type=MessageType.METHOD_RETURN, reply_serial=serial, signature=signature, body=list(body)
    )
    answer.serial = serial
    return bytes(answer._marshall(False))  # noqa: SLF001 - what a bus sends


HELLO = answer_call(1, ":1.7", signature="s")
TEXT = answer_call(2, "text", signature="s")


@pytest.mark.parametrize(
    "said",
    [
        (b"\xff\r\n",),
        (b"OK 1\r\n", HELLO.replace(b":1.7", b"\xff\xff\xff\xff")),
        (b"OK 1\r\n", HELLO, TEXT.replace(b"text", b"\xff\xff\xff\xff")),
        (b"OK 1\r\n", HELLO, TEXT.replace(b"\4\0\0\0text", b"\xff\0\0\0text")),
    ],
    ids=["sign-in", "name", "text", "length"],
)
async def test_bytes_that_are_no_message_cut_the_medic_off_and_end_nothing(tmp_path, log, said):
    served = []

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError):
            await reader.readline()
            writer.write(said[0])
            await reader.readline()
            for each in said[1:]:
                await reader.read(4096)
                writer.write(each)
            await reader.read()
        writer.transport.abort()
        served.append(writer)

    path = tmp_path / "bus"
    async with await asyncio.start_unix_server(serve, path):
        owner = SystemdUnits(f"unix:path={path}", PATTERN, log)
        for _ in range(2):
            with pytest.raises(NoOwnerError, match="does not answer") as raised:
                await owner.read(SERVICES)
            assert "timeout" not in str(raised.value)
        await owner.end()
        await auntil(lambda: len(served) == 2)
