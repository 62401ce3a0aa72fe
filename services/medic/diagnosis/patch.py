"""Apply a patch of a diagnosis to a copy of a repository, and run a test command there.

A model wrote the patch, and a log may have told it what to write. So the copy is a clone of the last commit
in a temporary folder, without hooks and without a remote. A patch is refused as a whole if it has a binary
file or a path that could lead out of the copy, or if Git makes a link or a submodule of it. The real
repository is only read.
"""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Final

from marketswarm.channels.exec import limit_in_host, read_command

GIT_SEC: Final = 120.0
"""How long one step of Git may take, such as the clone, in seconds."""
MAX_GIT_BYTES: Final = 64 * 1024
"""How much of what Git writes is kept."""
MAX_TEST_BYTES: Final = 16 * 1024
"""How much at the end of the output of the test command is kept."""
_SAFE: Final = (
    "-c",
    f"core.hooksPath={os.devnull}",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.autocrlf=false",
)
_CHANGE: Final = re.compile(r":(\d{6}) (\d{6}) [0-9a-f]+ [0-9a-f]+ [A-Z]\d*")
"""What `git diff --raw` says before a path: the old mode of the file, the new one, and more."""
_LINKS: Final = frozenset({"120000", "160000"})
"""The modes of a symbolic link and of a submodule."""


class PatchVerdict(StrEnum):
    """Name what became of a patch on the copy."""

    PASSED = "passed"  # it applies, and the test command ended with 0
    FAILED = "failed"  # it applies, and the test command ended with another code
    TIMED_OUT = "timed_out"  # it applies, and the test command was killed at its time limit
    UNRUNNABLE = "unrunnable"  # it applies, and the test command can't be started
    ALTERED = "altered"  # refused: something was removed from it when it was stored
    OUTSIDE = "outside"  # refused: a path is absolute, has `..`, or is of Git's own folder
    LINK = "link"  # refused: it makes, changes or goes through a symbolic link, or a submodule
    BINARY = "binary"  # refused: it has a binary file
    NOT_APPLICABLE = "not_applicable"  # Git can't apply it to the last commit
    NO_COPY = "no_copy"  # Git can't read the repository


@dataclass(frozen=True, slots=True)
class PatchResult:
    """What became of a patch; `output` is the end of what Git or the test wrote, which is not trusted.

    `exit_code` is that of the test command; None if it did not end by itself.
    """

    verdict: PatchVerdict
    output: str = ""
    exit_code: int | None = None


async def check_patch(
    repository: Path, patch: str, test_command: Sequence[str], test_sec: float, room: Path
) -> PatchResult:
    """Apply a patch to a clone of a repository's last commit in the empty folder `room`, and test it.

    The test command runs what the patch wrote, as the present user, in the folder of the clone that is as
    `repository`. It is killed with its process group after `test_sec`, or if the caller is cancelled; what it
    leaves behind of that group is killed, too. The caller deletes `room`.
    """
    code, found = await _run_git(repository, "rev-parse", "--show-toplevel", "--show-prefix")
    top, _, prefix = found.partition("\n")
    if code != 0 or not Path(top).is_absolute():
        return PatchResult(PatchVerdict.NO_COPY, found)
    clone = room / "clone"
    options = ("--quiet", "--depth=1", "--template=", "--no-tags", "--no-recurse-submodules")
    code, written = await _run_git(room, "clone", *options, f"file://{top}", str(clone))
    if code != 0:
        return PatchResult(PatchVerdict.NO_COPY, written)
    # a test can't push to the real repository by accident
    await _run_git(clone, "remote", "remove", "origin")
    return await _test_patch(clone, prefix.strip("\n/"), patch, test_command, test_sec)


