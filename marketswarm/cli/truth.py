"""Implement `marketswarm truth history`, `diff`, `show` and `rollback`: the revisions of the truth."""

import asyncio
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

from rich.text import Text

from marketswarm.agent.truth_source import read_all_truths
from marketswarm.bus import WITHIN_SEC, Bus, BusError
from marketswarm.cli import output, tables
from marketswarm.cli.data_folder import DATA, suggest_command
from marketswarm.cli.fleet_view import FleetView, ask_fleet, describe_away
from marketswarm.cli.local_time import format_moment
from marketswarm.cli.options import Data, Json, Yes, argument, flag, require_yes
from marketswarm.cli.output import pick
from marketswarm.cli.seed import CHANGED_MEANWHILE, seed_document
from marketswarm.cli.validate import load_document, read_bytes
from marketswarm.exit import Code, Exit, Mistake
from marketswarm.settings import CommonSettings, read_settings
from marketswarm.status.revisions import Revision, read_revisions
from marketswarm.text import escape_text, parse_digits
from marketswarm.truth import Changes, ParsedTruth, diff_truths, format_changes, parse_truth

DIFFERENT: Final = 1
"""The exit code of `truth diff --exit-code` for documents that are not the same."""
_NOT_ROLLED_BACK: Final = "not rolled back, nothing changed"
_SHA256_SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class KnownRevision:
    """Hold a revision, without its document, and the buses that keep it.

    `differs_on` are the buses that keep another one under its number; `size` is that of its document in
    bytes.
    """

    revision: Revision
    size: int
    is_intact: bool
    buses: tuple[str, ...]
    differs_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RevisionList:
    """Hold the revisions that the buses keep, the newest first, and why some buses could not be read."""

    revisions: list[KnownRevision]
    in_force: int | None
    failed: dict[str, str]
    bus_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rollback:
    """Hold what a rollback would seed, and what it changes in `lines`."""

    revision: Revision
    loaded: ParsedTruth
    replaced_sha256: str | None
    lines: tuple[str, ...]


def history(as_json: Json = False, data: Data = DATA) -> None:
    """Show the revisions of the truth that the buses keep: when each was seeded, by whom, its size and hash.

    The last 50 are kept.
    """
    found = ask_fleet(data, _read_history)
    if as_json:
        output.print_json(_encode_history(found))
        return
    output.print_lines(describe_away(found.failed), output.YELLOW)
    now = time.time()
    tables.show(
        found.revisions,
        {
            "rev": lambda one: str(one.revision.number),
            "seeded": lambda one: format_moment(one.revision.seeded_at, now),
            "by": lambda one: one.revision.seeded_by or "-",
            "size": lambda one: f"{one.size:,} B",
            "sha256": lambda one: one.revision.sha256[:_SHA256_SHOWN],
            "": lambda one: _note_revision(one, found),
        },
        whole=("rev", "seeded", "size", "sha256"),
        right=("rev", "size"),
        empty="no bus keeps a revision",
    )


def show(
    revision: Annotated[
        int | None, argument("[REV]", "Its number; without it, the one in force.", min=1)
    ] = None,
    data: Data = DATA,
) -> None:
    """Print the document of a revision, byte for byte: `marketswarm truth show 3 > truth.json`."""
    _, raw = _fetch_document(revision, data)
    output.print_json_bytes(raw, end=b"")


