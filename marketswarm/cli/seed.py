"""Implement `marketswarm seed`: write a truth to all of its buses, by hand."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from marketswarm import log
from marketswarm.bus import Bus, BusError
from marketswarm.cli import event_loop, output
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.fleet_view import add_remedy, open_buses
from marketswarm.cli.options import TRUTH, Data, Json
from marketswarm.cli.output import pick
from marketswarm.cli.validate import read_truth_file
from marketswarm.exit import Code, Exit, Mistake
from marketswarm.fleet import access, data_folder
from marketswarm.seeding.readiness import wait_for_healer_access, wait_until_all_answer
from marketswarm.seeding.transaction import REPLACED, SeedError, SeedResult, describe_seeding
from marketswarm.seeding.transaction import seed_truth as seed_buses
from marketswarm.settings import CommonSettings, read_settings
from marketswarm.tasks import finish_despite_cancellation
from marketswarm.truth import ParsedTruth, Problem, Truth, format_changes

CHANGED_MEANWHILE: Final = 1
"""The exit code if the truth was changed after the preview of what replaces it."""
_ANSWER_WITHIN_SEC = 5.0
_USERS_WITHIN_SEC = 2.0  # new users were loaded before; a server that restarts is back soon
_OLD_USERS = (
    "its users are old. In containers `make seed` renews them, elsewhere `marketswarm acl` and ACL LOAD"
)


@dataclass(frozen=True, slots=True)
class SeedReport:
    """What a seeding did to the buses, and what there is to say about it.

    `name` is what to call the document in lines for people: its file. `unheard` are services by bus that the
    healer may not hear. `renewed` says that users and passwords of an embedded fleet changed.
    """

    name: str
    buses: tuple[str, ...]
    result: SeedResult
    warnings: tuple[Problem, ...]
    unheard: Mapping[str, Sequence[str]]
    renewed: bool

    def describe(self) -> list[str]:
        """Return the lines for people."""
        warnings = [f"  warning  {warning}" for warning in self.warnings]
        warnings += [
            f"  ! the healer may not hear {', '.join(services)} on {bus}: {_OLD_USERS}"
            for bus, services in self.unheard.items()
        ]
        lines = describe_seeding(self.result, self.name, self.buses)
        return [*lines, *warnings, *(["  users and passwords follow it"] if self.renewed else [])]

    def encode(self) -> dict[str, Any]:
        return {
            "file": self.name,
            **pick(self.result, "revision", "changed", "repaired"),
            "buses": self.buses,
            "changes": list(format_changes(self.result.changes)),
            "warnings": self.warnings,
            "unheard": self.unheard,
        }


def seed(
    file: Annotated[Path, typer.Argument(envvar="TRUTH_PATH", help="The truth.")] = TRUTH,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Write a truth to all of its buses, or to none; running agents follow it within a second.

    Says what changed, and what the truth warns of. JSON has `revision`, whether it `changed`, the `buses`,
    the buses that were `repaired` because they lacked it, the `changes` as lines, the `warnings` (`path` and
    `message` of each), and by bus the services that the healer may not hear (`unheard`).
    """
    try:
        raw, loaded = read_truth_file(file)
    except Exit as refusal:
        raise Exit(refusal.code, f"not seeded, nothing changed: {refusal.message}") from None
    report = seed_document(raw, loaded, str(file), data)
    output.print_result(report.encode(), report.describe(), as_json=as_json)


def seed_document(
    raw: bytes, loaded: ParsedTruth, name: str, data: Path, *, replaces: str | None = None
) -> SeedReport:
    """Seed a document, and give the services of an embedded fleet with users theirs.

    `name` is what to call it in the report: its file. `replaces` is the SHA-256 of the only document that may
    be replaced; None allows any. Raises Exit if a bus refuses it, with CHANGED_MEANWHILE if another document
    is in force, or if a signal ends it; then what was written is undone.
    """
    return event_loop.run_until_signal(_seed(raw, loaded, name, data, replaces))


async def _seed(raw: bytes, loaded: ParsedTruth, name: str, data: Path, replaces: str | None) -> SeedReport:
    settings = read_settings(CommonSettings)
    log.configure("seed", settings)
    async with open_buses(data, loaded.truth) as buses:
        try:
            await wait_until_all_answer(buses, _ANSWER_WITHIN_SEC)
            # users first, because a new service must be able to log in before it can read the new truth
            users_changed = await _renew_users(loaded.truth, data, buses, keep=True)
            refused = await wait_for_healer_access(buses, loaded.truth, _USERS_WITHIN_SEC)
            by = f"marketswarm@{socket.gethostname()}"
            seeding = await seed_buses(raw, buses, by, key=settings.truth_redis_key, replaces=replaces)
            # the truth is in force: a signal would leave users that it dropped, and its code would deny it
            users_changed |= await finish_despite_cancellation(
                _renew_users(loaded.truth, data, buses, keep=False)
            )
        except SeedError as error:
            # the message names the buses that could not be put back
            head = "not seeded" if error.unrestored else "not seeded, nothing changed"
            code = CHANGED_MEANWHILE if error.reason == REPLACED else error.code
            raise Exit(code, add_remedy(f"{head}: {error}", error.bus, error.reason)) from None
        names = tuple(bus.name for bus in buses)
        return SeedReport(name, names, seeding, tuple(loaded.warnings), refused, users_changed)


async def _renew_users(truth: Truth, data: Path, buses: Sequence[Bus], *, keep: bool) -> bool:
    """Give each service of `truth` its user on the servers of an embedded fleet that has users.

    Return True if any user changed; then the connections in `buses` are closed. With `keep`, users that this
    truth no longer names stay.
    """
    fleet = data_folder.find_fleet(data)
    if fleet is None:
        return False
    try:
        changed = await access.renew_users(
            truth, data, {bus: fleet.buses[bus] for bus in fleet.keys}, keep=keep
        )
    except BusError as error:
        raise Exit(Code.NO_BUS, f"{'not seeded: ' if keep else ''}users were not loaded: {error}") from None
    except OSError as error:
        raise Mistake(f"users: {error.filename or data}: {error.strerror}") from None
    if changed:
        for bus in buses:
            await bus.pool.disconnect()
    return changed
