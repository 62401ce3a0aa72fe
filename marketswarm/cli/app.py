"""All commands of `marketswarm` as one program.

Commands import what they need when they run, so that `marketswarm --help` is quick.
"""

import os
import sys
from typing import Annotated, NoReturn

import typer

from marketswarm import __version__
from marketswarm.cli import (
    ack,
    acl,
    alerts,
    beat,
    check,
    control,
    dead,
    execute,
    health,
    new,
    notify,
    seed,
    silence,
    silences,
    simulate,
    status,
    topology,
    up,
    validate,
)
from marketswarm.cli.ending import ended_well
from marketswarm.exit import Code, exit_in
from marketswarm.text import escape_lines

app = typer.Typer(
    name="marketswarm",
    help="A heartbeat bus for small fleets: run one, look at it, seed it, break it on purpose.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    up.up,
    status.status,
    alerts.alerts,
    health.health,
    topology.topology,
    seed.seed,
    validate.validate,
    acl.acl,
    control.stop,
    control.start,
    control.kill,
    simulate.simulate,
    silence.silence,
    silences.silences,
    silence.unsilence,
    ack.ack,
    dead.dead,
    dead.resend,
    new.new,
    beat.beat,
    check.check,
):
    app.command()(ended_well(command))
# what follows the command is the command's
app.command("exec", context_settings={"allow_interspersed_args": False})(ended_well(execute.execute))
app.add_typer(notify.notify)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"marketswarm {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Runs a command and ends the process with its code."""
    if not sys.flags.safe_path and os.getcwd() not in sys.path:  # noqa: PTH109 - an entry of it is text
        sys.path.append(os.getcwd())  # noqa: PTH109  # last: services of whose folder this is, and nothing else
    try:
        app()
    except BaseException as error:
        end = exit_in(error)
        if end is None:
            raise
        if end.message:
            sys.stderr.write(f"marketswarm: {escape_lines(end.message)}\n")
        sys.exit(end.code)
    sys.exit(Code.DONE)
