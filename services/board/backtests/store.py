"""Keep backtests in a folder: a file for each job, and one for each report, by the digest of its inputs.

A file is written beside its place and moved there, so a reader finds the old one or the new one. One that
can't be read is set aside under another name, and the others go on. Everything here waits for the disk, so it
runs in threads.
"""

import contextlib
import gzip
import re
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from marketswarm import log as logs
from services.board.backtests.jobs import BacktestJob, encode_job, parse_job
from services.signals.report import MAX_REPORT_BYTES

MAX_JOB_BYTES: Final = 256 * 1024
MAX_PACKED_BYTES: Final = 32 * 1024 * 1024
MAX_ASIDE: Final = 20
"""How many files that can't be read are left there, the newest ones."""
_PACK_LEVEL: Final = 6
_JOB: Final = re.compile(r"([0-9a-f]{32})\.job")
_REPORT: Final = re.compile(r"([0-9a-f]{64})\.report")
_ASIDE: Final = ".bad"
_DRAFT: Final = ".new"

log = logs.get("board")


class BacktestStore:
    """Keeps jobs and reports in `folder`; without one in a folder of its own, which ends with the process.

    Attributes:
        set_aside: how many files could not be read.
        sizes: the bytes of each report on disk, by its digest.
    """

    def __init__(self, folder: Path | None) -> None:
        self.is_lasting = folder is not None
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="marketswarm-backtests-")
        self._folder = folder or Path(self._temporary.name if self._temporary else "")
        self.set_aside = 0
        self.sizes: dict[str, int] = {}

    def close(self) -> None:
        """Delete the folder, if it is the store's own."""
        if self._temporary is not None:
            self._temporary.cleanup()

    def load(self) -> list[BacktestJob]:
        """Return the jobs, the oldest first. Deletes drafts and reports of no job. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = sorted(path.name for path in self._folder.iterdir())
        for name in names:
            if name.endswith(_DRAFT):
                (self._folder / name).unlink(missing_ok=True)
        idents = [match[1] for name in names if (match := _JOB.fullmatch(name))]
        jobs = [job for ident in idents if (job := self._load_job(ident)) is not None]
        known = {job.digest for job in jobs}
        for name in names:
            if match := _REPORT.fullmatch(name):
                if match[1] in known:
                    self.sizes[match[1]] = (self._folder / name).stat().st_size
                else:
                    (self._folder / name).unlink(missing_ok=True)
        return sorted(jobs, key=lambda job: job.queued_at)

    def _load_job(self, ident: str) -> BacktestJob | None:
        path = self._folder / f"{ident}.job"
        try:
            job = parse_job(_read(path, MAX_JOB_BYTES))
            if job.id == ident:
                return job
        except (OSError, ValueError):
            pass
        self._put_aside(path)
        return None

    def write_job(self, job: BacktestJob) -> None:
        """Write a job over what is there of it. Raises OSError."""
        self._write(self._folder / f"{job.id}.job", encode_job(job))

    def write_report(self, digest: str, report: bytes) -> None:
        """Write a report. Raises OSError."""
        packed = gzip.compress(report, _PACK_LEVEL, mtime=0)
        self._write(self._folder / f"{digest}.report", packed)
        self.sizes[digest] = len(packed)

    def read_report(self, digest: str) -> bytes | None:
        """Return a report; None if it is not there or can't be read, and then it is set aside."""
        path = self._folder / f"{digest}.report"
        try:
            return _unpack(_read(path, MAX_PACKED_BYTES))
        except FileNotFoundError:
            self.sizes.pop(digest, None)
        except (OSError, EOFError, ValueError, zlib.error):
            self.put_report_aside(digest)
        return None

    def put_report_aside(self, digest: str) -> None:
        self.sizes.pop(digest, None)
        self._put_aside(self._folder / f"{digest}.report")

    def delete_job(self, job: BacktestJob) -> None:
        """Delete a job, but not its report, which another job may have, too."""
        with contextlib.suppress(OSError):
            (self._folder / f"{job.id}.job").unlink(missing_ok=True)

    def delete_report(self, digest: str) -> None:
        """Delete a report, if it is there."""
        self.sizes.pop(digest, None)
        with contextlib.suppress(OSError):
            (self._folder / f"{digest}.report").unlink(missing_ok=True)

    def _write(self, path: Path, content: bytes) -> None:
        """Replace a file by one with this content. Delete what could not be written. Raises OSError."""
        draft = path.with_name(path.name + _DRAFT)
        try:
            draft.write_bytes(content)
            draft.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise

    def _put_aside(self, path: Path) -> None:
        """Rename a file that can't be read; delete the oldest ones of those beyond MAX_ASIDE."""
        self.set_aside += 1
        log.warning("backtests.set_aside", file=path.name)
        with contextlib.suppress(OSError):
            path.replace(path.with_name(path.name + _ASIDE))
            for old in sorted(self._list_aside(), key=lambda each: each.stat().st_mtime)[:-MAX_ASIDE]:
                old.unlink(missing_ok=True)

    def _list_aside(self) -> Iterator[Path]:
        return self._folder.glob(f"*{_ASIDE}")


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError("is too large")
    return content


def _unpack(packed: bytes) -> bytes:
    """Return what gzip packed. Raises ValueError or zlib.error if it is not that, or too large."""
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    found = unpacker.decompress(packed, MAX_REPORT_BYTES)
    if not unpacker.eof:
        raise ValueError("is cut off, or too large")
    return found
