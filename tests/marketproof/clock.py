"""A wall clock that plays a week: for the market here, and for the services that ask it."""

import mmap
import struct
import threading
import time
from pathlib import Path
from typing import Final, Self

STEP_SEC: Final = 0.05
PLAYED: Final = Path(__file__).with_name("played")
"""What has a program go by the played clock."""


class PlayedClock:
    """Tell the time of a week that passes `speed` times as fast: `with PlayedClock(folder, …) as clock:`.

    It moves in small steps, which all who go by it see at once: this process by calling it, the services by
    the file of `env`. All other clocks run as ever, so that nobody's patience is any shorter.
    """

    def __init__(self, folder: Path, begin_ms: int, end_ms: int, speed: float) -> None:
        path = folder / "clock"
        path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 8)
        self.env = {"PLAYED_CLOCK": str(path), "PYTHONPATH": str(PLAYED)}
        self._begin_ms, self._end_ms, self._speed = begin_ms, end_ms, speed
        self._begun = time.time()
        self._offset_sec = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._step(self._begun)

    def __call__(self) -> int:
        """Return the time in epoch milliseconds."""
        return round(1000 * (time.time() + self._offset_sec))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._end_thread()

    def play(self) -> None:
        """Begin to play; until then the clock goes as any other does, from the beginning of the week on."""
        self._begin_ms, self._begun = self(), time.time()
        self._thread.start()

    @property
    def is_at_end(self) -> bool:
        """Whether the week is over."""
        return self() >= self._end_ms

    def jump(self, at_ms: int) -> None:
        """Go to a time, and on from there as fast as any other clock."""
        self._end_thread()
        self._write(at_ms / 1000 - time.time())

    def _end_thread(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def _run(self) -> None:
        """Move the clock until the week is over, or somebody makes it jump; then it goes as any other."""
        while not self.is_at_end and not self._over.wait(STEP_SEC):
            self._step(time.time())

    def _step(self, now: float) -> None:
        """Move the clock to where it is by now, at the end of the week at the latest."""
        played_ms = self._begin_ms + 1000 * (now - self._begun) * self._speed
        self._write(min(played_ms, self._end_ms) / 1000 - now)

    def _write(self, offset_sec: float) -> None:
        """Tell all how far it is from the machine's."""
        self._offset_sec = round(offset_sec, 3)
        struct.pack_into("<d", self._shared, 0, self._offset_sec)
