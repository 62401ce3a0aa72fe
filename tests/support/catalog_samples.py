"""A sample of each answer that a source of the catalogue gives, and checks that are made of all of them.

The samples are of our own making, in the shape that the source's pages describe. `samples/<source>.toml` says
what is asked, at which address, and what must come out of `samples/<source>.<endpoint>.<format>`; its
`limited` are documents that say that the source takes no more requests for now.
"""

import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from services.market.records import AssetClass
from services.sources.catalog.files import shipped_catalog
from services.sources.catalog.request import Question
from services.sources.catalog.source import Endpoint, MarketSource

SAMPLES = Path(__file__).parents[1] / "services" / "sources" / "catalog" / "samples"


@dataclass(frozen=True)
class Sample:
    """One endpoint of a source: what is asked of it, what it answers, and what is expected of that."""

    source: MarketSource
    endpoint: str
    expected: dict[str, Any]

    @property
    def rules(self) -> Endpoint:
        return self.source.serves[self.endpoint]

    @property
    def body(self) -> bytes:
        return (SAMPLES / f"{self.source.name}.{self.endpoint}.{self.rules.format}").read_bytes()

    @property
    def question(self) -> Question:
        start, end = (datetime.fromisoformat(self.expected[at]).astimezone(UTC) for at in ("start", "end"))
        asset, timeframe = AssetClass(self.expected["asset"]), self.expected.get("timeframe", "")
        return Question(self.expected["symbol"], asset, self.rules.kind, start, end, timeframe)


@cache
def _read_expected(name: str) -> dict[str, Any]:
    return tomllib.loads((SAMPLES / f"{name}.toml").read_text(encoding="utf-8"))


def read_limited(name: str) -> list[str]:
    """Return the documents of a source that say that it takes no more requests for now."""
    return list(_read_expected(name).get("limited", ()))


@cache
def read_samples(name: str) -> tuple[Sample, ...]:
    source, expected = shipped_catalog()[name], _read_expected(name)
    return tuple(Sample(source, endpoint, expected[endpoint]) for endpoint in source.serves)


def assert_all(cases: Iterable[tuple[str, Any]], *checks: Callable[[Any], None]) -> None:
    """Make every check of every named case, and fail with a list of all that failed."""
    failures = []
    for name, case in cases:
        for check in checks:
            try:
                check(case)
            except AssertionError as error:
                failures.append(f"{name}: {check.__name__}: {error}")
    assert not failures, "\n\n".join(failures)
