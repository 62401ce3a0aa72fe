"""Read and write the tokens of the board's clients.

They are kept on system-redis alone, because a token that is revoked there is revoked at once, and can't come
back from a bus that was away.
"""

import secrets
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from marketswarm.bus import Bus
from marketswarm.keys import BOARD_TOKENS
from marketswarm.operator.token import ID_BYTES, SECRET_BYTES, Scope, Token, TokenText, hash_secret

MAX_TOKENS: Final = 1_000
"""How many tokens a fleet may have."""


def create_token(
    name: str, scopes: Iterable[Scope], *, author: str, now: float, for_sec: float | None = None
) -> tuple[Token, TokenText]:
    """Return a new token, made at `now` (epoch seconds), and its text, which is kept nowhere.

    Raises ValidationError if a part is out of bounds.
    """
    text = TokenText(secrets.token_hex(ID_BYTES), secrets.token_bytes(SECRET_BYTES))
    token = Token(
        id=text.id,
        name=name,
        scopes=tuple(dict.fromkeys(scopes)),
        sha256=hash_secret(text.secret),
        author=author,
        created_at=now,
        expires_at=None if for_sec is None else now + for_sec,
    )
    return token, text


def rotate_token(token: Token, now: float) -> tuple[Token, TokenText]:
    """Return the token with a new secret, made at `now`, and its text. The old one is no longer valid."""
    text = TokenText(token.id, secrets.token_bytes(SECRET_BYTES))
    life_sec = None if token.expires_at is None else token.expires_at - token.created_at
    expires_at = None if life_sec is None else now + life_sec
    return replace(token, sha256=hash_secret(text.secret), created_at=now, expires_at=expires_at), text


async def read_token(bus: Bus, ident: str) -> Token | None:
    """Return the token with this id; None if there is none that can be parsed. Raises BusError."""
    raw = await bus.ask(bus.client.hget(BOARD_TOKENS, ident))
    token = None if raw is None else Token.parse(raw)
    return token if token is not None and token.id == ident else None


async def read_tokens(bus: Bus) -> list[Token]:
    """Return every token that can be parsed, the oldest first. Raises BusError."""
    stored = await bus.ask(bus.client.hgetall(BOARD_TOKENS))
    parsed = ((name, Token.parse(raw)) for name, raw in stored.items())
    tokens = [token for name, token in parsed if token is not None and token.id.encode() == name]
    return sorted(tokens, key=lambda token: (token.created_at, token.id))


async def write_token(bus: Bus, token: Token) -> bool:
    """Write a new token; return False if there are MAX_TOKENS already. Raises BusError."""
    if await bus.ask(bus.client.hlen(BOARD_TOKENS)) >= MAX_TOKENS:
        return False
    await bus.ask(bus.client.hset(BOARD_TOKENS, token.id, token.encode()))
    return True


async def replace_token(bus: Bus, token: Token) -> None:
    """Write a token in the place of the one with its id. Raises BusError."""
    await bus.ask(bus.client.hset(BOARD_TOKENS, token.id, token.encode()))


async def revoke_token(bus: Bus, ident: str) -> bool:
    """Delete a token; return False if there was none. Raises BusError."""
    return bool(await bus.ask(bus.client.hdel(BOARD_TOKENS, ident)))
