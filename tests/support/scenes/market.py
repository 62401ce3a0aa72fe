"""massive with two real buses and the stand-in for the market data API, on a clock that both may run fast."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support.rig import Proc
from support.rig.market_api import KEY, Clock, SmallMarket
from support.scenes.agent import Scene, seed
from support.waiting import PATIENT_SEC, until

STREAM = "market:bars"
PROGRAM = """
import os, time
from marketswarm.agent import run
from services.massive.market import live
from services.massive.loop import main

began, speed = float(os.environ["CLOCK_BEGAN"]), float(os.environ["CLOCK_SPEED"])
live.now_ms = lambda: 1000 * (began + (time.time() - began) * speed)
if __name__ == "__main__":
    run(main)
"""
FAST = 600.0
"""A minute in a tenth of a second."""


class MarketScene(Scene):
    """`scene.wish(symbols=["AAPL"])` seeds; `scene.massive()` starts it."""

    def __init__(self, folder: Path, market: SmallMarket) -> None:
        super().__init__(folder)
        self.api, self._revision = market, 0

    def wish(
        self,
        *,
        replicas: int = 1,
        targets: Sequence[Any] = (),
        bus: Mapping[str, str] | None = None,
        **market: Any,
    ) -> None:
        """Seeds a truth with these wishes for market data; `bus` is another one, and where it is."""
        self._revision += 1
        wishes = {
            "feed": "real-time",
            "settle_sec": 0.1,
            "ws_url": self.api.ws,
            "rest_url": self.api.rest,
            **market,
        }
        section = {
            "replicas": replicas,
            "heartbeat": {"interval_sec": 0.2, "timeout_sec": 3},
            "access_points": {
                "publish_to": [{"bus": name, "key": STREAM} for name in bus or ["market-redis"]]
            },
            "settings": {"market": wishes, "targets": targets, "probe_sec": 0.3},
        }
        buses = {name: {"url": url} for name, url in (bus or {}).items()}
        seed(self.buses, {"buses": buses, "services": {"massive": section}}, self._revision)

    def massive(self, **env: str) -> Proc:
        """The agent, by the API's clock. `POLYGON_API_KEY=""` is one without a key."""
        clock = self.api.clock
        passing = {"CLOCK_BEGAN": repr(clock.began), "CLOCK_SPEED": repr(clock.speed)}
        places = {"MASSIVE_WS_URL": self.api.ws, "MASSIVE_REST_URL": self.api.rest}
        return self.program("fast_massive", PROGRAM, **{"POLYGON_API_KEY": KEY, **places, **passing, **env})

    def bars(self, key: str = STREAM) -> list[dict[str, str]]:
        """What is on the stream, in its order."""
        found = self.market.cmd("XRANGE", key, "-", "+", within=10.0)
        return [
            fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
            for _, fields in found
        ]

    def seen(self) -> Counter[tuple[str, int]]:
        """How often each bar is there."""
        return Counter((each["sym"], int(each["start"])) for each in self.bars())

    def whole(self, since: dict[str, int], within: float = PATIENT_SEC) -> None:
        """Each bar that was made, since the first that had to be told, is there: none missing, none twice."""
        made = {(sym, at) for sym, all_of in self.api.made.items() for at in all_of if at >= since[sym]}
        until(lambda: made <= set(self.seen()), within, f"{len(made - set(self.seen()))} more")
        seen = self.seen()
        assert set(seen.values()) == {1}, [each for each, times in seen.items() if times > 1][:5]
        assert set(seen) <= {(sym, at) for sym, all_of in self.api.made.items() for at in all_of}


def fast_market(*symbols: str) -> SmallMarket:
    return SmallMarket(*symbols, clock=Clock(FAST))
