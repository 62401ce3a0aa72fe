import pytest

from marketswarm.operator.tokens import (
    MAX_PING_KEYS,
    PingKey,
    create_ping_key,
    hash_ping_secret,
    is_key_text,
    normalize_uuid,
    read_ping_keys,
    read_ping_keys_version,
    revoke_ping_key,
    rotate_ping_key,
    write_ping_key,
)
from marketswarm.testing import MemoryBus

UUID = "3f0c7e62-7f3e-4f0a-9c53-0d6f0b6f3c11"


@pytest.mark.parametrize("text", [UUID, UUID.upper(), UUID.replace("-", "")])
def test_a_uuid_is_one_however_it_is_written(text):
    assert normalize_uuid(text) == UUID


@pytest.mark.parametrize("text", ["", "x", UUID[:-1], UUID.replace("3", "g"), UUID + "\n", "٣" * 32])
def test_what_is_no_uuid_is_none(text):
    assert normalize_uuid(text) is None


def test_the_secret_of_a_key_for_one_service_is_a_uuid_and_of_one_for_all_22_characters():
    key, secret = create_ping_key("nightly", "backup", author="kim", now=100.0)
    assert normalize_uuid(secret) == secret
    assert (key.svc, key.sha256) == ("backup", hash_ping_secret(secret))
    key, secret = create_ping_key("all", None, author="kim", now=100.0, for_sec=60)
    assert is_key_text(secret)
    assert (key.svc, key.expired(159), key.expired(160)) == (None, False, True)
    assert secret not in repr(key)
    assert secret.encode() not in key.encode()


def test_a_key_comes_back_from_its_json_and_other_json_is_none():
    key, _ = create_ping_key("nightly", "backup", author="kim", now=100.0)
    assert PingKey.parse(key.encode()) == key
    for raw in (b"", b"{}", b"[1]", key.encode().replace(b'"name"', b'"no"'), b" " * 20_000 + key.encode()):
        assert PingKey.parse(raw) is None


def test_a_key_that_is_rotated_has_another_secret_and_the_same_life():
    key, secret = create_ping_key("nightly", "backup", author="kim", now=100.0, for_sec=60)
    rotated, new_secret = rotate_ping_key(key, 1000.0)
    assert new_secret != secret
    assert (rotated.id, rotated.sha256, rotated.expires_at) == (key.id, hash_ping_secret(new_secret), 1060.0)


async def test_keys_are_written_read_and_revoked_and_each_write_raises_the_version():
    bus = MemoryBus()
    assert await read_ping_keys_version(bus) is None
    key, _ = create_ping_key("nightly", "backup", author="kim", now=100.0)
    assert await write_ping_key(bus, key)
    assert (await read_ping_keys(bus), await read_ping_keys_version(bus)) == ([key], b"1")
    assert not await revoke_ping_key(bus, "version")
    assert await revoke_ping_key(bus, key.id)
    assert not await revoke_ping_key(bus, key.id)
    assert (await read_ping_keys(bus), await read_ping_keys_version(bus)) == ([], b"3")
    await bus.aclose()


async def test_there_is_a_limit_to_their_number_and_a_known_one_may_still_be_rotated():
    bus = MemoryBus()
    key, _ = create_ping_key("nightly", "backup", author="kim", now=100.0)
    await write_ping_key(bus, key)
    await bus.client.hset("board:pings", mapping={f"{n:08x}": b"x" for n in range(MAX_PING_KEYS)})
    other, _ = create_ping_key("other", "backup", author="kim", now=100.0)
    assert not await write_ping_key(bus, other)
    assert await write_ping_key(bus, rotate_ping_key(key, 200.0)[0])
    await bus.aclose()
