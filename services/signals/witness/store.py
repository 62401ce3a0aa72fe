"""Store the last cosigned checkpoint of each log, and the heads of forks, in one SQLite file."""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_FORKS: Final = 1000
"""How much evidence of one log is kept of a kind: a log with a stolen key could fill the disk otherwise."""
WAIT_SEC: Final = 5.0
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS heads (
    origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL,
    note BLOB NOT NULL, at INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS forks (
    origin TEXT NOT NULL, proven INTEGER NOT NULL, ours BLOB NOT NULL, theirs BLOB NOT NULL,
    at INTEGER NOT NULL, UNIQUE (proven, theirs)
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Head:
    """Hold the last checkpoint of a log that was cosigned; `note` is as the log signed it."""

    size: int
    root: bytes
    note: bytes


@dataclass(frozen=True, slots=True)
class ForkEvidence:
    """Hold two signed notes of a log, and when the second came (epoch seconds).

    They prove a fork by themselves if `is_proven`: two roots of one size.
    """

    origin: str
    is_proven: int
    ours: bytes
    theirs: bytes
    at: int


class WitnessStore:
    """Reads and writes the heads of logs in a file, each change as one transaction that is on the disk.

    Raises sqlite3.Error where the file can't be used.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        """Open the file, and make it if it is missing, readable for its owner alone."""
        path.touch(mode=0o600)
        self._connection = sqlite3.connect(path, timeout=WAIT_SEC, isolation_level=None)
        self._now = now
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(_TABLES)

    def close(self) -> None:
        self._connection.close()

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """Hold the file for one writer, also against other processes; keep nothing if the block raises."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def find_head(self, origin: str) -> Head | None:
        query = "SELECT size, root, note FROM heads WHERE origin = ?"
        found = self._connection.execute(query, (origin,)).fetchone()
        return None if found is None else Head(*found)

    def save_head(self, origin: str, head: Head) -> None:
        """Store a head over the one before."""
        query = "INSERT OR REPLACE INTO heads VALUES (?, ?, ?, ?, ?)"
        self._connection.execute(query, (origin, head.size, head.root, head.note, int(self._now())))

    def keep_fork(self, origin: str, ours: bytes, theirs: bytes, *, is_proven: bool) -> None:
        """Store two signed notes of a log of which the second does not continue the first, each pair once.

        It is proven if both are of one size. Otherwise a bad proof may have come from anybody, so of these
        the newest MAX_FORKS of a log stay; of the proven ones the oldest do.
        """
        known = "SELECT count(*) FROM forks WHERE origin = ? AND proven = ?"
        if self._connection.execute(known, (origin, is_proven)).fetchone()[0] >= MAX_FORKS:
            if is_proven:
                return
            self._connection.execute(
                "DELETE FROM forks WHERE rowid ="
                " (SELECT rowid FROM forks WHERE origin = ? AND NOT proven ORDER BY at, rowid LIMIT 1)",
                (origin,),
            )
        row = (origin, is_proven, ours, theirs, int(self._now()))
        self._connection.execute("INSERT OR IGNORE INTO forks VALUES (?, ?, ?, ?, ?)", row)

    def list_forks(self) -> list[ForkEvidence]:
        """Return what was kept, the oldest first."""
        query = "SELECT origin, proven, ours, theirs, at FROM forks ORDER BY at, rowid"
        return [ForkEvidence(*each) for each in self._connection.execute(query)]
