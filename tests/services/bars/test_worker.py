"""Commit pages of symbols while the next ones are built."""

import asyncio
from collections.abc import Iterator

import pytest

from marketswarm.bus import BusError
from services.bars.outputs import Outputs
from services.bars.store import SymbolCommit
from services.bars.worker import commit_pages


class FakeBus:
    """Record in which order pages are built, sent and answered; the answer to a page named `fail` fails."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def build(self, *names: str) -> Iterator[list[SymbolCommit]]:
        for name in names:
            self.events.append(f"built {name}")
            yield [SymbolCommit(name, 0, Outputs(), {}, [])]

    async def commit(self, page: list[SymbolCommit]) -> None:
        name = page[0].symbol
        self.events.append(f"sent {name}")
        await asyncio.sleep(3600 if name == "slow" else 0.001)
        if name == "fail":
            raise BusError("market-redis", "timeout")
        self.events.append(f"done {name}")


async def test_a_page_is_built_while_the_bus_works_on_the_one_before():
    bus = FakeBus()
    await commit_pages(bus.build("A", "B"), bus.commit)
    assert bus.events == ["built A", "sent A", "built B", "done A", "sent B", "done B"]


async def test_no_page_is_committed_after_one_that_failed():
    bus = FakeBus()
    with pytest.raises(BusError):
        await commit_pages(bus.build("fail", "B"), bus.commit)
    assert bus.events == ["built fail", "sent fail", "built B"]


async def test_no_commit_is_left_behind_by_an_error_while_the_next_page_is_built():
    bus = FakeBus()

    def build() -> Iterator[list[SymbolCommit]]:
        yield from bus.build("slow")
        raise RuntimeError("the next page")

    with pytest.raises(RuntimeError):
        await commit_pages(build(), bus.commit)
    assert bus.events == ["built slow", "sent slow"]
    assert asyncio.all_tasks() == {asyncio.current_task()}
