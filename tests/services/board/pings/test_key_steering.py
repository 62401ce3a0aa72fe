"""What clients with a token may do with ping keys, over a bus in memory."""

import time

import pytest
from pydantic import ValidationError

from marketswarm.bus import BusError
from marketswarm.keys import BOARD_AUDIT, BOARD_PING_KEYS
from marketswarm.operator.tokens import MAX_PING_KEYS, Scope, create_token, hash_ping_secret, read_ping_keys
from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth
from marketswarm.web.audit import AuditLog
from marketswarm.web.limits import RefusedError
from marketswarm.web.tokens import Client
from services.board.pings.key_steering import MAX_LIFE_SEC, KeySteering, PingKeyBody

TRUTH = parse_truth(b'{"services": {"backup": {}, "healer": {}, "notifier": {}}}').truth
NOW = 1_790_000_000.0
BODY = PingKeyBody(name="nightly", svc="backup")
FOR_ALL = PingKeyBody(name="all")


def make_client(*scopes: Scope) -> Client:
    token, _ = create_token("deploy", scopes or [Scope.WRITE], author="kim", now=time.time())
    return Client(token, "127.0.0.1")


def make_steering(bus: MemoryBus, *, may_add: bool = False) -> KeySteering:
    return KeySteering(lambda: bus, AuditLog(lambda: bus, "board"), lambda: TRUTH, lambda: may_add)


async def read_acts(bus: MemoryBus) -> list[tuple[bytes, bytes]]:
    return [(act[b"action"], act[b"outcome"]) for _, act in await bus.client.xrange(BOARD_AUDIT)]


async def test_a_key_is_made_kept_by_its_hash_alone_and_revoked_and_both_are_audited():
    bus = MemoryBus()
    steering = make_steering(bus)
    assert steering.list_services() == ["backup"]
    key, secret = await steering.create(make_client(), BODY, NOW)
    assert (key.svc, key.author, key.sha256) == ("backup", "deploy", hash_ping_secret(secret))
    assert await steering.read() == [key]
    assert secret not in str(await bus.client.hgetall(BOARD_PING_KEYS))
    assert secret not in str(await bus.client.xrange(BOARD_AUDIT))
    assert await steering.revoke(make_client(), key.id) == key
    assert await read_ping_keys(bus) == []
    with pytest.raises(RefusedError, match="no such key"):
        await steering.revoke(make_client(), key.id)
    acts = [(b"create_key", b"begun"), (b"create_key", b"done")]
    assert await read_acts(bus) == [*acts, (b"revoke_key", b"begun"), (b"revoke_key", b"done")]


@pytest.mark.parametrize(
    ("svc", "why"), [("bakup", "did you mean"), ("healer", "can't be pinged"), ("version", "names no")]
)
async def test_a_key_is_for_a_service_that_can_be_pinged(svc, why):
    bus = MemoryBus()
    with pytest.raises(RefusedError, match=why):
        await make_steering(bus).create(make_client(), PingKeyBody(name="x", svc=svc), NOW)
    assert await read_ping_keys(bus) == []
    assert await read_acts(bus) == []


async def test_a_key_that_can_add_services_takes_the_right_to_change_the_truth():
    bus = MemoryBus()
    with pytest.raises(RefusedError, match="lacks the scope seed"):
        await make_steering(bus, may_add=True).create(make_client(Scope.WRITE), FOR_ALL, NOW)
    await make_steering(bus, may_add=True).create(make_client(Scope.WRITE, Scope.SEED), FOR_ALL, NOW)
    await make_steering(bus).create(make_client(Scope.WRITE), FOR_ALL, NOW)
    assert [key.svc for key in await read_ping_keys(bus)] == [None, None]


async def test_there_are_so_many_keys_at_most_and_one_too_many_is_on_record_as_failed():
    bus = MemoryBus()
    await bus.client.hset(BOARD_PING_KEYS, mapping={f"{n:08x}": b"x" for n in range(MAX_PING_KEYS + 1)})
    with pytest.raises(RefusedError, match="already"):
        await make_steering(bus).create(make_client(), BODY, NOW)
    assert await read_acts(bus) == [(b"create_key", b"begun"), (b"create_key", b"failed")]


async def test_without_the_audit_log_or_the_bus_nothing_is_done():
    bus = MemoryBus()

    def find_no_bus() -> MemoryBus:
        raise BusError("system-redis", "refused")

    steering = KeySteering(lambda: bus, AuditLog(find_no_bus, "board"), lambda: TRUTH, lambda: False)
    with pytest.raises(RefusedError, match="audit log"):
        await steering.create(make_client(), BODY, NOW)
    assert await read_ping_keys(bus) == []
    with pytest.raises(RefusedError, match="keeps the ping keys"):
        await KeySteering(find_no_bus, AuditLog(lambda: bus, "board"), lambda: TRUTH, lambda: False).read()


@pytest.mark.parametrize(
    "fields",
    [{"name": ""}, {"name": "a\nb"}, {"name": "x" * 201}, {"for_sec": 0.0}, {"for_sec": 2 * MAX_LIFE_SEC}],
)
def test_a_name_and_a_life_are_bounded(fields):
    with pytest.raises(ValidationError):
        PingKeyBody.model_validate({"name": "nightly", "svc": "backup", **fields})
