"""The memory of the healers: one line a life of a process, since a fault may end it at any time."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from support.rig import Proc

WARM_SEC = 60.0
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Life:
    """Samples of one process: seconds of its life, MB."""

    healer: int
    began: float
    samples: list[tuple[float, float]] = field(default_factory=list)

    def said(self) -> str:
        warm = next((mb for at, mb in self.samples if at >= WARM_SEC), None)
        last_at, last = self.samples[-1]
        text = f"healer {self.healer}, {last_at:.0f} s: start {self.samples[0][1]:.1f} MB"
        if warm is not None:
            most = max(abs(mb - warm) for at, mb in self.samples if at >= WARM_SEC)
            text += f", warm {warm:.1f}, end {last:.1f} ({(last / warm - 1) * 100:+.1f} %)"
            text += f", farthest {most / warm * 100:.1f} %"
        return text


class Memory:
    """Resident memory by process."""

    def __init__(self) -> None:
        self.lives: dict[int, Life] = {}

    def sample(self, healers: Mapping[int, Proc], now: float) -> None:
        for number, healer in healers.items():
            with contextlib.suppress(OSError, IndexError):
                pid = healer.pid
                mb = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE / 1e6
                life = self.lives.setdefault(pid, Life(number, now))
                life.samples.append((now - life.began, mb))

    def longest(self, count: int = 4) -> list[Life]:
        """The lives that tell most."""
        return sorted(self.lives.values(), key=lambda life: -life.samples[-1][0])[:count]
