"""A small disk that can be filled: a tmpfs in a private folder."""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

SIZE: Final = "4m"
_CHUNK: Final = b"x" * 65_536


def find_missing() -> str:
    """Return why no disk can be mounted here; empty if one can."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with mounted_disk(Path(folder, "disk")):
                return ""
        except FileNotFoundError:
            return "mount not installed: apt-get install mount"
        except subprocess.CalledProcessError as error:
            return f"no rights to mount a disk: {error.stderr.strip()}"


@contextlib.contextmanager
def mounted_disk(folder: Path) -> Iterator[Path]:
    """Mount a new disk while a `with` block runs; at its end also if a process still works in it."""
    folder.mkdir(mode=0o700)
    _run("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "faultgym", str(folder))
    try:
        yield folder
    finally:
        _run("umount", "--lazy", str(folder))


def fill_disk(disk: Path, percent: float = 100.0) -> None:
    """Write a file until so much of the disk is used, or nothing more can be written."""
    with contextlib.suppress(OSError), (disk / "filler").open("ab", buffering=0) as filler:
        while percent == 100.0 or psutil.disk_usage(str(disk)).percent < percent:
            filler.write(_CHUNK)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