def diff(
    older: Annotated[
        str | None, argument("[A]", "A revision or a file; without it, the last but one.")
    ] = None,
    newer: Annotated[
        str | None, argument("[B]", "A revision or a file. With A alone, the revision in force.")
    ] = None,
    *,
    exit_code: Annotated[
        bool, flag("--exit-code", "End with 1 if they are not the same, for scripts.")
    ] = False,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Show what changed between two revisions, or between a revision and a file; by default, the last two.

    With one file, shows what seeding it would change: `marketswarm truth diff truth.json`.
    """
    documents = _find_documents(older, newer, data)
    old, new = (load_document(raw, name, parse_truth) for name, raw in documents)
    changes, is_same = diff_truths(old.truth, new.truth), old.sha256 == new.sha256
    names = [escape_text(name) for name, _ in documents]
    found = {"old": names[0], "new": names[1], "same": is_same, **asdict(changes)}
    lines = [" → ".join(names), *_describe_changes(changes, is_same=is_same)]
    output.print_result(found, lines, as_json=as_json)
    if exit_code and not is_same:
        raise Exit(DIFFERENT, "")


def rollback(
    revision: Annotated[int, argument("REV", "Its number, as `truth history` shows it.", min=1)],
    yes: Yes = False,
    data: Data = DATA,
) -> None:
    """Seed an earlier revision again, as a new one; running agents follow it within a second.

    Shows what that changes, and asks first. Ends with 1 if nothing was done.
    """
    planned = ask_fleet(data, lambda fleet: _plan_rollback(revision, fleet))
    output.print_lines(planned.lines)
    is_same = planned.revision.sha256 == planned.replaced_sha256
    require_yes(f"Seed revision {revision} again?", _NOT_ROLLED_BACK, yes=yes or is_same)
    output.print_lines(_roll_back(planned, data))
    output.print_lines(_describe_file(planned.revision.document, data))


async def _read_history(fleet: FleetView) -> RevisionList:
    buses = fleet.buses()
    found = await asyncio.gather(*(_list_revisions(bus) for bus in buses))
    names = tuple(bus.name for bus in buses)
    kept = {name: each for name, each in zip(names, found, strict=True) if not isinstance(each, str)}
    failed = {name: each for name, each in zip(names, found, strict=True) if isinstance(each, str)}
    return RevisionList(merge_revisions(kept), fleet.revision, failed, names)


async def _list_revisions(bus: Bus) -> list[KnownRevision] | str:
    try:
        return [
            KnownRevision(replace(one, document=b""), len(one.document), one.is_intact, (bus.name,))
            async for one in read_revisions(bus)
        ]
    except BusError as error:
        return escape_text(error.detail or error.reason) if error.reason == "error" else error.reason


def merge_revisions(kept: dict[str, list[KnownRevision]]) -> list[KnownRevision]:
    """Return the revisions of several buses, the highest number first, each number once."""
    merged: dict[int, KnownRevision] = {}
    for bus, revisions in kept.items():
        for one in revisions:
            first = merged.setdefault(one.revision.number, one)
            if first is one:
                continue
            if (first.revision.sha256, first.is_intact) == (one.revision.sha256, one.is_intact):
                merged[one.revision.number] = replace(first, buses=(*first.buses, bus))
            else:
                merged[one.revision.number] = replace(first, differs_on=(*first.differs_on, bus))
    return [merged[number] for number in sorted(merged, reverse=True)]


def _encode_history(found: RevisionList) -> dict[str, Any]:
    return {
        "revisions": [
            {
                "revision": one.revision.number,
                **pick(one.revision, "seeded_at", "seeded_by"),
                "size": one.size,
                "sha256": one.revision.sha256,
                "intact": one.is_intact,
                "in_force": one.revision.number == found.in_force,
                **pick(one, "buses", "differs_on"),
            }
            for one in found.revisions
        ],
        "away": found.failed,
    }


def _note_revision(one: KnownRevision, found: RevisionList) -> Text:
    """Return what there is to know about a revision, in yellow unless it is only that it is in force."""
    is_in_force = one.revision.number == found.in_force
    missing = [name for name in found.bus_names if name not in (*one.buses, *one.differs_on, *found.failed)]
    wrong = {
        "the document does not have this hash": not one.is_intact,
        f"another one on {', '.join(one.differs_on)}": one.differs_on,
        f"not on {', '.join(missing)}": missing,
    }
    notes = [note for note, holds in wrong.items() if holds]
    return Text("; ".join(["in force"] * is_in_force + notes), style="yellow" if notes else "")


def _fetch_document(number: int | None, data: Path) -> tuple[str, bytes]:
    """Return what to call a revision, None: the one in force, and its document."""

    async def fetch(fleet: FleetView) -> tuple[str, bytes]:
        if number is None:
            assert fleet.truth is not None  # noqa: S101 - raises Exit if there is none
        wanted = fleet.revision if number is None else number
        if wanted is None:
            raise Exit(Code.NO_TRUTH, "the truth in force has no revision: seed it once")
        return f"revision {wanted}", (await find_revision(fleet, wanted)).document

    return ask_fleet(data, fetch)


async def find_revision(fleet: FleetView, number: int) -> Revision:
    """Return a revision with its document.

    Raises Exit if no bus keeps it intact, buses keep different ones under its number, or a bus that might
    keep it does not answer.
    """
    buses = fleet.buses()
    found = await asyncio.gather(*(_look_up(bus, number) for bus in buses))
    kept = [one for one in found if isinstance(one, Revision)]
    intact = [one for one in kept if one.is_intact]
    if len({one.sha256 for one in intact}) > 1:
        names = [bus.name for bus, one in zip(buses, found, strict=True) if isinstance(one, Revision)]
        raise Mistake(f"revision {number} is not the same on {' and '.join(names)}")
    if intact:
        return intact[0]
    if kept:
        raise Mistake(f"revision {number} is damaged: its document does not have its hash")
    reasons = [
        f"bus {bus.name}: {one}" for bus, one in zip(buses, found, strict=True) if isinstance(one, str)
    ]
    if reasons:
        raise Exit(Code.NO_BUS, f"revision {number} was not found; {'; '.join(reasons)}")
    known = suggest_command("truth history", fleet.data)
    raise Mistake(f"no bus keeps a revision {number}; {known} shows those that are kept")


async def _look_up(bus: Bus, number: int) -> Revision | str | None:
    """Return a revision of one bus; None if the bus does not keep it, or why the bus can't be read."""
    try:
        async for one in read_revisions(bus):
            if one.number == number:
                return one
    except BusError as error:
        return error.reason
    return None


def _find_documents(
    older: str | None, newer: str | None, data: Path
) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    if older is None:
        numbers = [one.revision.number for one in ask_fleet(data, _read_history).revisions[:2]]
        if len(numbers) < 2:
            raise Mistake("there are no two revisions to compare yet")
        older, newer = str(numbers[1]), str(numbers[0])
    if newer is not None:
        return _open_document(older, data), _open_document(newer, data)
    given, in_force = _open_document(older, data), _fetch_document(None, data)
    return (given, in_force) if is_revision(older) else (in_force, given)


def _open_document(which: str, data: Path) -> tuple[str, bytes]:
    return _fetch_document(int(which), data) if is_revision(which) else (which, read_bytes(Path(which)))


def is_revision(which: str) -> bool:
    return parse_digits(which) is not None


def _describe_changes(changes: Changes, *, is_same: bool) -> Iterable[str]:
    if is_same:
        return ["  nothing: the same bytes"]
    if not changes:
        return ["  the same content, written differently"]
    return [f"  {escape_text(line)}" for line in format_changes(changes)]


async def _plan_rollback(number: int, fleet: FleetView) -> Rollback:
    revision, current = await find_revision(fleet, number), fleet.found
    loaded = load_document(revision.document, f"{_NOT_ROLLED_BACK}: revision {number}")
    author = f" by {escape_text(revision.seeded_by)}" if revision.seeded_by else ""
    head = f"revision {number}, seeded {format_moment(revision.seeded_at, time.time())}{author}"
    if current is None:
        lines = [f"{head}; no bus has a valid truth now"]
    else:
        in_force = (
            "a truth without a revision" if current.revision is None else f"revision {current.revision}"
        )
        is_same = current.loaded.sha256 == revision.sha256
        changes = diff_truths(current.loaded.truth, loaded.truth)
        lines = [f"{head}, would replace {in_force}:", *_describe_changes(changes, is_same=is_same)]
    return Rollback(revision, loaded, current.loaded.sha256 if current else None, tuple(lines))


def _roll_back(planned: Rollback, data: Path) -> list[str]:
    in_force, is_everywhere = ask_fleet(data, _find_in_force)
    if in_force != planned.replaced_sha256:
        raise Exit(CHANGED_MEANWHILE, f"{_NOT_ROLLED_BACK}: the truth was changed meanwhile")
    name = f"revision {planned.revision.number}, seeded again,"
    # a rollback also mends buses that hold different documents, of which the seeding may compare another one
    replaces = in_force if is_everywhere else None
    document = planned.revision.document
    return seed_document(document, planned.loaded, name, data, replaces=replaces).describe()


async def _find_in_force(fleet: FleetView) -> tuple[str | None, bool]:
    """Return the SHA-256 of the truth in force, and whether every bus holds just that one."""
    if fleet.found is None:
        return None, False
    loaded = fleet.found.loaded
    key = read_settings(CommonSettings).truth_redis_key
    readings = await read_all_truths(fleet.buses(), key, loaded, WITHIN_SEC)
    held = [each.found.loaded.sha256 if each.found else None for each in readings]
    return loaded.sha256, all(sha256 == loaded.sha256 for sha256 in held)


def _describe_file(document: bytes, data: Path) -> Sequence[str]:
    """Return a warning if the truth file here is another document, which its next seeding would put back."""
    path = Path(os.environ.get("TRUTH_PATH") or "truth.json")
    try:
        if path.read_bytes() == document:
            return []
    except OSError:
        return []
    command = suggest_command("truth show", data).strip("`")
    return [
        f"  ! {path} is another document, and seeding it would undo this; to have the same there:",
        f"    {command} > {path}",
    ]
