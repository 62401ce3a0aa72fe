"""Read what a diagnosis may see of a Git repository: its last commits, and the source around a traceback.

A log may name any file, since others write it. So only what the last commit holds of the configured folder is
read, by `git cat-file`: no other file, no link that leads out of it, and nothing that was never committed.
"""

import re
from pathlib import Path, PurePosixPath
from typing import Final

from marketswarm.channels.exec import read_command

COMMITS: Final = 20
GIT_SEC: Final = 10.0
MAX_FRAMES: Final = 6
AROUND: Final = 6
"""How many lines before and after the one that a traceback names are read."""
MAX_OUTPUT_BYTES: Final = 512 * 1024
"""The most that Git may write: a longer file is left out."""
_FRAME: Final = re.compile(r'File \\?"(/[^"\\\x00-\x1f]{1,400}\.py)\\?", line (\d{1,6})\b')
"""A frame as Python writes it, or as it stands in a line of JSON."""


async def read_commits(folder: Path | None) -> str:
    """Return the last commits of a repository, a line each; empty without one, or if it can't be read."""
    if folder is None:
        return ""
    return await _run_git(folder, "log", f"-n{COMMITS}", "--no-color", "--format=%h %aI %s") or ""


async def read_source(folder: Path | None, logs: str) -> str:
    """Return the lines around those that the last tracebacks of a log name, the innermost frame first."""
    if folder is None:
        return ""
    found = []
    for path, line in find_frames(logs, folder):
        # `./` is the configured folder, which may be one within the repository
        text = await _run_git(folder, "cat-file", "blob", f"HEAD:./{path}")
        if text is not None:
            lines = text.split("\n")
            numbers = range(max(1, line - AROUND), min(len(lines), line + AROUND) + 1)
            cut = (f"{each}{'>' if each == line else ' '} {lines[each - 1]}" for each in numbers)
            found += [f"{path}:", *cut, ""]
    return "\n".join(found)


def find_frames(logs: str, folder: Path) -> list[tuple[str, int]]:
    """Return the last frames of tracebacks within a folder, the last one first: path in it, and line."""
    frames: dict[tuple[str, int], None] = {}
    for match in reversed(list(_FRAME.finditer(logs))):
        path = PurePosixPath(match[1])
        if path.is_relative_to(folder.absolute()) and ".." not in path.parts:
            frames[str(path.relative_to(folder.absolute())), int(match[2])] = None
        if len(frames) == MAX_FRAMES:
            break
    return list(frames)


async def _run_git(folder: Path, *words: str) -> str | None:
    """Return what Git writes; None if it can't be run, fails, or writes too much."""
    command = ("git", "-C", str(folder), *words)
    try:
        code, output = await read_command(command, GIT_SEC, MAX_OUTPUT_BYTES + 1)
    except (OSError, TimeoutError):
        return None
    return output.decode("utf-8", "replace") if code == 0 and len(output) <= MAX_OUTPUT_BYTES else None
