"""Tokens on the bus that keeps them."""

import pytest
from pydantic import ValidationError

from marketswarm.keys import BOARD_TOKENS
from marketswarm.operator.token import Scope
from marketswarm.operator_link.tokens import (
    MAX_TOKENS,
    create_token,
    read_token,
    read_tokens,
    revoke_token,
    write_token,
)
from marketswarm.testing import MemoryBus


@pytest.fixture
async def bus():
    found = MemoryBus()
    yield found
    await found.aclose()


def token(name="deploy", now=1000.0, **more):
    return create_token(name, [Scope.WRITE], author="kim", now=now, **more)


async def test_a_token_is_kept_without_its_secret_and_matches_its_text(bus):
    made, text = token()
    assert await write_token(bus, made)
    assert await read_token(bus, made.id) == made
    assert made.matches(text)
    assert text.secret.hex().encode() not in await bus.client.hget(BOARD_TOKENS, made.id)


async def test_two_tokens_have_nothing_in_common():
    (one, one_text), (other, other_text) = token(), token()
    assert one.id != other.id
    assert one_text.secret != other_text.secret


async def test_a_revoked_token_is_gone(bus):
    made, _ = token()
    await write_token(bus, made)
    assert await revoke_token(bus, made.id)
    assert not await revoke_token(bus, made.id)
    assert await read_token(bus, made.id) is None


async def test_tokens_are_listed_the_oldest_first_and_what_is_none_is_skipped(bus):
    newer, older = token("newer", 2000.0)[0], token("older", 1000.0)[0]
    for each in (newer, older):
        await write_token(bus, each)
    await bus.client.hset(BOARD_TOKENS, "00000000", older.encode())
    await bus.client.hset(BOARD_TOKENS, "ffffffff", b"\xff{")
    assert await read_tokens(bus) == [older, newer]
    assert await read_token(bus, "00000000") is None
    assert await read_token(bus, "ffffffff") is None


async def test_there_is_a_limit_to_how_many_there_are(bus):
    await bus.client.hset(BOARD_TOKENS, mapping={str(number): b"x" for number in range(MAX_TOKENS)})
    assert not await write_token(bus, token()[0])


def test_a_token_ends_when_its_time_is_over():
    assert token(for_sec=60.0)[0].expires_at == 1060.0
    assert token()[0].expires_at is None


@pytest.mark.parametrize(("name", "scopes"), [("", [Scope.READ]), ("x" * 201, [Scope.READ]), ("deploy", [])])
def test_a_token_without_a_name_or_a_scope_is_not_made(name, scopes):
    with pytest.raises(ValidationError):
        create_token(name, scopes, author="kim", now=0.0)
