"""The gym's users: what they ask of a service, and what of that counts as failed."""

import asyncio
import time
from pathlib import Path

from bench.faultgym.requests import COUNTED_SEC, GOOD, Request, Requester, find_socket

ANSWERS = {"well": GOOD, "ill": b"error", "hung": None}


def test_a_request_fails_without_a_good_answer_and_goes_to_each_service(tmp_path):
    requests = asyncio.run(ask_services(tmp_path))
    assert {each.svc for each in requests} == {*ANSWERS, "gone"}
    assert {each.svc for each in requests if each.is_answered} == {"well"}


async def ask_services(folder: Path) -> list[Request]:
    """Run a service of each kind, and return what users asked until each had been asked."""
    hung: list[asyncio.StreamWriter] = []

    async def start(svc: str, answer: bytes | None) -> asyncio.Server:
        async def take(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if answer is None:
                hung.append(writer)
                return
            writer.write(answer)
            writer.close()

        return await asyncio.start_unix_server(take, find_socket(folder, svc))

    servers = [await start(svc, answer) for svc, answer in ANSWERS.items()]
    users = await asyncio.to_thread(use_services, folder)
    for each in (*servers, *hung):
        each.close()
    await asyncio.sleep(0)
    return users.requests


def use_services(folder: Path) -> Requester:
    with Requester(folder, [*ANSWERS, "gone"]) as users:
        deadline = time.monotonic() + 30
        while len({each.svc for each in users.requests}) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    return users


def test_requests_count_from_the_injection_and_for_a_minute(tmp_path):
    users = Requester(tmp_path, [])
    users.requests += [
        Request(ts, "alpha", is_answered)
        for ts, is_answered in ((99.0, False), (100.0, True), (101.0, False), (101.0 + COUNTED_SEC, False))
    ]
    assert users.count(100.0) == (2, 1)
