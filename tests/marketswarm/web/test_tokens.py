"""Who may do what with which header."""

import asyncio

import pytest

from marketswarm.bus import BusError
from marketswarm.operator.tokens import Scope, create_token, revoke_token, write_token
from marketswarm.testing import MemoryBus
from marketswarm.web.limits import RefusedError
from marketswarm.web.tokens import FAILURES, LOOK_UPS, WRITES, TokenVerifier
from support.fixtures import closed
from support.waiting import PATIENT_SEC, auntil

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


async def test_a_bus_that_has_no_url_for_the_moment_is_away(bus):
    """Its file is read again at each call, and may be empty while a password is changed."""

    def find_bus():
        raise BusError("system-redis", "no_url", "SYSTEM_REDIS_URL_FILE is empty")

    token, header = await make(bus, Scope.WRITE)
    verifier = TokenVerifier(find_bus, "board")
    assert (await refusal(verifier, header)).status == 503
    with pytest.raises(RefusedError):
        await verifier.is_current(token, WALL)


class HeldBus(MemoryBus):
    """A bus that answers no look-up until `answers` is set, and counts those under way."""

    def __init__(self) -> None:
        super().__init__(within_sec=PATIENT_SEC)
        self.answers, self.under_way, self.most = asyncio.Event(), 0, 0
        self.client.hget = self.look_up

    async def look_up(self, _key, _ident):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.answers.wait()
        self.under_way -= 1


held = closed(HeldBus)


async def test_of_many_strange_tokens_a_few_at_once_ask_the_bus_and_the_others_wait_within_the_limit(held):
    verifier = TokenVerifier(lambda: held, "board")
    _, text = create_token("guess", [Scope.READ], author="kim", now=WALL)
    header = f"Bearer {text}"
    asked = [asyncio.create_task(refusal(verifier, header, client=str(n))) for n in range(5 * LOOK_UPS)]
    await auntil(lambda: held.under_way == LOOK_UPS)
    held.within_sec = 0.05
    late = await refusal(verifier, header)
    said = "bus system-redis, which keeps the tokens, does not answer: timeout"
    assert (late.status, late.reason) == (503, said)
    held.answers.set()
    assert {found.status for found in await asyncio.gather(*asked)} == {401}
    assert held.most == LOOK_UPS
