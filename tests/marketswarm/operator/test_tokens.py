"""A token and its text: what is kept, what is shown, and what is refused.

Tokens on the bus that keeps them.
"""

import pytest
from pydantic import ValidationError

from marketswarm.keys import BOARD_TOKENS
from marketswarm.operator.tokens import (
    MAX_TOKENS,
    Scope,
    Token,
    TokenText,
    create_token,
    hash_secret,
    read_token,
    read_tokens,
    revoke_token,
    write_token,
)
from marketswarm.testing import MemoryBus
from support.fixtures import closed

TEXT = TokenText("1f0c3a9e", bytes(range(32)))
TOKEN = Token(
    id="1f0c3a9e",
    name="deploy",
    scopes=(Scope.WRITE,),
    sha256=hash_secret(TEXT.secret),
    author="kim",
    created_at=1000.0,
    expires_at=2000.0,
)


def test_the_text_of_a_token_is_read_as_it_was_written():
    assert str(TEXT).startswith("mst_1f0c3a9e_000102")
    assert TokenText.parse(str(TEXT)) == TEXT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mst_",
        str(TEXT)[:-1],
        str(TEXT) + "0",
        str(TEXT).upper(),
        " " + str(TEXT),
        str(TEXT) + "\n",
        "é" * 77,
    ],
)
def test_any_other_text_is_no_token(text):
    assert TokenText.parse(text) is None


def test_a_secret_is_in_no_representation():
    assert TEXT.secret.hex() not in repr(TEXT)
    assert TEXT.secret.hex() not in TOKEN.encode().decode()


def test_a_token_is_matched_by_its_own_text_alone():
    assert TOKEN.matches(TEXT)
    assert not TOKEN.matches(TokenText(TEXT.id, bytes(32)))
    assert not TOKEN.matches(TokenText("00000000", TEXT.secret))


def test_a_token_is_invalid_from_its_end_on():
    assert not TOKEN.expired(1999.9)
    assert TOKEN.expired(2000.0)


@pytest.mark.parametrize(
    ("found", "odd"),
    [
        (b'"write"', b'"root"'),
        (b'["write"]', b"[]"),
        (b"1000.0", b"1e300"),
        (b'"deploy"', b"5"),
        (b'"1f0c3a9e"', b'"x"'),
        (b'"deploy"', b'"%b"' % (b"x" * 20_000)),
        (b"{", b"["),
    ],
)
def test_what_is_no_token_is_refused(found, odd):
    assert found in TOKEN.encode()
    assert Token.parse(TOKEN.encode().replace(found, odd, 1)) is None


bus = closed(MemoryBus)


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
