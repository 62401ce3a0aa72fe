"""Whom Redis Sentinels call the master, and that connections lead there and nowhere else."""

import asyncio
import contextlib
import time

import pytest

from marketswarm.bus import Bus, BusError
from marketswarm.bus.session import SubscriberConnection
from support.rig import HOST, Server, free_port
from support.rig.certificates import Authority
from support.rig.redis_sentinel import NAME, RedisSentinel
from support.rig.refusing_servers import speaks_tls
from support.waiting import auntil, until

pytestmark = pytest.mark.live
USER, PASSWORD, ASKER, ASKERS = "agent", "hush-hush", "asker", "not/th@t"


@pytest.fixture
def all_answer(monkeypatch):
    """Every sentinel that answers at all is waited for, on however slow a machine."""
    monkeypatch.setattr("marketswarm.bus.failover.OTHERS_WITHIN_SEC", 5.0)


def url(*ports: int, master: str = NAME) -> str:
    return f"redis+sentinel://{','.join(f'{HOST}:{port}' for port in ports)}/{master}"


async def word(bus: Bus) -> str:
    try:
        await bus.ask(bus.client.incr("k"))
    except BusError as error:
        return error.reason
    return "none"


@pytest.fixture
def servers(tmp_path):
    with Server(tmp_path / "a") as a, Server(tmp_path / "b") as b:
        a.cmd("SET", "name", "a")
        b.cmd("SET", "name", "b")
        yield a, b


@pytest.fixture
def watch(tmp_path):
    started = []

    def watch(master: int, conf: tuple[str, ...] = ()) -> RedisSentinel:
        sentinel = RedisSentinel(tmp_path / f"sentinel-{len(started)}", master, conf=conf)
        started.append(sentinel)
        if not conf or "tls" not in conf[0]:
            until(lambda: sentinel.ask("MASTER", NAME), what="a sentinel that answers")
        return sentinel

    yield watch
    for each in started:
        each.close()


async def test_who_is_a_replica_is_not_taken_whatever_the_sentinels_say(servers, watch):
    a, b = servers
    b.cmd("REPLICAOF", HOST, a.port)
    bus = Bus("x", url(watch(b.port).port))
    assert await word(bus) == "readonly"
    session = SubscriberConnection(bus)
    with pytest.raises(BusError, match=r"readonly .*is a replica"):
        await session.connect()
    b.cmd("REPLICAOF", "NO", "ONE")
    assert await word(bus) == "none"
    await bus.aclose()


@pytest.mark.usefixtures("all_answer")
@pytest.mark.parametrize("first", ["newer", "older"])
async def test_of_two_that_disagree_the_one_with_the_later_configuration_is_believed(servers, watch, first):
    a, b = servers
    older = watch(a.port, (f"sentinel config-epoch {NAME} 4",)).port
    newer = watch(b.port, (f"sentinel config-epoch {NAME} 5",)).port
    bus = Bus("x", url(*((newer, older) if first == "newer" else (older, newer))))
    for _ in range(5):
        assert await bus.ask(bus.client.get("name")) == b"b"
        await bus.pool.disconnect()
    await bus.aclose()


async def test_who_was_found_by_a_later_configuration_is_not_left_for_what_others_say_unless_it_fails(
    servers, watch, monkeypatch
):
    a, b = servers
    older = watch(a.port, (f"sentinel config-epoch {NAME} 4",))
    newer = watch(b.port, (f"sentinel config-epoch {NAME} 5",))
    bus = Bus("x", url(older.port, newer.port))
    with monkeypatch.context() as patient:
        patient.setattr("marketswarm.bus.failover.OTHERS_WITHIN_SEC", 5.0)
        assert await bus.ask(bus.client.get("name")) == b"b"
    newer.freeze()
    for _ in range(3):
        await bus.pool.disconnect()
        assert await bus.ask(bus.client.get("name")) == b"b"
    b.stop()
    names = []
    for _ in range(3):  # one to see that it is gone, one to try what was known
        with contextlib.suppress(BusError):
            names.append(await bus.ask(bus.client.get("name")))
    assert names[-1:] == [b"a"]
    await bus.aclose()
    newer.thaw()


