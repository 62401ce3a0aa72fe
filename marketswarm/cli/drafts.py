"""Files to be written: all of them or none. A file that is there is only ever replaced whole, in one step."""

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from marketswarm.exit import Code, Exit


@dataclass(slots=True)
class Drafts:
    """What is to be written. `said` has a line for each, once it is."""

    said: list[str] = field(default_factory=list)
    _new: list[tuple[Path, bytes, str]] = field(default_factory=list)
    _changed: list[tuple[Path, bytes, bytes, str]] = field(default_factory=list)

    def add(self, path: Path, text: str, remark: str = "") -> None:
        """A new file. Raises Exit, code 2, when there is something of that name."""
        if os.path.lexists(path):
            raise Exit(Code.CONFIGURATION, f"{path} is there already: it is not touched")
        self._new.append((path, text.encode(), remark))

    def replace(self, path: Path, was: bytes, becomes: bytes, remark: str) -> None:
        """A file that is there gets other bytes, if it still has those it had."""
        self._changed.append((path, was, becomes, remark))

    def write(self) -> None:
        """Writes all of it.

        Raises:
            Exit: code 2, when something could not be; by then what was new is gone again.
        """
        made: list[Path] = []
        try:
            for path, text, remark in self._new:
                made += _make_folders(path.parent)
                with path.open("xb") as file:
                    made.append(path)
                    file.write(text)
                self.said.append(_line("wrote", path, remark))
            for path, was, becomes, remark in self._changed:
                _replace(path, was, becomes)
                self.said.append(_line("added to", path, remark))
        except OSError as error:
            for path in reversed(made):
                with contextlib.suppress(OSError):
                    path.rmdir() if path.is_dir() else path.unlink()
            why = f"{error.filename or 'files'}: {error.strerror or error}"
            raise Exit(Code.CONFIGURATION, f"{why}; nothing was written") from None


def _line(what: str, path: Path, remark: str) -> str:
    return f"{what} {path}" + (f" ({remark})" if remark else "")


def _make_folders(folder: Path) -> list[Path]:
    """Makes a folder and those above it that are missing; those it made, outermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return list(reversed(missing))


def _replace(path: Path, was: bytes, becomes: bytes) -> None:
    """Other bytes for a file, in one step: whoever reads it meanwhile sees the old ones or the new ones."""
    target = path.resolve()  # a link stays a link
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(becomes)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(target, draft)
        _need_same(target, was)
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _need_same(path: Path, was: bytes) -> None:
    if path.read_bytes() != was:
        raise OSError(0, "was changed by someone else meanwhile", str(path))
