"""Replace the process of a target: by what runs it, or by a command."""

import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

from marketswarm.agent.parent_death_guard import end_group_with_parent
from marketswarm.channels.exec import HOST_LATE_SEC, limit_in_host, run_command
from marketswarm.text import format_duration
from services.medic.facts import RestartOwner, TargetFacts
from services.medic.owners.container import parse_identity
from services.medic.owners.owner import NoOwnerError
from services.medic.refusal import Refusal
from services.medic.remedies.command_output import CommandOutput
from services.medic.remedies.remedy import OrderResult, RemedyContext, RemedyOrder, RemedyType


@dataclass(frozen=True, kw_only=True)
class Restart(RemedyType):
    """End a process that runs, or the pause before its start; verified by beats of a newer process."""

    replaces_process: bool = True

    def find_identity(self, target: TargetFacts) -> str:
        return target.process.identity if target.process is not None else ""

    def describe(self, identity: str) -> str:
        container_id = parse_identity(identity)
        return f"process {identity}" if container_id is None else f"container {container_id[:12]}"

    def list_refusals(self, target: TargetFacts, start_grace_sec: float) -> Iterator[Refusal]:
        """Yield the reasons that follow from what restarts the target: its restarts are not doubled."""
        if target.owner is RestartOwner.ELSEWHERE or not target.processes:
            yield Refusal.NOT_OURS
        elif (process := target.process) is None:
            yield Refusal.SEVERAL_PROCESSES
        elif process.is_waiting:
            if target.owner is not RestartOwner.MEDIC:
                yield Refusal.OWNER_RESTARTS
        elif process.age_sec < start_grace_sec:
            yield Refusal.START_GRACE
        elif target.has_several:
            yield Refusal.SEVERAL_PROCESSES

    def can_tell(self, target: TargetFacts) -> bool:
        return target.process is not None and target.process.is_restarting is False

    def is_done(self, identity: str, target: TargetFacts) -> bool:
        return target.process is not None and target.process.identity != identity

    def is_undone(self, identity: str, target: TargetFacts) -> bool:
        """Return True while the very process that was meant runs, and is not being ended by a restart."""
        process = target.process
        if process is None or process.is_waiting or process.is_stopped:
            return False
        return process.identity == identity and process.is_restarting is False

    def has_helped(self, boot: str | None, _identity: str, target: TargetFacts) -> bool | None:
        return (target.boot is not None and boot is not None and target.boot != boot) or None

    async def apply(self, order: RemedyOrder, context: RemedyContext) -> tuple[OrderResult, str]:
        """Ask its owner to restart the process that is meant, and no other."""
        owner = next((each for each in context.owners if order.owner in each.restarts_for), None)
        if owner is None:
            return OrderResult.REFUSED, "what runs it is not known here"
        try:
            answer, said = await owner.restart(order.svc, order.identity, context.until)
        except NoOwnerError as error:
            return OrderResult.UNKNOWN, str(error)
        return OrderResult(answer), said


@dataclass(frozen=True, kw_only=True)
class RunCommand(Restart):
    """Have a command replace the process of a target; verified as a restart, by beats of a newer one.

    It is for what runs a service elsewhere: systemd, a container engine, a cluster. The environment of the
    medic names the command, whose last argument is the service: the truth chooses by the name of the remedy
    for which services it may be run, and never what is run. The identity is that of the process where
    `marketswarm up` runs it, and the `boot` of the last beat elsewhere.
    """

    def is_useful(self, target: TargetFacts) -> bool:
        return target.boot is not None  # beats verify it, and could not

    def find_identity(self, target: TargetFacts) -> str:
        return super().find_identity(target) or target.boot or ""

    def list_refusals(self, target: TargetFacts, start_grace_sec: float) -> Iterator[Refusal]:
        if target.boot is None:
            yield Refusal.UNKNOWN
        if target.has_several:
            yield Refusal.SEVERAL_PROCESSES
        if (process := target.process) is not None:
            if process.is_waiting and target.owner is not RestartOwner.MEDIC:
                yield Refusal.OWNER_RESTARTS
            elif not process.is_waiting and process.age_sec < start_grace_sec:
                yield Refusal.START_GRACE

    def is_done(self, identity: str, target: TargetFacts) -> bool:
        return target.boot is not None and self.find_identity(target) != identity

    def is_undone(self, _identity: str, _target: TargetFacts) -> bool:
        return False  # it may have run, and not have done anything yet

    async def apply(self, order: RemedyOrder, context: RemedyContext) -> tuple[OrderResult, str]:
        """Run the command to its end. One that fails or takes too long may have done a part of it.

        If the caller is cancelled, or this process dies, the command is killed with its process group.
        """
        if not context.command:
            return OrderResult.REFUSED, "MEDIC_COMMAND is not set"
        if shutil.which(context.command[0]) is None:
            return OrderResult.REFUSED, "the command can't be run: it is not there, or not executable"
        output, began = context.output or CommandOutput(), time.monotonic()
        words = _guard([*context.command, order.svc], context.command_sec)
        try:
            code, _ = await run_command(words, context.command_sec, output=output, on_start=context.on_start)
        except TimeoutError:
            killed = f"the command had not ended after {context.command_sec:g} s: killed"
            return OrderResult.UNKNOWN, _join(killed, output.find_progress())
        except OSError as error:
            return OrderResult.REFUSED, f"the command can't be run: {error.strerror}"
        took = format_duration(time.monotonic() - began)
        ended = _join(f"the command ended with {code} after {took}", output.find_last_line())
        return OrderResult.UNKNOWN if code else OrderResult.DONE, ended


def _guard(command: list[str], within_sec: float) -> list[str]:
    """Return the words that have the host kill a command with this process, or a little after its time.

    Outside Linux only the latter, where the host has the program `timeout`.
    """
    guarded = end_group_with_parent(command, math.ceil(within_sec) + HOST_LATE_SEC)
    return [*limit_in_host(within_sec), *command] if guarded is None else guarded


def _join(words: str, said: str) -> str:
    return f"{words}: {said}" if said else words