async def test_dead_frozen_and_ignorant_sentinels_are_passed_over(servers, watch):
    a, _ = servers
    knows, frozen, ignorant = (watch(a.port) for _ in range(3))
    assert ignorant.ask("REMOVE", NAME)
    frozen.freeze()
    took_sec = []
    for _ in range(3):
        bus = Bus("x", url(free_port(), frozen.port, ignorant.port, knows.port))
        begun = time.monotonic()
        assert await bus.ask(bus.client.get("name")) == b"a"
        took_sec.append(time.monotonic() - begun)
        await bus.aclose()
    assert min(took_sec) < 1.0, "a canary waits no longer"
    assert ignorant.ask("MASTER", NAME) is None
    frozen.thaw()


async def test_none_that_can_say_is_refused_and_says_why(servers, watch):
    sentinel = watch(servers[0].port)
    for address, why in (
        (url(free_port()), "refused"),
        (url(sentinel.port, master="other"), "refused .*knows no master other"),
    ):
        bus = Bus("x", address)
        with pytest.raises(BusError, match=why):
            await bus.ask(bus.client.ping())
        await bus.aclose()


async def test_when_another_one_is_the_master_all_that_leads_to_the_last_one_ends(servers, watch):
    a, b = servers
    sentinel = watch(a.port)
    bus, session = Bus("x", url(sentinel.port)), None
    assert await bus.ask(bus.client.get("name")) == b"a"
    blocked = asyncio.create_task(bus.ask(bus.client.blpop("never"), 20))
    session = SubscriberConnection(bus)
    await session.connect()
    await session.subscribe(["c"])
    while not session.is_settled:
        await session.read_batch()
    hearing = asyncio.create_task(session.read_batch())
    await auntil(lambda: a.cmd("INFO", "clients")["blocked_clients"] == 1)
    for words in (("REMOVE", NAME), ("MONITOR", NAME, HOST, str(b.port), "1")):
        assert sentinel.ask(*words)
    # what works goes on working, until a new connection shows where the master is
    assert await asyncio.gather(*(bus.ask(bus.client.get("name")) for _ in range(3)))
    assert await bus.ask(bus.client.get("name")) == b"b"
    for waiting in (blocked, hearing):
        with pytest.raises(BusError, match="refused"):
            await waiting
    await session.close()
    await bus.aclose()


async def test_servers_and_sentinels_have_users_and_tls_of_their_own(tmp_path, servers, watch):
    a, _ = servers
    if not speaks_tls(a):
        pytest.skip("this build of the server has no TLS")
    authority, tls_port, sentinel_port = Authority(tmp_path / "tls"), free_port(), free_port()
    cert, key = authority.certificate("server")
    files = {"tls-cert-file": cert, "tls-key-file": key, "tls-ca-cert-file": authority.ca}
    a.cmd("CONFIG", "SET", *(str(each) for pair in files.items() for each in pair))
    a.cmd("CONFIG", "SET", "tls-auth-clients", "no", "tls-port", tls_port)
    a.cmd("ACL", "SETUSER", USER, "on", f">{PASSWORD}", "~*", "&*", "+@all", "-@admin", "-@dangerous")
    sentinel = watch(
        tls_port,
        (
            f"tls-port {sentinel_port}",
            "port 0",
            "tls-auth-clients no",
            "tls-replication yes",
            *(f"{name} {path}" for name, path in files.items()),
            "user default off",
            f"user {ASKER} on >{ASKERS} -@all +sentinel|get-master-addr-by-name",
        ),
    )

    def address(user: str = PASSWORD, asker: str = "not%2Fth%40t", ca: str = f"&ssl_ca_certs={authority.ca}"):
        users = f"sentinel_username={ASKER}&sentinel_password={asker}"
        return f"rediss+sentinel://{USER}:{user}@{HOST}:{sentinel_port}/{NAME}/0?{users}{ca}"

    async def asked(url: str) -> str:
        bus = Bus("x", url)
        try:
            return str(await bus.ask(bus.client.acl_whoami()))
        except BusError as error:
            return error.reason
        finally:
            await bus.aclose()

    async def well() -> bool:
        return await asked(address()) == USER

    await auntil(well, what="a sentinel that answers")
    assert await asked(address(user="wrong")) == "auth"
    assert await asked(address(asker="wrong")) == "auth"
    assert await asked(address(ca="")) == "tls"
    assert sentinel.running
