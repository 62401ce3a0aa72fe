"""The operator's hand: `marketswarm`, a file a command. Results on stdout, plain words on stderr.

Commands import what they need when they run, so that `marketswarm --help` is quick.
"""

import sys
from typing import Annotated, NoReturn

import typer

from marketswarm import __version__
from marketswarm.cli import (
    ack,
    alerts,
    control,
    dead,
    health,
    notify,
    seed,
    silence,
    silences,
    simulate,
    status,
    up,
    validate,
)
from marketswarm.cli.ending import ended_well
from marketswarm.exit import Code, exit_in

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
    seed.seed,
    validate.validate,
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
):
    app.command()(ended_well(command))
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
    """The entry point: runs a command and ends the process with its code (CONTRACTS §7)."""
    try:
        app()
    except BaseException as error:
        end = exit_in(error)
        if end is None:
            raise
        if end.message:
            sys.stderr.write(f"marketswarm: {end.message}\n")
        sys.exit(end.code)
    sys.exit(Code.DONE)
