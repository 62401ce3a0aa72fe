"""Change a truth file: show what changes, ask, seed it, and write it, or do nothing at all.

The file is replaced in one step, and FILE.bak has the document before. If the file is not the truth in force,
seeding it would change more than is shown, so that is refused. What `marketswarm validate` refuses is refused
in its words.
"""

import contextlib
import hashlib
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from marketswarm.agent.truth_source import FoundTruth
from marketswarm.cli import output
from marketswarm.cli.data_folder import suggest_command
from marketswarm.cli.fleet_view import FleetView, ask_fleet
from marketswarm.cli.options import require_yes
from marketswarm.cli.seed import seed_document
from marketswarm.cli.validate import list_next_runs, load_document, read_truth_file
from marketswarm.exit import Code, Exit, Mistake
from marketswarm.text import escape_text
from marketswarm.truth import ParsedTruth, Truth, diff_truths, format_changes
from marketswarm.truth.document_edit import EditError, diff_texts

NOTHING_CHANGED: Final = "nothing changed"


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """A valid document that is to replace the one in a file; `lines` say for people what it changes.

    `is_bus_there` says whether a bus answers, and `in_force` is the truth in force: None if no bus has a
    valid one.
    """

    path: Path
    before: bytes
    after: bytes
    loaded: ParsedTruth
    difference: tuple[str, ...]
    lines: tuple[str, ...]
    is_bus_there: bool
    in_force: FoundTruth | None

    @property
    def truth(self) -> Truth:
        return self.loaded.truth


@dataclass(frozen=True, slots=True)
class CarriedOut:
    """The outcome of a change: `seeded` is False if no bus answered; `lines` say for people what was done."""

    seeded: bool
    lines: tuple[str, ...]


def encode_change(name: str, planned: PlannedChange, done: CarriedOut) -> dict[str, Any]:
    """Return what `--json` says of a change to an entry of this name."""
    return {
        "name": name,
        "file": str(planned.path),
        "difference": planned.difference,
        "seeded": done.seeded,
        "said": done.lines,
    }


def plan_change(path: Path, edit: Callable[[str], str], data: Path) -> PlannedChange:
    """Return what `edit` makes of the document in a file.

    Raises Exit, code 2, if the result is refused: its message also says whether the truth in force is another
    one, since that may have what the file lacks. It is raised, too, if the truth in force is not what the
    file says, since seeding would change more than is shown.
    """
    raw, old = read_truth_file(path)
    try:
        after = edit(raw.decode("utf-8")).encode("utf-8")
    except EditError as error:
        why = f"{NOTHING_CHANGED}: {escape_text(str(error))}"
        with contextlib.suppress(Exit):  # a fleet that can't be found is not what is wrong here
            why = "\n".join([why, *_describe_drift(_read_in_force(data)[1], path, old.truth, data)])
        raise Mistake(why) from None
    loaded = load_document(after, f"{NOTHING_CHANGED}: {path}")
    is_bus_there, in_force = _read_in_force(data)
    drift = "\n".join(_describe_drift(in_force, path, old.truth, data))
    if drift:
        raise Mistake(f"{NOTHING_CHANGED}: {drift}")
    difference = diff_texts(raw.decode("utf-8"), after.decode("utf-8"))
    known = set(old.warnings)
    warnings = [f"  warning  {each}" for each in loaded.warnings if each not in known]
    now = time.time()
    runs_before = set(list_next_runs(old.truth, now))
    runs = [f"  {run}" for run in list_next_runs(loaded.truth, now) if run not in runs_before]
    lines = (f"{path}:", *(f"  {escape_text(line)}" for line in difference), *warnings, *runs)
    return PlannedChange(path, raw, after, loaded, difference, lines, is_bus_there, in_force)


def confirm_change(planned: PlannedChange, *, yes: bool, as_json: bool) -> None:
    """Show what would change, and ask. Raises Exit if it is not wanted, or nobody can be asked."""
    if not as_json:
        output.print_lines(planned.lines)
    question = f"Change {planned.path}, and seed it?"
    require_yes(question, NOTHING_CHANGED, yes=yes, may_ask=not as_json)


def _describe_drift(found: FoundTruth | None, path: Path, truth: Truth, data: Path) -> list[str]:
    """Return what a file with this truth would change beside the edit, and what to do; empty if nothing.

    `found` is the truth in force.
    """
    changes = None if found is None else diff_truths(found.loaded.truth, truth)
    if found is None or not changes:
        return []
    number = "" if found.revision is None else f", revision {found.revision}"
    file = shlex.quote(str(path))
    seed, show = suggest_command(f"seed {file}", data), suggest_command("truth show", data).strip("`")
    return [
        f"{path} is not the truth in force{number}, it would also change:",
        *(f"  {escape_text(line)}" for line in format_changes(changes)),
        (
            f"`{show} > {file}` takes over what is in force, and then this works; "
            f"{seed} puts the file in force, and undoes the other change"
        ),
    ]


def carry_out(planned: PlannedChange, data: Path) -> CarriedOut:
    """Seed the changed document if a bus answers, and then replace the file.

    Raises Exit if a bus refuses it, or the file was changed meanwhile; then nothing was changed.
    """
    path = planned.path
    with _staged(planned) as replace_file:
        if not planned.is_bus_there:
            replace_file()
            seed = suggest_command(f"seed {path}", data)
            return CarriedOut(False, (f"{path} is written; no bus answers, so seed it later: {seed}",))
        replaces = None if planned.in_force is None else planned.in_force.loaded.sha256
        report = seed_document(planned.after, planned.loaded, str(path), data, replaces=replaces)
        replace_file()
        return CarriedOut(True, tuple(report.describe()))


@contextlib.contextmanager
def _staged(planned: PlannedChange) -> Iterator[Callable[[], None]]:
    """Write the new document beside the file; yield what puts it in the file's place, once.

    The file before it becomes FILE.bak. A document that was not put in place is deleted again. Raises Exit,
    code 2, if the file is not as it was read, or the disk does not take it.
    """
    real = planned.path.resolve()
    temporary: Path | None = None

    def replace_file() -> None:
        assert temporary is not None  # noqa: S101 - written below, before this is yielded
        _require_same(real, planned)
        shutil.copy2(real, real.with_name(f"{real.name}.bak"))
        temporary.replace(real)

    try:
        _require_same(real, planned)
        handle, name = tempfile.mkstemp(prefix=f".{real.name}.", dir=real.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(planned.after)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(real, temporary)
        yield replace_file
    except OSError as error:
        why = f"{error.filename or real}: {error.strerror or error}"
        raise Mistake(f"{planned.path} is not written: {why}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _require_same(real: Path, planned: PlannedChange) -> None:
    if hashlib.sha256(real.read_bytes()).digest() != hashlib.sha256(planned.before).digest():
        raise Mistake(f"{planned.path} is not written: it was changed meanwhile")


def _read_in_force(data: Path) -> tuple[bool, FoundTruth | None]:
    """Return whether a bus answers, and the truth in force. May raise Exit."""

    async def read(fleet: FleetView) -> FoundTruth | None:
        return fleet.found

    try:
        return True, ask_fleet(data, read)
    except Exit as error:
        if error.code != Code.NO_BUS:
            raise
        return False, None
