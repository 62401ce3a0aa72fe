"""Implement `marketswarm medic patch`: show the patch of a diagnosis, or test it on a copy."""

import os
import shlex
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import AfterValidator, Field, SecretStr

from marketswarm.cli import event_loop, output
from marketswarm.cli.data_folder import DATA, read_database
from marketswarm.cli.fleet_view import ask_fleet
from marketswarm.cli.options import Data, Json, argument
from marketswarm.exit import Exit, Mistake
from marketswarm.operator.healing import DiagnosisRecord, find_diagnosis
from marketswarm.postgres.errors import PostgresAwayError
from marketswarm.postgres.pool import open_connection
from marketswarm.settings import CommonSettings, read_settings
from marketswarm.text import escape_lines, escape_source, escape_text
from marketswarm.truth import SYSTEM
from services.medic.diagnosis.patch import PatchResult, PatchVerdict, check_patch
from services.medic.settings import require_words

ANSWER_NO: Final = 1
"""The exit code if the patch is refused, does not apply, or its test fails."""
MAX_BACK: Final = 1000
READ_SEC: Final = 10.0
"""How long the database may take, in seconds."""
_STORED: Final = (
    "SELECT diagnosis::text FROM incident_events WHERE incident = $1 AND diagnosis IS NOT NULL "
    "ORDER BY stream_position DESC OFFSET $2 LIMIT 1"
)
_WORDS: Final = {
    PatchVerdict.PASSED: "it applies to a copy of the last commit, and the test command succeeds there",
    PatchVerdict.FAILED: "it applies to a copy, and the test command fails there",
    PatchVerdict.TIMED_OUT: "it applies to a copy; the test command took too long and was killed",
    PatchVerdict.UNRUNNABLE: "it applies to a copy; the test command can't be started",
    PatchVerdict.ALTERED: "it is refused: something was removed from it when it was stored, such as a secret",
    PatchVerdict.OUTSIDE: "it is refused: it names a path outside the repository",
    PatchVerdict.LINK: "it is refused: it has a symbolic link or a submodule",
    PatchVerdict.BINARY: "it is refused: it has a binary file",
    PatchVerdict.NOT_APPLICABLE: "it does not apply to the last commit",
    PatchVerdict.NO_COPY: "the repository can't be copied",
}


_ESCAPED: Final = (
    "this patch has characters that could steer a terminal; they are shown as escapes, so it is not to be "
    "applied as it is printed: --json has it as it was stored"
)


class PatchEnvironment(CommonSettings):
    """The variables of the command: those of the person who types it, never of a bus or of the truth."""

    database_url: SecretStr | None = None
    medic_diagnosis_folder: Path | None = None
    medic_patch_test: Annotated[str | None, AfterValidator(require_words)] = Field(None, repr=False)
    """The command, and its arguments, that tests a patched copy; no shell reads it."""
    medic_patch_test_sec: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 600.0
    """The time limit of that command, in seconds."""


def patch(
    ident: Annotated[str, argument("ID", "The outage, as `marketswarm incidents` shows it.")],
    check: Annotated[
        bool, typer.Option("--check", help="Apply it to a copy of the repository, and test it there.")
    ] = False,
    back: Annotated[
        int, typer.Option("--back", min=0, max=MAX_BACK, help="An earlier one: so many before the newest.")
    ] = 0,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Show the patch of an outage's diagnosis. Nothing applies it to the repository itself.

    `--check` clones the last commit of MEDIC_DIAGNOSIS_FOLDER to a temporary folder, which is deleted in the
    end, applies the patch there, and runs the command of MEDIC_PATCH_TEST there. That runs what a model
    wrote: read the patch first. It ends with code 1 if the patch is refused, does not apply, or fails.
    """
    environment = read_settings(PatchEnvironment)
    record = _find_record(ident, back, environment, data)
    if not record.patch:
        raise Exit(ANSWER_NO, f"the diagnosis of {ident} has no patch")
    if not check:
        _show(record, as_json=as_json)
        return
    found = PatchResult(PatchVerdict.ALTERED) if record.altered else _check(record, environment)
    lines = [_describe(found), *escape_lines(found.output).rstrip("\n").split("\n")]
    output.print_result({"incident": ident, **asdict(found)}, filter(None, lines), as_json=as_json)
    if found.verdict is not PatchVerdict.PASSED:
        raise typer.Exit(ANSWER_NO)


def _show(record: DiagnosisRecord, *, as_json: bool) -> None:
    """Print a patch as `git apply` takes it, or its record as JSON; say beside it what is not as it was."""
    if record.altered:
        output.print_aside("something was removed from this patch when it was stored, such as a secret")
    if as_json:
        output.print_json(asdict(record))
        return
    if escape_source(record.patch) != record.patch:
        output.print_aside(_ESCAPED)
    output.print_source(record.patch)


def _find_record(ident: str, back: int, environment: PatchEnvironment, data: Path) -> DiagnosisRecord:
    """Return a diagnosis of an outage from its stream, or if that has none, from the archive.

    It is the one that is `back` before the newest one.

    Raises Exit.
    """
    found = ask_fleet(data, lambda fleet: find_diagnosis(fleet.bus(SYSTEM), ident, back))
    if found is not None:
        return found
    number = f" {back} before the newest" if back else ""
    missing = f"no diagnosis of {escape_text(ident)}{number} is on record"
    try:
        url = environment.database_url
        address = read_database(data)[0] if url is None else url.get_secret_value()
        raw = event_loop.run(_read_archived(address, ident, back))
    except PostgresAwayError as error:
        raise Mistake(f"{missing} on the bus, and the archive can't be read: {error}") from None
    except Mistake as error:
        raise Mistake(f"{missing} on the bus, and {error.message}") from None
    found = None if raw is None else DiagnosisRecord.parse(raw.encode())
    if found is None:
        raise Mistake(f"{missing}; `marketswarm incidents` lists the outages")
    return found


async def _read_archived(address: str, ident: str, back: int) -> str | None:
    async with open_connection(address, READ_SEC) as connection:
        found: str | None = await connection.fetchval(_STORED, ident, back)
        return found


def _check(record: DiagnosisRecord, environment: PatchEnvironment) -> PatchResult:
    """Check a patch in a temporary folder, which is deleted. Raises Mistake if a variable is missing.

    Raises Exit if SIGTERM or SIGHUP ended it; the test is killed, and the folder deleted, before that.
    """
    folder, command = environment.medic_diagnosis_folder, environment.medic_patch_test
    if folder is None:
        raise Mistake("MEDIC_DIAGNOSIS_FOLDER is not set: the Git repository that the patch is for")
    if command is None:
        raise Mistake(
            "MEDIC_PATCH_TEST is not set: the command that tests the patched copy, such as `make test`"
        )
    where, limit_sec = os.path.realpath(tempfile.gettempdir()), environment.medic_patch_test_sec
    return event_loop.run_until_signal(
        _check_in_copy(folder, record.patch, shlex.split(command), limit_sec, where)
    )


async def _check_in_copy(
    folder: Path, patch: str, command: list[str], limit_sec: float, where: str
) -> PatchResult:
    """Check a patch in a new folder of `where`, which is deleted, also if the caller is cancelled."""
    with tempfile.TemporaryDirectory(
        prefix="marketswarm-patch-", dir=where, ignore_cleanup_errors=True
    ) as room:
        return await check_patch(folder, patch, command, limit_sec, Path(room))


def _describe(found: PatchResult) -> str:
    ended = "" if not found.exit_code else f" (code {found.exit_code})"
    return f"{_WORDS[found.verdict]}{ended}"
