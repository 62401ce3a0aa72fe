"""A wall clock that steps, while all other clocks run on: libfaketime."""

from pathlib import Path

LIBRARIES = (*Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), *Path("/usr/lib/faketime").glob("*.so.1"))


class Clock:
    """The wall clock of whoever is started with `env` in its environment.

    A step reaches them at once. Where the library is missing, `env` fails: mark such tests with
    `needs("faketime")`, whose package brings it.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.step(0)

    @property
    def env(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
        }

    def step(self, sec: float) -> None:
        """Sets it so many seconds ahead of the machine's, or behind it."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{sec:+g}\n", encoding="ascii")
        new.replace(self._file)  # nobody may read half a line
