"""What is probed, and what a probe's result looks like on the bus. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self

import orjson
from pydantic import Field, model_validator

from marketswarm.agent import Own

SHOWN: Final = 4

Stage = Literal["config", "dns", "tcp", "done"]


class Target(Own):
    """A place to connect to: a host and a port, or a bus by its name."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    host: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    port: Annotated[int, Field(gt=0, lt=65_536)] | None = None
    bus: Annotated[str, Field(min_length=1, max_length=200)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.bus is None) == (self.host is None or self.port is None):
            raise ValueError('must have either "host" and "port", or "bus"')
        return self


class Wishes(Own):
    """`settings` of massive. Seconds; `timeout_sec` bounds the look-up and the connection, each."""

    probe_sec: Annotated[float, Field(gt=0, le=86_400)] = 15.0
    timeout_sec: Annotated[float, Field(gt=0, le=60)] | None = None
    targets: Annotated[tuple[Target, ...], Field(max_length=500)] = ()


class Section(Own):
    """What massive reads from its section."""

    settings: Wishes = Wishes()


@dataclass(frozen=True, slots=True)
class Probe:
    """One result. `stage` is how far it got; `error` is one word, `None` when all is well. Milliseconds."""

    target: str
    where: str
    ts: float
    stage: Stage
    error: str | None = None
    dns_ms: float | None = None
    tcp_ms: float | None = None

    def fields(self) -> dict[str, str]:
        """The fields of the stream's entry; what is not known is left out."""
        known = {"dns_ms": self.dns_ms, "tcp_ms": self.tcp_ms}
        return {
            "target": self.target,
            "ok": "0" if self.error else "1",
            "where": self.where,
            "ts": f"{self.ts:.3f}",
            "stage": self.stage,
            **({"error": self.error} if self.error else {}),
            **{name: f"{value:.3f}" for name, value in known.items() if value is not None},
        }

    def encoded(self) -> bytes:
        """The same as a JSON object, for `probe:<target>`."""
        found = {
            "target": self.target,
            "ok": self.error is None,
            "where": self.where,
            "ts": round(self.ts, 3),
            "stage": self.stage,
            "error": self.error,
            "dns_ms": self.dns_ms and round(self.dns_ms, 3),
            "tcp_ms": self.tcp_ms and round(self.tcp_ms, 3),
        }
        return orjson.dumps({name: value for name, value in found.items() if value is not None})


def summed_up(probes: Sequence[Probe]) -> str | None:
    """`1 of 2 targets fail: market-redis (tcp refused)`, or `None` when none does."""
    words = [f"{probe.target} ({probe.stage} {probe.error})" for probe in probes if probe.error]
    if not words:
        return None
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return f"{len(words)} of {len(probes)} targets fail: {', '.join(words[:SHOWN])}{more}"


def changed(before: Mapping[str, str | None], probes: Sequence[Probe]) -> list[Probe]:
    """Those whose error is not what it was: worth a log line."""
    return [probe for probe in probes if before.get(probe.target, "") != probe.error]
