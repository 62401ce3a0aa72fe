"""Who may do what with which header."""

import pytest

from marketswarm.operator.tokens import Scope, create_token, revoke_token, write_token
from marketswarm.testing import MemoryBus
from marketswarm.web.limits import RefusedError
from marketswarm.web.tokens import FAILURES, WRITES, TokenVerifier
from support.fixtures import closed

NOW, WALL = 100.0, 1_762_433_458.0

bus = closed(MemoryBus)


@pytest.fixture
def verifier(bus):
    return TokenVerifier(lambda: bus, "board")


async def make(bus, *scopes, for_sec=None):
    token, text = create_token("deploy", scopes, author="kim", now=WALL, for_sec=for_sec)
    await write_token(bus, token)
    return token, f"Bearer {text}"


async def refusal(verifier, header, scope=Scope.WRITE, *, client="10.0.0.1", now=NOW, wall=WALL):
    with pytest.raises(RefusedError) as caught:
        await verifier.verify(header, scope, client, now, wall)
    return caught.value


async def test_a_token_allows_its_own_scopes_and_no_others(bus, verifier):
    token, header = await make(bus, Scope.WRITE)
    assert await verifier.verify(header, Scope.WRITE, "10.0.0.1", NOW, WALL) == token
    found = await refusal(verifier, header, Scope.READ)
    assert (found.status, found.reason) == (403, "the token lacks the scope read")


async def test_a_header_that_proves_nothing_is_refused(bus, verifier):
    _, header = await make(bus, Scope.WRITE)
    other = header[:-1] + ("0" if header[-1] != "0" else "1")
    text = header.removeprefix("Bearer ")
    for wrong in (None, "", "Bearer", "Bearer x", text, f"Basic {text}", f"{header} x", other):
        assert (await refusal(verifier, wrong, client=str(wrong))).status == 401
    assert await verifier.verify(f"bearer  {text}", Scope.WRITE, "10.0.0.1", NOW, WALL)


async def test_a_revoked_token_is_refused_at_once(bus, verifier):
    token, header = await make(bus, Scope.WRITE)
    assert await verifier.verify(header, Scope.WRITE, "10.0.0.1", NOW, WALL)
    await revoke_token(bus, token.id)
    assert (await refusal(verifier, header)).status == 401


async def test_a_token_is_refused_after_its_end(bus, verifier):
    _, header = await make(bus, Scope.WRITE, for_sec=60.0)
    assert await verifier.verify(header, Scope.WRITE, "10.0.0.1", NOW, WALL + 59)
    assert (await refusal(verifier, header, wall=WALL + 60)).status == 401


async def test_who_guesses_is_told_to_wait_and_a_right_token_is_let_in_all_the_same(bus, verifier):
    _, header = await make(bus, Scope.WRITE)
    for _ in range(FAILURES):
        assert (await refusal(verifier, "Bearer x")).status == 401
    found = await refusal(verifier, "Bearer x")
    assert (found.status, found.retry_sec) == (429, pytest.approx(5.0))
    assert (await refusal(verifier, "Bearer x", client="10.0.0.2")).status == 401
    assert (await refusal(verifier, "Bearer x", now=NOW + 5)).status == 401
    assert await verifier.verify(header, Scope.WRITE, "10.0.0.1", NOW, WALL)


async def test_a_request_without_a_token_is_no_guess(bus, verifier):
    _, header = await make(bus, Scope.WRITE)
    for _ in range(2 * FAILURES):
        assert (await refusal(verifier, None)).status == 401
    assert await verifier.verify(header, Scope.WRITE, "10.0.0.1", NOW, WALL)


async def test_a_token_that_writes_too_often_has_to_wait_and_reads_are_not_counted(bus, verifier):
    _, header = await make(bus, Scope.WRITE, Scope.READ)
    for _ in range(WRITES):
        await verifier.verify(header, Scope.WRITE, "10.0.0.1", NOW, WALL)
    found = await refusal(verifier, header, client="10.0.0.2")
    assert (found.status, found.retry_sec) == (429, pytest.approx(2.0))
    assert await verifier.verify(header, Scope.READ, "10.0.0.1", NOW, WALL)


async def test_without_the_bus_that_keeps_tokens_nobody_is_let_in_and_nobody_is_blamed(bus, verifier):
    _, header = await make(bus, Scope.WRITE)
    bus.connected = False
    for _ in range(2 * FAILURES):
        found = await refusal(verifier, header)
        assert (found.status, found.retry_sec) == (503, 5.0)
    bus.connected = True
    assert await verifier.verify(header, Scope.WRITE, "10.0.0.1", NOW, WALL)