def refuse_paths(top: Path, paths: Sequence[str]) -> PatchVerdict | None:
    """Return why paths of a patch, from the top of a clone, are refused; None if they are not."""
    for path in map(PurePosixPath, paths):
        parts = [part.lower() for part in path.parts]
        if path.is_absolute() or not parts or ".." in parts or ".git" in parts:
            return PatchVerdict.OUTSIDE
        if any((top / each).is_symlink() for each in (path, *path.parents)):
            return PatchVerdict.LINK
    return None


async def _test_patch(
    clone: Path, prefix: str, patch: str, test_command: Sequence[str], test_sec: float
) -> PatchResult:
    """Apply a patch to the folder `prefix` of a clone, and run the test command there."""
    refused = await _apply(clone, prefix, f"{patch}\n".encode())  # a stored patch has no last line end
    if refused is not None:
        return refused
    folder, program = clone / prefix, test_command[0]
    if shutil.which(str(folder / program) if "/" in program else program) is None:
        return PatchResult(PatchVerdict.UNRUNNABLE, f"No such file, or not executable: {program}")
    words = (*limit_in_host(test_sec), *test_command)
    try:
        code, output = await read_command(
            words, test_sec, MAX_TEST_BYTES, folder=folder, with_errors=True, ends_group=True
        )
    except TimeoutError:
        return PatchResult(PatchVerdict.TIMED_OUT)
    except OSError as error:
        return PatchResult(PatchVerdict.UNRUNNABLE, error.strerror or str(error))
    verdict = PatchVerdict.FAILED if code else PatchVerdict.PASSED
    return PatchResult(verdict, output.decode("utf-8", "replace"), code)


async def _apply(clone: Path, prefix: str, patch: bytes) -> PatchResult | None:
    """Apply a patch for the folder `prefix` of a clone; return why it is refused, None if it is not."""
    # below the top Git would take the paths from the top, and leave out what is not below the present folder
    apply = ("apply", "--whitespace=nowarn", *([f"--directory={prefix}"] if prefix else ()))
    code, listed = await _run_git(clone, *apply, "--numstat", "-z", "-", body=patch)
    rows = [row.split("\t", 2) for row in listed.split("\0") if row]
    if code != 0 or not rows:
        return PatchResult(PatchVerdict.NOT_APPLICABLE, listed or "it names no file")
    is_binary = any(row[0] == "-" for row in rows)  # Git counts no lines of it
    refused = PatchVerdict.BINARY if is_binary else refuse_paths(clone, [row[-1] for row in rows])
    if refused is not None:
        return PatchResult(refused)
    code, written = await _run_git(clone, *apply, "--index", "-", body=patch)
    return await _judge_changes(clone) if code == 0 else PatchResult(PatchVerdict.NOT_APPLICABLE, written)


async def _judge_changes(clone: Path) -> PatchResult | None:
    """Return why what was applied is refused; None if it is not.

    A mode can be written in many ways. So what Git made of the patch is judged, before anything runs it.
    """
    options = ("--raw", "-z", "--no-renames", "--no-abbrev", "--ignore-submodules=none", "HEAD")
    code, listed = await _run_git(clone, "diff", "--cached", *options)
    fields = listed.split("\0")[:-1]
    modes = [_CHANGE.fullmatch(each) for each in fields[::2]]
    if any(each is not None and not _LINKS.isdisjoint(each.groups()) for each in modes):
        return PatchResult(PatchVerdict.LINK)
    if code != 0 or None in modes or len(fields) % 2:
        return PatchResult(PatchVerdict.NOT_APPLICABLE, listed)
    return None if fields else PatchResult(PatchVerdict.NOT_APPLICABLE, "it changes nothing")


async def _run_git(folder: Path, *words: str, body: bytes = b"") -> tuple[int, str]:
    """Return the exit code of Git and what it wrote; code 1 if it can't be run or takes too long."""
    command = ("git", *_SAFE, "-C", str(folder), *words)
    try:
        code, output = await read_command(command, GIT_SEC, MAX_GIT_BYTES, body, with_errors=True)
    except (OSError, TimeoutError) as error:
        return 1, f"git: {error}"
    return code, output.decode("utf-8", "replace")
